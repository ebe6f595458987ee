"""What a workflow script takes from its `snakemake` object, as typed values. No other module knows the object."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from reconpatch.pipeline.job import Job, run_job

Files = TypeVar("Files")


@contextmanager
def job_of(snakemake: Any) -> Iterator[Job]:
    """The object of a script -> its running job, named after its rule and wildcards. The script ends with it: what
    stands after the block does not run.
    """
    name = " ".join([snakemake.rule, "/".join(map(str, snakemake.wildcards))]).strip()
    settings = {key: snakemake.config[key] for key in ("device", "cuda_graph", "gpu_coreset")}
    settings["threads"] = snakemake.threads
    with run_job(Path(snakemake.log[0]), name, code=getattr(snakemake.params, "code", ""), **settings) as job:
        yield job


def files_of(kind: type[Files], snakemake: Any) -> Files:
    """A dataclass of paths, the object of a script -> the dataclass, each field filled with the input, output or
    parameter of its name.

    A field is a `Path`, a `Path | None` where the rule may give no file, or a `list[Path]`.
    """
    values: dict[str, Path | list[Path] | None] = {}
    for name, hint in get_type_hints(kind).items():
        parts = (snakemake.input, snakemake.output, snakemake.params)
        given = next(getattr(part, name) for part in parts if hasattr(part, name))
        paths = [Path(given)] if isinstance(given, str) else [Path(file) for file in given]
        if hint == list[Path]:
            values[name] = paths
        elif not paths and hint == Path | None:
            values[name] = None
        else:
            (values[name],) = paths
    return kind(**values)
