"""Why two records differ: settings, data, weights, code, packages, machine, then where the runs part, then metrics."""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconpatch.data.published import Flag
from reconpatch.errors import ReconpatchError
from reconpatch.records.provenance import MACHINE, PACKAGE_FOLDER, PACKAGES, code_parts, git
from reconpatch.records.record import DATA, SETTINGS, WEIGHTS, Record, content_digest, read_record

ABSENT = "(absent)"
# Files in the order they are made: the first that differs is where two runs part.
ORDER = ("masks", "train_features", "test_features", "f", "bank", "training_scores", "scores")
Changes = Callable[[str, str, str], list[str] | None]


def explain(a: Path, b: Path) -> tuple[list[str], bool]:
    """(a record or the folder of a run, another) -> (lines that say how they differ, whether all metrics are the same).

    Raises ReconpatchError naming what is no record.
    """
    one, two = _given(a), _given(b)
    edited = [
        f"{path} was edited after it was written: its digest does not fit its content"
        for path, record in ((a, one), (b, two))
        if record.digest != content_digest(record)
    ]
    return edited + compare(one, two), one.metrics == two.metrics


def _given(path: Path) -> Record:
    file = path / "record.json" if path.is_dir() else path
    if not file.is_file():
        raise ReconpatchError(f"{path}: not a record (no such file): give a record.json or the folder of a run")
    try:
        return read_record(file, sealed=False)
    except ReconpatchError as error:
        what = "" if file.name == "record.json" else ": give a record.json or the folder of a run"
        raise ReconpatchError(f"{error}{what}") from None


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested plain value -> {"path.to[0].key": value}. A list of plain values, as `levels`, is one value.

    Keys that could be taken for a part of a path are quoted, so that no two values share one.
    """
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        keys = {key: key if re.fullmatch(r"[^.\[\]'\"]+", key) else repr(key) for key in value}
        inner = [(f"{path}.{keys[key]}" if path else keys[key], part) for key, part in value.items()]
    elif isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        inner = [(f"{path}[{n}]", part) for n, part in enumerate(value)]
    if not inner:
        return {path: value}
    return {k: v for place, part in inner for k, v in flat(part, place).items()}


def differing(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(plain value, another) -> path, value and other value wherever they differ; ABSENT where one has none.

    True, 1 and 1.0 differ here: files that hold them do.
    """
    one, two = flat(a, path), flat(b, path)
    for key in dict.fromkeys([*one, *two]):
        values = one.get(key, ABSENT), two.get(key, ABSENT)
        if repr(values[0]) != repr(values[1]):
            yield key, *values


def short(value: Any, length: int = 80) -> str:
    """Plain value -> one line of at most `length` characters; digests by their first twelve."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", text).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def compare(a: Record, b: Record, changes: Changes | None = None) -> list[str]:
    """(record, record) -> a line for every difference, `group: field: a | b`, the last line being what it amounts to.

    `changes` tells the modules of a stage that changed between two commits, None where that is not known. What the
    runs cost is not compared.
    """
    lines = [
        f"{group}: {key}: {short(one)} | {short(two)}"
        for group, fields in (("settings", SETTINGS), ("data", DATA), ("weights", WEIGHTS))
        for field in fields
        if field != "flags"
        for key, one, two in differing(getattr(a, field), getattr(b, field), field)
    ]
    at = sum(not line.startswith("weights") for line in lines)
    lines[at:at] = [f"data: flag {where}: {flag}" for where, flag in _flags(a.flags, b.flags)]
    lines += _code(a.stages, b.stages, changes or changed_modules)
    lines += _conditions("packages", PACKAGES, a.stages, b.stages)
    lines += _conditions("machine", MACHINE, a.stages, b.stages)
    made = [f"intermediate: {k}: {short(x)} | {short(y)}" for k, x, y in differing(a.bank, b.bank, "bank")]
    made += _parting(a.digests, b.digests)
    metrics = [
        f"metrics: {key}: {_number(x)} | {_number(y)}{_change(x, y)}" for key, x, y in differing(a.metrics, b.metrics)
    ]
    if metrics:
        verdict = f"metrics differ: {len(metrics)} of {len(a.metrics | b.metrics)}"
    elif made:
        verdict = "same metrics, from intermediate results that differ"
    elif lines:
        verdict = "identical results: every metric and every intermediate result is the same"
    else:
        verdict = "identical: settings, data, weights, code, packages, machine and results"
    return [*lines, *made, *metrics, verdict]


def _flags(a: Sequence[Flag], b: Sequence[Flag]) -> Iterator[tuple[str, str]]:
    """(where, flag) of those that only one record has; a flag that it has twice counts twice."""
    one, two = Counter(a), Counter(b)
    for where, lone in (("only in the first", one - two), ("only in the second", two - one)):
        for flag in lone.elements():
            yield where, short(str(flag), 300)


def _code(a: Mapping[str, Any], b: Mapping[str, Any], changes: Changes) -> list[str]:
    """A line per stage whose code or commit differs, or that only one has; members' equal lines are one."""
    found: dict[str, list[str]] = {}
    for stage in dict.fromkeys([*a, *b]):
        if stage not in a or stage not in b:
            found.setdefault(f"only in {'the second' if stage in b else 'the first'}", []).append(stage)
            continue
        facts = a[stage], b[stage]
        codes, commits, dirty = ([fact.get(key) for fact in facts] for key in ("code", "commit", "changed"))
        if codes[0] == codes[1] and commits[0] == commits[1] and dirty[0] == dirty[1]:
            continue
        said = f"commit {_short_commit(commits[0], dirty[0])} | {_short_commit(commits[1], dirty[1])}"
        if codes[0] == codes[1]:
            said += ", but the same code"
        else:
            said = f"{short(codes[0])} | {short(codes[1])}; {said}{_reason(stage.split()[-1], commits, dirty, changes)}"
        found.setdefault(said, []).append(stage)
    return [f"code: {', '.join(stages)}: {said}" for said, stages in found.items()]


def _short_commit(commit: Any, dirty: Any) -> str:
    return f"{str(commit)[:10] if commit else 'unknown'}{' with uncommitted changes' if dirty else ''}"


def _reason(stage: str, commits: list[Any], dirty: list[Any], changes: Changes) -> str:
    changed = changes(stage, str(commits[0]), str(commits[1]))
    if changed is None:
        return ", which git does not know both"
    if changed:
        return f"; changed between them: {', '.join(changed)}"
    if any(dirty):
        return "; no change is committed between them"
    return "; the same modules, so packages they import have other versions"


def _conditions(group: str, keys: tuple[str, ...], a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Lines for what differs in facts of the stages that both have; a difference that stages share is said once."""
    found: dict[tuple[str, str], list[str]] = {}
    for stage in (s for s in a if s in b):
        facts, others = ({k: fact[k] for k in keys if k in fact} for fact in (a[stage], b[stage]))
        for key, one, two in differing(facts, others):
            found.setdefault((key, f"{short(one)} | {short(two)}"), []).append(stage)
    return [f"{group}: {key}: {values} ({', '.join(stages)})" for (key, values), stages in found.items()]


def _place(name: str) -> tuple[float, int, str]:
    """Key that sorts digests by when their files are made: members' before those of their ensemble."""
    member, _, file = name.rpartition(" ")
    number = float(member) if member.isdecimal() and len(member) < 9 else float("inf")
    return number, ORDER.index(file) if file in ORDER else len(ORDER), name


def _parting(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Where two runs part, in the order files are made, and what is the same or differs around that."""
    names = sorted({*a, *b}, key=_place)
    differ = [name for name in names if a.get(name) != b.get(name)]
    if not differ:
        return []
    first = differ[0]
    lone = "" if first in a and first in b else ", which only one has"
    before = names[: names.index(first)]
    parts = [f"intermediate: the runs part at {first}{lone}"]
    parts += [f"the same before: {', '.join(before)}"] if before else []
    parts += [f"also differ: {', '.join(differ[1:])}"] if differ[1:] else []
    same = [name for name in names[len(before) :] if name not in differ]
    return ["; ".join(parts + ([f"the same after: {', '.join(same)}"] if same else []))]


def _number(value: Any) -> str:
    return "undefined" if value is None else f"{value:.8g}" if isinstance(value, float) else str(value)


def _change(a: Any, b: Any) -> str:
    return f" ({b - a:+.3g})" if isinstance(a, float) and isinstance(b, float) else ""


def changed_modules(stage: str, a: str, b: str) -> list[str] | None:
    """(stage, commit, commit) -> its script and modules whose logic differs; None where git does not know both."""
    one, two = _parts_at(a, stage), _parts_at(b, stage)
    if one is None or two is None:
        return None
    return sorted(name or f"{stage}.py" for name in {*one, *two} if one.get(name) != two.get(name) and " " not in name)


def _parts_at(commit: str, stage: str) -> dict[str, str] | None:
    """Digests of a stage's script and modules, as they were at a commit."""
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or not re.fullmatch(r"[a-z_]+", stage):
        return None  # a record may hold anything
    script = f"workflow/scripts/{stage}.py"
    packed = git("archive", "--format=tar", commit, "reconpatch", script, where=PACKAGE_FOLDER.parent)
    if packed is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        texts = {m.name: file.read().decode() for m in archive if (file := archive.extractfile(m)) is not None}
    modules = {name.removeprefix("reconpatch/"): text for name, text in texts.items() if name != script}
    return code_parts(texts[script], modules.keys(), modules.__getitem__)[0]
