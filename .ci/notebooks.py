"""`make notebooks`: execute the notebooks of the documents and write them back with their outputs."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "docs/notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(file: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook, an empty folder -> the notebook with its outputs, without what tells the machine or the time."""
    notebook = nbformat.read(file, as_version=4)
    env = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "IPYTHONDIR": str(folder / ".ipython")}
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=1000, coalesce_streams=True, record_timing=False, resources=where)
    client.execute(env=env)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


if __name__ == "__main__":
    for each in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as empty:
            nbformat.write(executed(each, Path(empty)), each)
        print(each)
