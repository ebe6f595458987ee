"""What a check of results finds, and the files it reads: each named when it is missing or something else."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reconpatch.records.compare import differing, short

TOLERANCE = 1e-6  # other processors and libraries round sums otherwise; of numbers above 1, relative
T = TypeVar("T")


class Unverifiable(Exception):  # noqa: N818, no error of the program
    """What hinders a check: a file that is missing or cannot be read."""


@dataclass
class Findings:
    """What was found of one record or table, in words."""

    differs: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what could not be checked, and why
    rounding: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst of what was found: DIFFERS, "cannot be checked", "rounding" or "ok"."""
        kinds = {"DIFFERS": self.differs, "cannot be checked": self.missing, "rounding": self.rounding}
        return next((name for name, found in kinds.items() if found), "ok")

    def same(self, what: str, stored: Any, found: Any) -> None:
        """Note every part of two plain values that differs."""
        for key, one, two in differing(stored, found, what):
            self.differs.append(f"{key}: stored {short(one)}, found {short(two)}")

    def close(self, what: str, stored: float | None, computed: float | None) -> None:
        """Note two numbers that differ, or differ by rounding."""
        if stored == computed or (stored != stored and computed != computed):
            return
        both = stored is not None and computed is not None
        near = both and abs(stored - computed) <= TOLERANCE * max(1, abs(computed))  # type: ignore[arg-type, operator]
        said = f"{what}: stored {_number(stored)}, recomputed {_number(computed)}"
        (self.rounding if near else self.differs).append(said)

    def attempt(self, check: Callable[[], T]) -> T | None:
        """Make a check that may find a file missing or unreadable: noted, and its result is None."""
        try:
            return check()
        except Unverifiable as error:
            self.missing.append(str(error))
            return None


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else repr(value)


class Source:
    """A folder of results: reads its files, and hashes each once however many records share it."""

    def __init__(self, root: Path, digest_of: Callable[[Path], str]) -> None:
        self.root, self.digest_of = root, digest_of

    def name(self, path: Path) -> str:
        """How a file is called in what is reported."""
        return path.relative_to(self.root).as_posix()

    def read(self, path: Path, how: Callable[[Path], T]) -> T:
        """Read a file in some way. Raises Unverifiable naming it when it is missing or something else."""
        try:
            if not path.is_file():
                raise Unverifiable(f"{self.name(path)} is missing")
            return how(path)
        except Unverifiable:
            raise
        except Exception as error:  # safetensors raises classes of its own, a manifest of wrong types any
            said = str(error).replace(str(path), "").strip(": ")
            raise Unverifiable(f"{self.name(path)} cannot be read ({type(error).__name__}: {short(said)})") from None

    def check_digest(self, found: Findings, stored: str | None, path: Path) -> None:
        """Compare a file's digest with that in the record."""
        digest = found.attempt(lambda: self.read(path, self.digest_of))
        if digest is not None:
            found.same(f"digest of {self.name(path)}", stored, digest)
