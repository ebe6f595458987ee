"""The report: one HTML page with every table and figure inside it, readable offline and on a phone."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

MIME = {".png": "image/png", ".svg": "image/svg+xml"}
CAPTIONS = {
    "qualitative": "Test images with ground truth, anomaly maps, the threshold of the best pixel F1 and each map's "
    "maximum. Of every defect type the image of median score, so neither the best nor the worst.",
    "histogram": "Image scores of the test set, scaled to [0, 1]; d′ is the distance of the means in units of the "
    "pooled standard deviation.",
    "umap": "UMAP of patch representations: memory bank, normal test patches, test patches inside a defect.",
}


def data_uri(path: Path) -> str:
    """Image file -> data URI."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def figure(path: Path) -> dict[str, str]:
    """Figure file `.../<data set>/<category>/<kind>.<suffix>` -> what the page shows of it."""
    category, dataset = path.parent.name, path.parent.parent.name
    caption = f"{dataset}, {category.replace('_', ' ')}. {CAPTIONS.get(path.stem, '')}"
    return {"uri": data_uri(path), "caption": caption, "alt": f"{path.stem} of {dataset} {category}"}


def render(sections: Sequence[Mapping[str, Any]], absent: Mapping[str, str], code: Mapping[str, Any]) -> str:
    """(sections with name, title, table file and figure files, what is missing and why, code state) -> HTML page."""
    template = Environment(loader=PackageLoader("reconpatch", "."), autoescape=True).get_template("report.html.j2")
    shown = [
        {
            "name": re.sub(r"\W", "-", section["name"]),
            "title": section["title"],
            "table": Markup(Path(section["table"]).read_text(encoding="utf-8")),  # noqa: S704, escaped by tables
            "figures": [figure(Path(file)) for file in section["figures"]],
        }
        for section in sections
    ]
    return template.render(sections=shown, absent=absent, code=code)
