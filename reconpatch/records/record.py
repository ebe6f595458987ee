"""Records: one JSON file per run and category that says what was measured and exactly how it was made."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import from_json

from reconpatch.data.published import Flag
from reconpatch.errors import ReconpatchError, listed
from reconpatch.files import write_text

SCHEMA = 5
LARGEST = 2**24  # bytes of a file that is read: a real record has thousands
# `compare` shows the fields of a record in these groups; the fields of a stage are grouped below.
SETTINGS = ("dataset", "category", "run", "seed", "description", "combine")
DATA = ("data", "flags")
WEIGHTS = ("weights",)
PACKAGES = ("packages", "python")
MACHINE = ("platform", "processor", "cores", "threads", "device", "driver", "batch_images", "numerics")
USAGE = ("wall_s", "start_s", "cpu_s", "peak_mb", "s_per_image")  # these alone differ between two runs on one machine


class Facts(BaseModel):
    """What is common to everything in a record: no unknown fields, no infinite numbers."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, defer_build=True
    )  # built when used: jobs start sooner


class Numerics(Facts):
    """What decides how numbers are rounded."""

    pools: list[str]  # libraries of linear algebra and threads, with the kind of processor they chose
    torch: dict[str, bool | int | str | None] = {}  # PyTorch's switches, where a stage loads it
    environment: dict[str, str] = {}  # variables that choose instructions or numbers of threads


class StageFacts(Facts):
    """What a stage says of itself when it ran."""

    folder: str  # name of the folder of its files; empty outside the workflow
    code: str  # digest of the stage's code: `provenance.code_digest`
    commit: str | None  # git commit of the package; None without git
    changed: bool | None  # whether files differed from that commit
    packages: dict[str, str]  # name -> version of every package that was loaded
    python: str
    platform: str
    processor: str
    cores: int | None
    threads: int  # that the stage was given
    device: str
    driver: str | None  # of the GPU
    batch_images: int | None  # images in one pass of the network
    numerics: Numerics
    wall_s: float
    start_s: float  # from the start of the process to that of the work
    cpu_s: float
    peak_mb: float  # with pages of memory-mapped features, which the system may drop at any time
    s_per_image: dict[str, float]  # "train", "test" -> seconds, in the bulk of the images

    def without_usage(self) -> dict[str, object]:
        """All but time and memory: the same for a stage that is run again with the same code on the same machine."""
        return self.model_dump(exclude={*USAGE})


class Weights(Facts):
    """Where a network's weights come from; of an ensemble, those of all members, joined by " + "."""

    source: str
    sha256: str


class Data(Facts):
    """The images of a category."""

    layout: str
    manifest: str  # digest of the list of all images with their digests
    train: int
    test_normal: int
    test_anomalous: int
    validation: int  # further normal images
    masks: int  # test images that have any


class Bank(Facts):
    """The memory bank as a run uses it; of an ensemble, the sums over its members."""

    patches: int  # that were kept
    of: int  # that were offered
    grid: list[int] = []  # rows and columns of patches of an image


class StageFile(Facts):
    """What a stage leaves beside its files: features.json, training.json or bank.json."""

    stage: StageFacts
    digests: dict[str, str] = {}  # SHA-256 of the features it made, or was made from
    weights: Weights | None = None  # of the network that made features
    features: StageFacts | None = None  # of the features of the training images that a bank was made from
    epochs: list[dict[str, int | float]] = []  # of training


class RunFacts(Facts):
    """How a run on one category was made. The record of an ensemble holds these facts of every member, too."""

    run: str
    seed: int
    description: dict[str, Any]  # every parameter the result depends on: `experiments.run.description`
    flags: list[Flag]  # what a reader must know before comparing
    weights: Weights
    bank: Bank
    masks: str  # name of the folder of the masks
    digests: dict[str, str]  # SHA-256 of what it was made from and with: features, f, bank (as used), masks, scores
    stages: dict[str, StageFacts]
    training_features: StageFacts | None = None  # where only the test images are augmented


class Record(RunFacts):
    """The result of one run, or of an ensemble, on one category. Metrics are in [0, 1]; None is undefined (no masks,
    no anomalies).
    """

    schema_version: int = SCHEMA
    dataset: str
    category: str
    metrics: dict[str, float | None]
    kinds: dict[str, dict[str, float | None]] = {}  # the same of every kind of anomaly that is measured apart
    data: Data
    combine: str | None = None  # of an ensemble: how its members' scores are combined
    members: list[RunFacts] = []  # of an ensemble
    digest: str = ""  # SHA-256 of all the rest, so that an edited record can be told

    @model_validator(mode="after")
    def _sealed(self) -> "Record":
        digest = content_digest(self)  # of a record that is read, too: it must hold plain finite values
        self.digest = self.digest or digest
        return self

    def all_stages(self) -> Iterator[tuple[str, str, StageFacts]]:
        """Yield for every stage behind the record, members' too: its path in the record, its stage, its facts."""
        for path, run in [("", self), *((f"members[{n}].", member) for n, member in enumerate(self.members))]:
            yield from ((f"{path}{stage}", stage, facts) for stage, facts in run.stages.items())
            if run.training_features is not None:
                yield f"{path}training_features", "features", run.training_features


def content_digest(record: Record) -> str:
    """Record -> SHA-256 of the canonical JSON of everything in it but its own digest.

    Raises ValueError for a value that is not finite.
    """
    text = json.dumps(record.model_dump(exclude={"digest"}), sort_keys=True, allow_nan=False)
    return sha256(text.encode()).hexdigest()


def repeatable(record: Record) -> dict[str, object]:
    """Record -> the fields that two runs of the same thing have in common, byte by byte.

    These are all but the stages' facts: machine, packages, times and memory may differ.
    """
    stages = {"stages", "training_features"}
    content = record.model_dump(exclude={*stages, "digest"})
    members = [member.model_dump(exclude=stages) for member in record.members]
    return content | {"members": members}


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record.model_dump(), indent=1, allow_nan=False) + "\n")


def write_stage(path: Path, facts: StageFile) -> None:
    """Write what a stage says of itself, whole or not at all."""
    write_text(path, json.dumps(facts.model_dump(), indent=1, allow_nan=False) + "\n")


def read_record(path: Path, *, sealed: bool = True) -> Record:
    """File -> Record. Raises ReconpatchError naming the file when it is no record or has another schema.

    A record whose content lacks the digest it was written with is refused too, unless `sealed` is false.
    """
    record = _parsed(path, Record)
    if sealed and record.digest != content_digest(record):
        raise ReconpatchError(
            "edited or damaged after it was written: its digest does not fit its content",
            where=path,
            fix="remove its folder and run again",
        )
    return record


def read_stage(path: Path) -> StageFile:
    """File that a stage wrote of itself -> StageFile. Raises ReconpatchError naming the file when it is none."""
    return _parsed(path, StageFile)


T = TypeVar("T", Record, StageFile)


def _parsed(path: Path, model: type[T]) -> T:
    what = "a record" if model is Record else "what a stage says of itself"
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes, it should have less than {LARGEST}")
        text = path.read_bytes()
        content = from_json(text, allow_inf_nan=False)
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
        if model is Record:
            _check_schema(path, content.get("schema_version"))
            if not content.get("digest"):
                raise ValueError("it has no digest of its own")
        return model.model_validate_json(text, strict=True)
    except ReconpatchError:
        raise
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'whole'}: {e['msg']}" for e in error.errors()]
        problem = "; ".join(listed(wrong, 3))
    except (OSError, ValueError) as error:
        problem = str(error)
    raise ReconpatchError(f"not {what} ({problem})", where=path, fix="remove its folder and run again")


def _check_schema(path: Path, version: object) -> None:
    """Raise ReconpatchError for a record of an older or newer form, with the way to a new one."""
    if type(version) is not int or version == SCHEMA:
        return
    raise ReconpatchError(
        f"a record of schema {version}; this version of reconpatch reads schema {SCHEMA}",
        where=path,
        fix="install a newer version of reconpatch"
        if version > SCHEMA
        else f"remove the folder {path.parent} and run snakemake with the same --configfile: it makes the record anew",
    )


def combined_record(
    name: str,
    combine: str,
    members: Sequence[Record],
    metrics: Mapping[str, float | None],
    kinds: Mapping[str, dict[str, float | None]],
    masks: str,
    digests: Mapping[str, str],
    stage: StageFacts,
    training_scores: Sequence[str] = (),
) -> Record:
    """Records of an ensemble's members, on one category -> the record of the ensemble.

    `masks` is the name of the masks' folder; `digests` and `stage` are those of the ensemble's own files and stage,
    `training_scores` the digests of the members' scores of their training images, where these are used.
    """
    first, backbones = members[0], [str(member.description["backbone"]) for member in members]
    same = {k: v for k, v in first.description.items() if all(m.description.get(k) == v for m in members)}
    parts = [RunFacts.model_validate(m.model_dump(include={*RunFacts.model_fields})) for m in members]
    for part, digest in zip(parts, training_scores, strict=False):
        part.digests["training_scores"] = digest
    return Record(
        dataset=first.dataset,
        category=first.category,
        run=name,
        seed=first.seed,
        description=same | {"backbone": " + ".join(backbones)},
        metrics=dict(metrics),
        kinds=dict(kinds),
        flags=sorted({flag for member in members for flag in member.flags}, key=str),
        data=first.data,
        weights=Weights(
            source=" + ".join(sorted({m.weights.source for m in members})),
            sha256=" + ".join(m.weights.sha256 for m in members),
        ),
        bank=Bank(patches=sum(m.bank.patches for m in members), of=sum(m.bank.of for m in members)),
        masks=masks,
        digests=dict(digests),
        stages={"ensemble": stage},
        combine=combine,
        members=parts,
    )
