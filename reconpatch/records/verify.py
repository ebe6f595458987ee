"""Are results what they claim to be? Every record is compared with the files behind it, every table is made again.

Of a record, metrics and the counts that intervals are drawn from are computed again from the saved scores and masks.
The digests of scores, masks, manifest, f and the used part of the memory bank, the run's name, labels, flags and an
ensemble's members are compared. The result is one of

    ok                 everything is as the record says
    rounding           numbers differ by up to 1e-6, as with another processor or other libraries
    DIFFERS            saved files lack the recorded digest, or numbers do not follow from them: edited or damaged
    cannot be checked  a file is missing or unreadable; never counted as ok

A record made by other code, packages or settings than today's is no fault; it is only said. Deep features and images
are not looked at: features may be deleted by plan. There are no signatures: if someone forges record, scores, masks,
manifest and the facts of all stages consistently, only a new run shows it.
"""

import importlib.metadata
import platform
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.data.published import Flag, anomaly_kinds, record_flags
from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.run import digest
from reconpatch.experiments.stages import RECORD, RESULT_FILES, RESULT_FOLDERS, SCORES, STAGES
from reconpatch.files import sha256_of
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.memory_bank import MemoryBank, Representation, coreset_size
from reconpatch.method.metrics import Metrics, Special, by_kind, evaluate, normal_threshold
from reconpatch.method.saturated import Defects
from reconpatch.method.scoring import anomaly_maps
from reconpatch.records.compare import ABSENT, differing, short
from reconpatch.records.provenance import arrays_digest, bank_digests
from reconpatch.records.record import (
    Record,
    RunFacts,
    StageFile,
    combined_record,
    content_digest,
    read_record,
    read_stage,
    repeatable,
)

TOLERANCE = 1e-6  # other processors and libraries round sums otherwise; of numbers above 1, relative
SHOWN = 5  # findings of a record that are spelt out
OTHERS = "made by other code, packages or settings than today's"
LEFT_OVER = "left over"
BESIDE_CELLS = tuple(STAGES["table"].files[key].rpartition("}")[2] for key in ("summary", "defects"))
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")  # of runs and stages
Arrays = dict[str, NDArray[Any]]
Masks = NDArray[np.bool_]
T = TypeVar("T")


class Unverifiable(Exception):  # noqa: N818, no error of the program
    """What hinders a check: a file that is missing or cannot be read."""


@dataclass
class Findings:
    """What a check of one record or table finds, in words."""

    differs: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what could not be checked, and why
    rounding: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst of the findings: DIFFERS, "cannot be checked", "rounding" or "ok"."""
        by_status = {"DIFFERS": self.differs, "cannot be checked": self.missing, "rounding": self.rounding}
        return next((status for status, findings in by_status.items() if findings), "ok")

    def same(self, what: str, stored: Any, recomputed: Any) -> None:
        """Note every part of two plain values that differs."""
        for key, one, two in differing(stored, recomputed, what):
            self.differs.append(f"{key}: stored {short(one)}, found {short(two)}")

    def close(self, what: str, stored: float | None, recomputed: float | None) -> None:
        """Note two numbers that differ, apart those that differ by rounding only. None and NaN are undefined."""
        if stored == recomputed or (stored != stored and recomputed != recomputed):
            return
        text = f"{what}: stored {_number(stored)}, recomputed {_number(recomputed)}"
        if stored is None or recomputed is None or not abs(stored - recomputed) <= TOLERANCE * max(1, abs(recomputed)):
            self.differs.append(text)
        else:
            self.rounding.append(text)

    def attempt(self, check: Callable[[], T]) -> T | None:
        """Make a check and return its result. If it cannot be made, note why and return None."""
        try:
            return check()
        except Unverifiable as error:
            self.missing.append(str(error))
        except Exception as error:  # never counted as ok, and the other checks go on
            self.missing.append(f"{type(error).__name__}: {short(str(error))}")
        return None


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else repr(value)


class Results:
    """A folder of results. It reads files, and hashes each once however many records share it."""

    def __init__(self, root: Path, digests: dict[Path, str]) -> None:
        self.root, self.digests = root, digests

    def name(self, path: Path) -> str:
        """How a file is called in what is reported."""
        return path.relative_to(self.root).as_posix()

    def read(self, path: Path, how: Callable[[Path], T]) -> T:
        """Read a file in some way. Raises Unverifiable naming it when it is missing or something else."""
        if not path.is_file():
            raise Unverifiable(f"{self.name(path)} is missing")
        try:
            return how(path)
        except ReconpatchError as error:
            text = "; ".join(filter(None, (error.what, error.fix)))
            raise Unverifiable(f"{self.name(path)}: {text.replace(f'{self.root}/', '')}") from None
        except Exception as error:  # safetensors raises classes of its own, a manifest of wrong types any
            text = short(str(error).replace(str(path), "").strip(": "), 200)
            raise Unverifiable(f"{self.name(path)} cannot be read ({type(error).__name__}: {text})") from None

    def digest(self, path: Path) -> str:
        """SHA-256 of a file. Raises Unverifiable when it is missing."""
        if path not in self.digests:
            self.digests[path] = self.read(path, sha256_of)
        return self.digests[path]


def _unsealed(path: Path) -> Record:
    """Read a record even if its seal is broken: its own line in the report says so."""
    return read_record(path, sealed=False)


def check_record(path: Path, results: Results) -> tuple[Findings, Record | None]:
    """Record file -> (in what the record and the saved files disagree, the record; None where the file holds none)."""
    findings = Findings()
    record = findings.attempt(lambda: results.read(path, _unsealed))
    if record is not None:
        findings.attempt(_RecordCheck(path.parent, results, record, findings).run)
    return findings, record


class _RecordCheck:
    """The checks of one record. Each notes what it finds; one that a missing file hinders does not stop the others."""

    def __init__(self, folder: Path, results: Results, record: Record, findings: Findings) -> None:
        self.folder, self.results, self.record, self.findings = folder, results, record, findings
        self.kind, self.dataset, self.category, self.name = folder.parts[-4:]
        self.labels: list[int] | None = None  # of the manifest's test images, once known
        self.kinds: list[str] | None = None  # of their anomalies

    def run(self) -> None:
        """Make all checks of the record."""
        record, findings = self.record, self.findings
        findings.same("digest of the record's content", record.digest, content_digest(record))
        place = {"dataset": self.dataset, "category": self.category, "run": self.name}
        findings.same("", {key: getattr(record, key) for key in place}, place)
        findings.same("seed", record.seed, record.description.get("seed"))
        findings.attempt(self.check_data)
        self.check_digest(record.digests.get("scores"), self.folder / SCORES)
        if self.kind == "ensembles":
            findings.attempt(self.check_ensemble)
        else:
            findings.attempt(self.check_stages)
            findings.attempt(self.check_bank)
            findings.attempt(self.check_f)
            findings.attempt(self.check_scores)

    def file(self, stage: str, output: str, name: str) -> Path:
        """The file of a stage. Raises Unverifiable for a name that could lead elsewhere: a record may hold anything."""
        if not FOLDER_NAME.fullmatch(name):
            raise Unverifiable(f"{stage}: {short(name)} is no name of a folder")
        file = STAGES[stage].files[output]
        return self.results.root / file.format(dataset=self.dataset, category=self.category, stage=name, run=name)

    def check_digest(self, stored: str | None, file: Path) -> None:
        """Compare a file's digest with that in the record."""
        recomputed = self.findings.attempt(lambda: self.results.digest(file))
        if recomputed is not None:
            self.findings.same(f"digest of {self.results.name(file)}", stored, recomputed)

    def check_data(self) -> None:
        """Compare the record's data and flags with the manifest of its category."""
        record, file = self.record, self.results.root / f"index/{self.dataset}/{self.category}.json"
        items, manifest_digest = self.results.read(file, read_manifest)  # whose digest fits them
        test = [item for item in items if item.split == "test"]
        self.labels = [item.label for item in test]
        self.kinds = anomaly_kinds(record.data.layout, test)
        data = {
            "layout": record.data.layout,
            "manifest": manifest_digest,
            "train": sum(item.split == "train" for item in items),
            "test_normal": self.labels.count(0),
            "test_anomalous": self.labels.count(1),
            "validation": sum(item.split == "validation" for item in items),
            "masks": sum(bool(item.masks) for item in test),
        }
        self.findings.same("data", record.data.model_dump(), data)
        flags = record_flags(str(record.description.get("weights")), record.data.layout, self.category, items)
        self.check_flags(Counter(flags))

    def check_flags(self, due: Counter[Flag]) -> None:
        """Compare flags; those of an ensemble are its members', which is checked there."""
        stored = Counter(self.record.flags)
        for flag in due - stored:
            self.findings.differs.append(f"flags: lacks {str(flag)!r}, which is true")
        for flag in stored - due if self.kind == "runs" else ():
            self.findings.differs.append(f"flags: stored {short(str(flag))}, which is not true")

    def check_stages(self) -> None:
        """Compare the facts of all stages with what the stages wrote of themselves beside their files."""
        record, findings, side = self.record, self.findings, self.record.training_features
        made_for = ("run", record.description.get("method"))
        due = [name for name, stage in STAGES.items() if stage.recorded and stage.made_for in made_for]
        findings.same("stages", sorted(record.stages), sorted(due))
        findings.same("training_features", side is not None, record.description.get("augment") == "test")
        for path, stage, facts in record.all_stages():
            if stage not in due or "facts" not in STAGES[stage].files:
                continue  # only the record tells of the stage that writes it
            file = findings.attempt(partial(self.read_stage, stage, facts.folder))
            if file is None:
                continue
            findings.same(path, facts.without_usage(), file.stage.without_usage())
            digests = set(STAGES[stage].digests)
            if side is not None and stage == "features":  # those of the training images are made apart
                digests = digests - {"train_features"} if path == "features" else {"train_features"}
            for key in sorted(digests):
                findings.same(f"digests.{key}", record.digests.get(key), file.digests.get(key))
            if path == "features":
                findings.same("weights", record.weights.model_dump(), file.weights and file.weights.model_dump())
            if path == "bank" and file.features is not None:
                made_from = side or record.stages["features"]
                findings.same("features of the bank", made_from.without_usage(), file.features.without_usage())

    def read_stage(self, stage: str, folder: str) -> StageFile:
        """Read what a stage wrote of itself."""
        return self.results.read(self.file(stage, "facts", folder), read_stage)

    def check_bank(self) -> None:
        """Compare the rows of the memory bank, and the f with them, that the run used."""
        record, findings = self.record, self.findings
        kept = coreset_size(record.bank.of, float(record.description["coreset"]))
        findings.same("bank.patches", record.bank.patches, kept)
        file = self.file("bank", "bank", record.stages["bank"].folder)
        whole, name = self.results.read(file, MemoryBank.load), self.results.name(file)
        findings.same(f"bank.of, training patches of {name}", record.bank.of, whole.training_patches)
        if kept > len(whole.patches):
            raise Unverifiable(f"{name} has {len(whole.patches)} rows, not the {kept} that were used")
        digests = bank_digests(whole.first(kept))
        for key, what in (("bank", "the used part of"), ("f", "f in")):
            findings.same(f"digest of {what} {name}", record.digests.get(key, ABSENT), digests.get(key, ABSENT))

    def check_f(self) -> None:
        """Compare the representation after the run's epoch with those that training saved, or draw it again.

        Principal directions follow from features, which are not looked at.
        """
        d = self.record.description
        if d.get("method") == "untrained" and d["init"] != "pca":
            none = np.empty((0, int(d["feature_dim"])))
            drawn = Representation.untrained(none, int(d["dim"]), self.record.seed, d["init"], d["bias"])
            recomputed = arrays_digest({"weight": drawn.weight, "bias": drawn.bias})
            self.findings.same("digest of f", self.record.digests.get("f", ABSENT), recomputed)
        if d.get("method") != "reconpatch":
            return
        file = self.file("training", "f", self.record.stages["training"].folder)
        saved, name = self.results.read(file, load_file), self.results.name(file)
        epoch = self.record.description.get("epoch", self.record.description.get("epochs"))
        if not {f"{epoch}.weight", f"{epoch}.bias"} <= saved.keys():
            raise Unverifiable(f"{name} has no f of epoch {short(epoch)}")
        recomputed = arrays_digest({part: saved[f"{epoch}.{part}"] for part in ("weight", "bias")})
        self.findings.same(f"digest of f in {name}", self.record.digests.get("f", ABSENT), recomputed)

    def check_scores(self) -> None:
        """Compare a run's name, and compute its image scores, maps and metrics again."""
        d, findings = self.record.description, self.findings
        findings.same("digest in the run's name", self.name.rpartition("-")[2], digest(d))
        scores = self.read_scores(self.folder, ("image", "patch", "label"))
        normal = self.read_validation(scores)
        findings.same("bank.grid", self.record.bank.grid, list(scores["patch"].shape[1:]))
        if d.get("reweight") in (None, "map"):  # else the image score is weighted and the patches' are not
            for n in np.flatnonzero(scores["image"] != scores["patch"].max((1, 2)))[:1]:
                stored, recomputed = float(scores["image"][n]), float(scores["patch"][n].max())
                findings.differs.append(f"image score {n}: stored {stored!r}, recomputed {recomputed!r}")
        masks = self.read_masks()
        settings = self.map_settings(self.record, masks)
        threshold = normal_threshold(anomaly_maps(each[None], *settings) for each in normal)
        self.check_metrics(scores, anomaly_maps(scores["patch"], *settings), masks, threshold)

    def check_ensemble(self) -> None:
        """Compare an ensemble with its members' records, and combine their scores again."""
        record, findings, results = self.record, self.findings, self.results
        how, runs = str(record.combine), [member.run for member in record.members]
        findings.same("digest in the ensemble's name", self.name.rpartition("-")[2], digest([runs, how]))
        folders = [self.file("score", "record", run).parent for run in runs]
        scored = [] if how == "minmax" else [self.file("training_scores", "scores", run) for run in runs]
        for n, (member, folder) in enumerate(zip(record.members, folders, strict=True)):
            self.check_digest(member.digests.get("scores"), folder / SCORES)
            if scored:
                self.check_digest(member.digests.get("training_scores"), scored[n])
        members = [results.read(folder / RECORD, _unsealed) for folder in folders]
        digests = {key: record.digests.get(key, "") for key in ("scores", "masks", "defects")}
        of_training = [member.digests.get("training_scores", "") for member in record.members] if scored else []
        stage = record.stages["ensemble"]
        measured = (record.metrics, record.kinds)
        made = combined_record(self.name, how, members, *measured, record.masks, digests, stage, of_training)
        findings.same("", repeatable(record), repeatable(made))
        stored, due = ({path: facts.without_usage() for path, _, facts in r.all_stages()} for r in (record, made))
        for path in dict.fromkeys([*stored, *due]):
            findings.same(path, stored.get(path, ABSENT), due.get(path, ABSENT))
        scores, masks = self.read_scores(self.folder, ("image", "label")), self.read_masks()
        image, maps = combine_runs(
            [self.read_scores(folder, ("image", "patch", "label")) for folder in folders],
            [results.read(file, load_file) for file in scored],
            [self.map_settings(member, masks) for member in members],
            how,
        )
        if image.shape != scores["image"].shape:
            findings.differs.append(f"image scores: stored {scores['image'].shape}, recomputed {image.shape}")
            return
        n = int(np.argmax(np.abs(scores["image"] - image)))
        findings.close(f"image score {n}", float(scores["image"][n]), float(image[n]))
        self.check_metrics(scores, maps, masks, None)

    def read_scores(self, folder: Path, needed: Sequence[str]) -> Arrays:
        """Saved scores of N images: `needed` of "image" (N,), "patch" (N, h, w), "label" (N,), and others unchecked.

        Raises Unverifiable when one is missing or has another shape or type.
        """
        file = folder / SCORES
        arrays, name = self.results.read(file, load_file), self.results.name(file)
        if missing := [key for key in needed if key not in arrays]:
            raise Unverifiable(f"{name} lacks {', '.join(missing)}")
        count = len(arrays["label"]) if arrays["label"].ndim else 0
        for key in needed:
            array, axes, number = arrays[key], 3 if key == "patch" else 1, "i" if key == "label" else "f"
            if array.ndim != axes or not array.size or len(array) != count or array.dtype.kind != number:
                raise Unverifiable(f"{name}: {key} is {array.dtype} of shape {array.shape}, of {count} images")
            if not np.isfinite(array).all():
                raise Unverifiable(f"{name}: {key} holds values that are not finite")
        return arrays

    def read_masks(self) -> Masks:
        """Saved masks, (N, H, W). Raises Unverifiable when the file is missing or holds anything else."""
        file = self.file("masks", "masks", self.record.masks)
        self.check_digest(self.record.digests.get("masks"), file)
        masks = self.results.read(file, lambda path: np.lib.format.open_memmap(path, mode="r"))
        if masks.dtype != np.bool_ or masks.ndim != 3 or not masks.size:
            raise Unverifiable(f"{self.results.name(file)} is {masks.dtype} of shape {masks.shape}, no masks")
        return np.array(masks)

    def read_validation(self, scores: Arrays) -> NDArray[Any]:
        """Saved scores of a run -> those of its validation images, (N, h, w), of which there may be none.

        Raises Unverifiable where they are missing, of another shape or not finite.
        """
        normal, patch = scores.get("validation"), scores["patch"]
        if normal is None or normal.shape[1:] != patch.shape[1:] or not np.isfinite(normal).all():
            raise Unverifiable(f"{self.results.name(self.folder / SCORES)}: no scores of the validation images")
        return normal

    def read_defects(self, masks: Masks) -> Defects:
        """Saved defects, one by one. Raises Unverifiable when the file is missing or holds anything else."""
        file = self.file("masks", "defects", self.record.masks)
        self.check_digest(self.record.digests.get("defects"), file)
        try:
            defects = Defects.from_tensors(self.results.read(file, load_file))
            outside = any((~masks[n] & mask).any() for n, mask in zip(defects.image, defects.mask, strict=True))
        except (ReconpatchError, KeyError, IndexError, ValueError, TypeError) as error:
            raise Unverifiable(f"{self.results.name(file)} holds no defects ({error})") from None
        if outside:
            raise Unverifiable(f"{self.results.name(file)}: a defect lies outside the mask of its image")
        return defects

    def map_settings(self, run: RunFacts, masks: Masks) -> tuple[tuple[int, ...], float]:
        """(H, W) and blur of the maps. Raises Unverifiable for what does not fit the masks.

        Where the aspect is keep, the crop is the shorter side of the masks, which their digest vouches for.
        """
        size, blur, shape = run.description.get("crop"), run.description.get("blur"), masks.shape[1:]
        square = run.description.get("aspect") != "keep"
        if type(size) is not int or min(shape) != size or (square and shape != (size, size)):
            raise Unverifiable(f"masks of {shape} px are not of crop {short(size)}")
        if not isinstance(blur, (int, float)) or not 0 <= blur <= size:
            raise Unverifiable(f"blur {short(blur)} is not between 0 and the crop, {size}")
        return shape, float(blur)

    def check_metrics(self, stored: Arrays, maps: NDArray[Any], masks: Masks, threshold: float | None) -> None:
        """Compare the labels, and compute metrics and the counts that intervals are drawn from again."""
        findings, record, labels = self.findings, self.record, stored["label"].tolist()
        if self.labels is not None and len(labels) != len(self.labels):
            findings.differs.append(f"labels: stored of {len(labels)} images, the manifest has {len(self.labels)}")
        elif self.labels is not None and labels != self.labels:
            n = next(n for n, pair in enumerate(zip(labels, self.labels, strict=True)) if pair[0] != pair[1])
            findings.differs.append(f"label of test image {n}: stored {labels[n]}, the manifest has {self.labels[n]}")
        special: Special = {"defects": self.read_defects(masks), "threshold": threshold}
        measured = (stored["image"], stored["label"].astype(np.int64), maps, masks)
        metrics, counts = evaluate(*measured, **special)
        self.check_values("metrics", record.metrics, metrics)
        if self.kinds is not None:
            kinds = by_kind(self.kinds, *measured, **special)
            findings.same("names of the kinds", sorted(record.kinds), sorted(kinds))
            for kind in record.kinds.keys() & kinds.keys():
                self.check_values(f"kinds.{kind}", record.kinds[kind], kinds[kind])
        of_images = {"image", "patch", "label", "validation"}
        findings.same("names of the counts", sorted(stored.keys() - of_images), sorted(counts))
        for name, recomputed in counts.items():
            if name in stored:
                self.check_counts(name, stored[name], recomputed)

    def check_values(self, where: str, stored: Mapping[str, float | None], recomputed: Metrics) -> None:
        """Compare metrics."""
        self.findings.same(f"names of the {where}", sorted(stored), sorted(recomputed))
        for name in stored.keys() & recomputed.keys():
            self.findings.close(f"{where}.{name}", stored[name], recomputed[name])

    def check_counts(self, name: str, stored: NDArray[Any], recomputed: NDArray[Any]) -> None:
        """Compare counts; only sums over pairs of pixels are rounded."""
        if stored.shape != recomputed.shape or stored.dtype.kind != recomputed.dtype.kind:
            self.findings.differs.append(f"{name}: stored {stored.dtype} {stored.shape}, not {recomputed.shape}")
        elif not np.array_equal(stored, recomputed):
            change = np.abs(stored.astype(np.float64) - recomputed)
            n = np.unravel_index(int(np.argmax(change)), change.shape)
            text = f"{name}{list(map(int, n))}: stored {float(stored[n])!r}, recomputed {float(recomputed[n])!r}"
            rounding = name.endswith("_pairs") and change.sum() <= TOLERANCE * recomputed.sum()
            (self.findings.rounding if rounding else self.findings.differs).append(text)


@dataclass(frozen=True)
class Verdict:
    """What came of one file of results."""

    kind: str  # record, table or file; a file belongs to neither
    name: str  # its path in the results
    status: str  # of Findings, or LEFT_OVER
    findings: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()  # what has changed since it was made, which is no fault

    @property
    def is_problem(self) -> bool:
        """Whether it differs or cannot be checked."""
        return self.status in ("DIFFERS", "cannot be checked")

    def __str__(self) -> str:
        detail = f": {'; '.join(listed(self.findings, SHOWN))}" if self.findings else ""
        detail = ", belongs to no result" if self.status == LEFT_OVER else detail
        old = f" | {OTHERS}: {'; '.join(self.drift)}" if self.drift else ""
        return f"{self.name}: {self.status}{detail}{old}"


def _verdict(kind: str, name: str, findings: Findings, drift: Sequence[str] = ()) -> Verdict:
    texts = dict.fromkeys([*findings.differs, *findings.missing, *findings.rounding])
    return Verdict(kind, name, findings.status, tuple(texts), tuple(drift))


def verify(
    target: Path,
    *,
    codes: Mapping[str, str] | None = None,
    planned: Collection[str] | None = None,
    check_table: Callable[[Path, Results, Findings], None] | None = None,
) -> Iterator[Verdict]:
    """Folder of results, any folder or record below it -> a verdict on each record, table and file left over.

    `codes` are today's `stage_codes`, `planned` the folders of today's runs, as `runs/<data set>/<category>/<run>`.
    With them, a verdict names what has changed. `check_table` notes what is wrong with a CSV file; without it, tables
    are not looked at. Raises ReconpatchError when there is nothing to verify.
    """
    target = target.resolve()
    records, tables, leftovers = _find(target)
    tables = tables if check_table else []
    if not records and not tables:
        raise ReconpatchError("no record or table of results in it", where=target, fix="give a folder of results")
    digests: dict[Path, str] = {}
    for path in records:
        results = Results(path.parents[4], digests)
        findings, record = check_record(path, results)
        drift = [] if record is None else drift_of(record, codes, planned, results.name(path.parent))
        yield _verdict("record", results.name(path), findings, drift)
    if check_table is not None:
        for path in tables:
            results, findings = Results(path.parents[1], digests), Findings()
            findings.attempt(partial(check_table, path, results, findings))
            yield _verdict("table", results.name(path), findings)
    for path in leftovers:
        yield Verdict("file", str(path.relative_to(target)), LEFT_OVER)


def is_record(path: Path) -> bool:
    """Whether a path ends as a record's in a folder of results: `<kind>/<data set>/<category>/<run>/record.json`."""
    return len(path.parts) > 5 and path.name == RECORD and path.parents[3].name in RESULT_FOLDERS


def _find(target: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Records and tables at or below a path, and files among them that belong to neither."""

    def is_table(path: Path) -> bool:
        """Whether it is the first CSV of a table; with it, those that are named after it are checked."""
        first = [
            path.with_name(path.name.removesuffix(end) + ".csv") for end in BESIDE_CELLS if path.name.endswith(end)
        ]
        return path.suffix == ".csv" and path.parent.name == "tables" and not any(file.is_file() for file in first)

    if target.is_file():
        return [target] if is_record(target) else [], [target] if is_table(target) else [], []
    files = [path for path in sorted(target.rglob("*")) if path.is_file()]
    records = [path for path in files if is_record(path)]
    tables = [path for path in files if is_table(path) and path.parent in (target, target / "tables")]
    of_runs = [path for path in files if len(path.parts) > 5 and path.parents[3].name in RESULT_FOLDERS]
    folders = {path.parent for path in records}
    return records, tables, [p for p in of_runs if p.parent not in folders or p.name not in RESULT_FILES]


def drift_of(
    record: Record, codes: Mapping[str, str] | None, planned: Collection[str] | None, folder: str
) -> list[str]:
    """Record, today's digests of code, today's runs -> what has changed since it was made: code, packages, settings."""
    changes = []
    stages = list(record.all_stages())
    if codes is not None:
        old = [path for path, stage, facts in stages if facts.code != codes.get(stage)]
        changes += [f"other code of {', '.join(old)}"] if old else []
    packages = {
        name: f"{short(name)} {short(version)}, now {_installed(name) or 'not installed'}"
        for _, _, facts in stages
        for name, version in facts.packages.items()
        if version != _installed(name)
    }
    for _, _, facts in stages:
        if facts.python != platform.python_version():
            packages["python"] = f"Python {short(facts.python)}, now {platform.python_version()}"
    changes += listed([packages[name] for name in sorted(packages)], SHOWN)
    if planned is not None and folder not in planned:
        changes.append("no run of this configuration: give its overlays with --configfile")
    return changes


@cache
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def summary(verdicts: Sequence[Verdict]) -> str:
    """Verdicts -> how many there are of each kind and status."""
    parts = []
    for kind in ("record", "table"):
        found = Counter(verdict.status for verdict in verdicts if verdict.kind == kind)
        texts = [f"{found[status]} {status}" for status in ("ok", "rounding", "DIFFERS", "cannot be checked")]
        parts += [f"{found.total()} {kind}{'s' * (found.total() != 1)}: {', '.join(texts)}"] if found else []
    old = sum(bool(verdict.drift) for verdict in verdicts)
    parts += [f"{old} {OTHERS}"] if old else []
    files = sum(verdict.status == LEFT_OVER for verdict in verdicts)
    return "; ".join(parts + ([f"{files} file{'s' * (files != 1)} left over"] if files else []))
