"""The step that lists, decodes and checks every file of a category."""

from pathlib import Path

from reconpatch.data.index import index
from reconpatch.data.manifest import manifest_json
from reconpatch.data.published import data_flags
from reconpatch.files import write_text
from reconpatch.pipeline.job import Job


def index_category(job: Job, layout: str, root: Path, category: str, destination: Path) -> None:
    """Layout and folder of a data set, category -> its manifest at `destination`.

    Raises one ReconpatchError that lists every problem of the data.
    """
    items = index(layout, root, category, job.threads)
    write_text(destination, manifest_json(items))
    job.note(f"{len(items)} images, {sum(item.label for item in items)} of them anomalous")
    for flag in data_flags(layout, category, items):
        job.note(f"remark: {flag}")
