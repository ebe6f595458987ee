"""Records: one JSON file per run and category that says what was measured and exactly how."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json

from reconpatch.data.published import Flag
from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text

SCHEMA = 4
LARGEST = 2**24  # bytes of a record that is read: a real one has thousands
# Every field of a record is in one of these groups.
SETTINGS = ("dataset", "category", "run", "seed", "description")
DATA = ("data", "flags")
WEIGHTS = ("weights",)
RESULTS = ("bank", "digests", "metrics")
CONDITIONS = ("stages",)  # alone may differ between two runs of the same thing: machine, packages, times, memory
FORM = ("schema_version", "digest")


class Record(BaseModel):
    """The result of one run on one category. Metrics are in [0, 1]; None is undefined (no masks, no anomalies)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    dataset: str
    category: str
    run: str
    seed: int
    description: dict[str, Any]  # every parameter the result depends on
    metrics: dict[str, float | None]
    flags: list[Flag]  # what a reader must know before comparing
    data: dict[str, Any]  # layout, digest of the manifest, counts
    weights: dict[str, str]  # source and digest of the backbone's weights
    bank: dict[str, Any]  # patches kept and offered
    digests: dict[str, str]  # SHA-256 of what it was made from and with: features, f, bank (as used), masks, scores
    stages: dict[str, dict[str, Any]]  # of every stage: `stage_facts`, written by the stage itself when it ran
    digest: str = ""  # SHA-256 of all the rest, so that an edited record can be told

    @model_validator(mode="after")
    def _sealed(self) -> "Record":
        digest = content_digest(self)  # of a record that is read, too: it must hold plain finite values
        self.digest = self.digest or digest
        return self


def content_digest(record: Record) -> str:
    """Record -> SHA-256 of the canonical JSON of everything in it but its own digest.

    Raises ValueError for a value that is not finite.
    """
    text = json.dumps(record.model_dump(exclude={"digest"}), sort_keys=True, allow_nan=False)
    return sha256(text.encode()).hexdigest()


def repeatable(record: Record) -> dict[str, Any]:
    """Record -> the fields that two runs of the same thing have in common, byte by byte: all but its conditions."""
    return record.model_dump(exclude={*CONDITIONS, "digest"})


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record.model_dump(), indent=1, allow_nan=False) + "\n")


def read_record(path: Path, *, sealed: bool = True) -> Record:
    """File -> Record. Raises ReconpatchError naming the file when it is not one, or is one of another schema.

    Also when its content lacks the digest it was written with; without `sealed`, that is left to the caller.
    """
    record = _parsed(path)
    if sealed and record.digest != content_digest(record):
        raise ReconpatchError(
            f"{path}: edited or damaged after it was written, its digest does not fit its content: "
            "remove its folder and run again"
        )
    return record


def _parsed(path: Path) -> Record:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes, a record has less than {LARGEST}")
        text = path.read_bytes()
        content = from_json(text, allow_inf_nan=False)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if type(version) is int and version != SCHEMA:
            raise ReconpatchError(
                f"{path}: a record of schema {version}, this version of reconpatch reads {SCHEMA}: "
                "remove its folder or run the workflow again, which makes it anew"
            )
        if not isinstance(content, dict) or not content.get("digest"):
            raise ValueError("it has no digest of its own")
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'whole'}: {e['msg']}" for e in error.errors()]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ReconpatchError(f"{path}: not a record ({'; '.join(wrong[:3])}{more})") from None
    except (OSError, ValueError) as error:
        raise ReconpatchError(f"{path}: not a record ({error})") from None


def combined_record(
    name: str,
    how: str,
    members: Sequence[Record],
    metrics: Mapping[str, float | None],
    own: dict[str, Any],
    digests: Mapping[str, str],
) -> Record:
    """Records of an ensemble's members, on one category -> the record of the ensemble, their descriptions in it.

    `own` are the facts of its stage, `digests` those of its own files; the members' are added, with their numbers.
    """
    first, names = members[0], [str(member.description["backbone"]) for member in members]
    same = {k: v for k, v in first.description.items() if all(m.description.get(k) == v for m in members)}
    return Record(
        dataset=first.dataset,
        category=first.category,
        run=name,
        seed=first.seed,
        description=same
        | {"backbone": " + ".join(names), "combine": how, "members": [m.description | {"run": m.run} for m in members]},
        metrics=dict(metrics),
        flags=sorted({flag for member in members for flag in member.flags}, key=str),
        data=first.data,
        weights={
            "source": " + ".join(sorted({m.weights["source"] for m in members})),
            "sha256": " + ".join(m.weights["sha256"] for m in members),
        },
        bank={"patches": sum(m.bank["patches"] for m in members), "of": sum(m.bank["of"] for m in members)},
        digests=dict(digests) | {f"{n} {file}": d for n, m in enumerate(members) for file, d in m.digests.items()},
        stages={"ensemble": own} | {f"{n} {stage}": f for n, m in enumerate(members) for stage, f in m.stages.items()},
    )
