"""Where the suite's own files lie: the workflow, the configuration and the paper's numbers.

In a clone they lie beside the package, in an installed package inside it.
"""

from pathlib import Path

from reconpatch.errors import ReconpatchError

PACKAGE = Path(__file__).parents[1]
SUITE = PACKAGE / "suite" if (PACKAGE / "suite").is_dir() else PACKAGE.parent


SCRIPTS = SUITE / "workflow/scripts"  # of the stages


def paper_file(experiment: str) -> Path | None:
    """Name of an experiment -> the file of its published numbers, if there are any."""
    file = Path(f"configs/paper/{experiment}.csv")
    return next((place for place in (file, SUITE / file) if place.is_file()), None)


def shipped(file: str | Path) -> Path:
    """Path of a file, as the configuration writes it -> this path if the file is there, seen from the present folder;
    otherwise that of the suite's own file.

    Raises ReconpatchError if there is none either.
    """
    for place in (Path(file), SUITE / file):
        if place.exists():
            return place
    raise ReconpatchError("no such file", where=file, fix=f"give a path that is seen from {Path.cwd()}")
