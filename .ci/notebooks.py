"""Execute the notebooks of the documents, each in an empty folder, and write them back with their outputs.

`python .ci/notebooks.py [docs/notebooks/tour.ipynb ...]`, by default all of them. Nothing that tells the machine or the
time is kept.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        where = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=1000, coalesce_streams=True, record_timing=False, resources=where)
        client.execute(env=env)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, file)


for file in [Path(each) for each in sys.argv[1:]] or sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
    execute(file)
    print(file)
