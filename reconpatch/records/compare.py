"""Why two records differ: settings, data, weights, code, packages, machine, then where the runs part, then metrics."""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.stages import RECORD
from reconpatch.records.provenance import PACKAGE_FOLDER, code_parts, git
from reconpatch.records.record import (
    DATA,
    MACHINE,
    PACKAGES,
    SETTINGS,
    WEIGHTS,
    Record,
    RunFacts,
    StageFacts,
    content_digest,
    read_record,
)

ABSENT = "(absent)"
# Files in the order they are made: the first that differs is where two runs part.
ORDER = (
    *("masks", "defects", "train_features", "test_features", "validation_features"),
    *("f", "bank", "training_scores", "scores"),
)
Changes = Callable[[str, str, str], list[str] | None]


def explain(a: Path, b: Path) -> tuple[list[str], bool]:
    """(a record or the folder of a run, another) -> (lines that say how they differ, whether all metrics are the same).

    Raises ReconpatchError naming what is no record.
    """
    one, two = _given(a), _given(b)
    edited = [
        f"edited: {path}, after it was written: its digest does not fit its content"
        for path, record in ((a, one), (b, two))
        if record.digest != content_digest(record)
    ]
    return edited + compare(one, two), _measured(one) == _measured(two)


def _given(path: Path) -> Record:
    file = path / RECORD if path.is_dir() else path
    if not file.is_file():
        raise ReconpatchError("no such record", where=path, fix=f"give a {RECORD} or the folder of a run")
    return read_record(file, sealed=False)


def flat(value: Any, path: str = "") -> dict[str, object]:
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
    return {k: v for inner_path, part in inner for k, v in flat(part, inner_path).items()}


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
    """(record, record) -> a line for every difference, `group: field: a | b`; the last line sums up.

    `changes` tells which modules of a stage changed between two commits, None where that is not known. Times and
    memory are not compared.
    """
    lines = []
    for group, fields in (("settings", SETTINGS), ("data", DATA), ("weights", WEIGHTS)):
        lines += [f"{group}: {text}" for text in _fields(a, b, fields)]
        lines += _flags(a, b) if group == "data" else []
    stages = {path: (stage, facts) for path, stage, facts in a.all_stages()}
    others = {path: (stage, facts) for path, stage, facts in b.all_stages()}
    lines += _code(stages, others, changes or changed_modules)
    lines += [f"packages: {text}" for text in _conditions(PACKAGES, stages, others)]
    lines += [f"machine: {text}" for text in _conditions(MACHINE, stages, others)]
    made = [f"intermediate: {text}" for text in [*_fields(a, b, ("bank",)), *_parting(a, b)]]
    one, two = _measured(a), _measured(b)
    metrics = [f"metrics: {key}: {_number(x)} | {_number(y)}{_change(x, y)}" for key, x, y in differing(one, two)]
    if metrics:
        verdict = f"metrics differ: {len(metrics)} of {len(flat(one) | flat(two))}"
    elif made:
        verdict = "same metrics, from intermediate results that differ"
    elif lines:
        verdict = "identical results: every metric and every intermediate result is the same"
    else:
        verdict = "identical: settings, data, weights, code, packages, machine and results"
    return [*lines, *made, *metrics, verdict]


def _measured(record: Record) -> dict[str, Any]:
    """The metrics of a record with those of every kind of anomaly, where it has any."""
    return record.metrics | ({"kinds": record.kinds} if record.kinds else {})


def _parts(record: Record) -> dict[str, RunFacts]:
    """Record -> itself and its members, by their path in it."""
    return {"": record} | {f"members[{n}].": member for n, member in enumerate(record.members)}


def _fields(a: Record, b: Record, fields: Sequence[str]) -> Iterator[str]:
    """Differences in some fields, but flags, of two records and of the members that both have."""
    others = _parts(b)
    if fields is SETTINGS and len(a.members) != len(b.members):
        yield f"members: {len(a.members)} | {len(b.members)}"
    for path, part in _parts(a).items():
        one, two = (p.model_dump(include={*fields} - {"flags"}) for p in (part, others.get(path, part)))
        yield from (f"{path}{key}: {short(x)} | {short(y)}" for key, x, y in differing(one, two))


def _flags(a: Record, b: Record) -> Iterator[str]:
    """Flags that only one record has; a flag that it has twice counts twice."""
    one, two = Counter(a.flags), Counter(b.flags)
    for which, only in (("first", one - two), ("second", two - one)):
        yield from (f"data: flag only in the {which}: {short(str(flag), 300)}" for flag in only.elements())


Stages = dict[str, tuple[str, StageFacts]]  # path in a record -> stage and what it says of itself


def _code(a: Stages, b: Stages, changes: Changes) -> list[str]:
    """A line for the stages whose code or commit differs, or that only one record has; equal texts are joined."""
    differences: dict[str, list[str]] = {}
    for path in dict.fromkeys([*a, *b]):
        if path not in a or path not in b:
            differences.setdefault(f"only in the {'second' if path in b else 'first'}", []).append(path)
            continue
        (stage, one), (_, two) = a[path], b[path]
        if (one.code, one.commit, one.changed) != (two.code, two.commit, two.changed):
            text = f"commit {_commit(one)} | {_commit(two)}"
            if one.code == two.code:
                text += ", but the same code"
            else:
                text = f"{short(one.code)} | {short(two.code)}; {text}{_reason(stage, one, two, changes)}"
            differences.setdefault(text, []).append(path)
    return [f"code: {', '.join(paths)}: {text}" for text, paths in differences.items()]


def _commit(facts: StageFacts) -> str:
    return f"{(facts.commit or 'unknown')[:10]}{' with uncommitted changes' if facts.changed else ''}"


def _reason(stage: str, one: StageFacts, two: StageFacts, changes: Changes) -> str:
    changed = changes(stage, str(one.commit), str(two.commit))
    if changed is None:
        return ", which git does not know both"
    if changed:
        return f"; changed between them: {', '.join(changed)}"
    if one.changed or two.changed:
        return "; no change is committed between them"
    return "; the same modules, so packages they import have other versions"


def _conditions(fields: Sequence[str], a: Stages, b: Stages) -> list[str]:
    """What differs in some facts of the stages that both records have; a difference that stages share is said once."""
    differences: dict[str, list[str]] = {}
    for path in (path for path in a if path in b):
        one, two = (stages[path][1].model_dump(include={*fields}) for stages in (a, b))
        for key, x, y in differing(one, two):
            differences.setdefault(f"{key}: {short(x)} | {short(y)}", []).append(path)
    return [f"{text} ({', '.join(paths)})" for text, paths in differences.items()]


def _parting(a: Record, b: Record) -> list[str]:
    """Where two runs part, in the order files are made, members' first, and what is the same around that."""
    one, two = (
        {f"{path}{name}": digest for path, part in _parts(r).items() for name, digest in part.digests.items()}
        for r in (a, b)
    )

    def order(name: str) -> tuple[bool, str, int, str]:
        path, _, file = name.rpartition(".")
        return not path, path, ORDER.index(file) if file in ORDER else len(ORDER), name

    names = sorted({*one, *two}, key=order)
    differ = [name for name in names if one.get(name) != two.get(name)]
    if not differ:
        return []
    first = names.index(differ[0])
    same = [name for name in names[first:] if name not in differ]
    groups = {"the same before": names[:first], "also differ": differ[1:], "the same after": same}
    only = "" if differ[0] in one and differ[0] in two else ", which only one has"
    around = [f"{title}: {', '.join(group)}" for title, group in groups.items() if group]
    return ["; ".join([f"the runs part at {differ[0]}{only}", *around])]


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
