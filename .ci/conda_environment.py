"""Print environment.yml: every package of requirements.lock at its version, so that the two cannot drift."""

import re
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
HEAD = """\
# Written by `make lock` from requirements.lock; do not edit.
# conda env create -f environment.yml && conda activate reconpatch && pip install --no-deps --editable .
name: reconpatch
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def environment(lock: str) -> str:
    """Text of a lock -> text of environment.yml."""
    pins = re.findall(r"^([A-Za-z0-9][^\s\\]*==[^\s\\]+(?: ; [^\\\n]+?)?) \\$", lock, re.MULTILINE)
    return HEAD + "".join(f'      - "{pin}"\n' for pin in pins)


if __name__ == "__main__":
    print(environment(LOCK.read_text()), end="")
