"""Are results what they claim to be? Every record against its saved files, every table against its records.

Of a record: metrics and the bootstrap's counts are computed again from the saved scores and masks; digests of scores,
masks, manifest, f and what was used of the memory bank, the run's name, labels, flags and an ensemble's members are
compared. It is one of

    ok                 everything is as the record says
    rounding           numbers differ by up to 1e-6, as with another processor or other libraries
    DIFFERS            saved files lack the recorded digest, or numbers do not follow from them: edited or damaged
    cannot be checked  a file is missing or unreadable; never taken for ok

and may besides be made by other code, packages or settings than today's, which is no fault. Deep features may be gone
by plan and are not looked at, nor are images: they are what a new run is for. There are no signatures, so
whoever forges record, scores, masks, manifest and facts of all stages consistently is found out by a new run alone.
"""

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path

from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of
from reconpatch.records.compare import short
from reconpatch.records.findings import Findings, Source
from reconpatch.records.locations import KINDS, RECORD, is_place
from reconpatch.records.record import Record
from reconpatch.records.record_checks import check_record
from reconpatch.records.table_checks import check_table

EXPECTED = {RECORD, "scores.safetensors", "training.safetensors"}  # files of a run or ensemble
OTHERS = "made by other code, packages or settings than today's"
SHOWN = 5  # findings of a record that are spelt out


def verify(
    target: Path,
    report: Callable[[str], None],
    *,
    codes: Mapping[str, str] | None = None,
    planned: Collection[str] | None = None,
) -> list[str]:
    """Folder of results, any folder or record below it -> problems: a line for each that differs or cannot be checked.

    Every line, good or bad, and at the end the counts, goes to `report`. `codes` are today's `stage_codes`, `planned`
    the folders of today's runs, as `runs/<data set>/<category>/<run>`: with them, what differs from today's is said.
    One record is held at a time. Raises ReconpatchError when there is nothing to verify.
    """
    target = target.resolve()
    records, tables, leftovers = _find(target)
    if not records and not tables:
        raise ReconpatchError(f"{target}: no record or table of results in it; give a folder of results, or one below")
    hashes: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in hashes:
            hashes[path] = sha256_of(path)
        return hashes[path]

    problems: list[str] = []
    counts = {"record": Counter[str](), "table": Counter[str]()}
    old = 0

    def tell(kind: str, name: str, found: Findings, drift: list[str]) -> None:
        said = list(dict.fromkeys([*found.differs, *found.missing, *found.rounding]))
        more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
        detail = f": {'; '.join([*said[:SHOWN], *more])}" if said else ""
        line = f"{name}: {found.status}{detail}{f' | {OTHERS}: ' + '; '.join(drift) if drift else ''}"
        counts[kind][found.status] += 1
        if found.differs or found.missing:
            problems.append(line)
        report(line)

    for path in records:
        source = Source(path.parents[4], digest)
        found, record = _guarded(lambda p=path, s=source: check_record(p, s))  # type: ignore[misc]
        drift = [] if record is None else drift_of(record, codes, planned, source.name(path.parent))
        old += bool(drift)
        tell("record", source.name(path), found, drift)
    for path in tables:
        source = Source(path.parents[1], digest)
        found, _ = _guarded(lambda p=path, s=source: (check_table(p, s), None))  # type: ignore[misc]
        tell("table", source.name(path), found, [])
    for path in leftovers:
        report(f"{path.relative_to(target)}: left over, belongs to no result")
    report(_summary(counts, old, len(leftovers)))
    return problems


def _guarded(check: Callable[[], tuple[Findings, Record | None]]) -> tuple[Findings, Record | None]:
    """A check whose file may hold anything: what nobody thought of must not end the check of the others."""
    try:
        return check()
    except Exception as error:  # never taken for ok
        return Findings(missing=[f"{type(error).__name__}: {short(str(error))}"]), None


def _find(target: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Records and tables at or below a path, and files among them that belong to neither."""
    if target.is_file():
        is_table = target.suffix == ".csv" and target.parent.name == "tables"
        return ([target] if is_place(target) else []), ([target] if is_table else []), []
    inside = [p for p in sorted(target.rglob("*")) if p.is_file()]
    records = [p for p in inside if is_place(p)]
    tables = [
        p
        for p in inside
        if p.suffix == ".csv" and p.parent.name == "tables" and p.parent in (target, target / "tables")
    ]
    known = {p.parent for p in records}
    runs = [p for p in inside if len(p.parts) > 5 and p.parents[3].name in KINDS]
    strays = [p for p in runs if p.parent not in known or p.name not in EXPECTED]
    return records, tables, strays


def drift_of(
    record: Record, codes: Mapping[str, str] | None, planned: Collection[str] | None, folder: str
) -> list[str]:
    """Record, today's digests of code, today's runs -> what has changed since it was made: code, packages, settings."""
    said = []
    if codes is not None:
        old = [path for path, stage, facts in record.all_stages() if facts.code != codes.get(stage)]
        said += [f"other code of {', '.join(old)}"] if old else []
    changed: dict[str, str] = {}
    for _, _, facts in record.all_stages():
        for name, version in facts.packages.items():
            now = _installed(name)
            if now != version:
                changed[name] = f"{short(name)} {short(version)}, now {now or 'not installed'}"
        if facts.python != platform.python_version():
            changed["python"] = f"Python {short(facts.python)}, now {platform.python_version()}"
    said += [changed[name] for name in sorted(changed)[:SHOWN]]
    said += [f"and {len(changed) - SHOWN} more packages"] if len(changed) > SHOWN else []
    if planned is not None and folder not in planned:
        said.append("no run of this configuration: give its overlays with --configfile")
    return said


@cache
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _summary(counts: Mapping[str, Counter[str]], old: int, leftovers: int) -> str:
    parts = []
    for kind, found in counts.items():
        said = ", ".join(f"{found[status]} {status}" for status in ("ok", "rounding", "DIFFERS", "cannot be checked"))
        parts += [f"{found.total()} {kind}{'s' * (found.total() != 1)}: {said}"] if found else []
    parts += [f"{old} {OTHERS}"] if old else []
    return "; ".join(parts + ([f"{leftovers} file{'s' * (leftovers != 1)} left over"] if leftovers else []))
