"""One record against the files behind it: digests, settings, data, and its numbers computed again."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.data.published import Flag, record_flags
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import digest
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.scoring import anomaly_maps
from reconpatch.records.compare import ABSENT, short
from reconpatch.records.findings import Findings, Source, Unverifiable
from reconpatch.records.locations import RECORD, RUN
from reconpatch.records.provenance import arrays_digest, bank_digests
from reconpatch.records.recomputation import (
    Masks,
    check_labels,
    check_numbers,
    map_settings,
    read_masks,
    read_references,
    read_scores,
)
from reconpatch.records.record import (
    USAGE,
    Record,
    StageFacts,
    StageFile,
    combined_record,
    content_digest,
    read_record,
    read_stage,
)

unsealed = partial(read_record, sealed=False)  # an edited record's own line says so


def check_record(path: Path, source: Source) -> tuple[Findings, Record | None]:
    """Record file in a folder of results -> (in what the record, its settings and the saved files disagree, record).

    The record is None where the file holds none. The files of features are not looked at: they may be gone by plan.
    """
    found, folder = Findings(), path.parent
    try:
        record = unsealed(path)
    except ReconpatchError as error:
        found.missing.append(str(error).replace(str(path), source.name(path)))
        return found, None
    found.same("digest of the record's content", record.digest, content_digest(record))
    place = {"dataset": folder.parts[-3], "category": folder.parts[-2], "run": folder.name}
    found.same("", {key: getattr(record, key) for key in place}, place)
    found.same("seed", record.seed, record.description.get("seed"))
    truth = found.attempt(lambda: _check_data(found, record, folder, source))
    source.check_digest(found, record.digests.get("scores"), folder / "scores.safetensors")
    if folder.parts[-4] == "ensembles":
        found.attempt(lambda: _check_ensemble(found, record, folder, source, truth))
    else:
        found.attempt(lambda: _check_stages(found, record, source))
        found.attempt(lambda: _check_run(found, record, folder, source, truth))
    return found, record


def _check_data(found: Findings, record: Record, folder: Path, source: Source) -> list[int]:
    """The record's data and flags against the manifest of its category, whose test images' labels are returned."""
    file = source.root / "index" / folder.parts[-3] / f"{folder.parts[-2]}.json"
    layout = record.data.layout

    def read(path: Path) -> tuple[list[int], dict[str, Any], list[Flag]]:
        items, stated = read_manifest(path)  # whose digest fits them
        test = [item.label for item in items if item.split == "test"]
        counts = {
            "layout": layout,
            "manifest": stated,
            "train": len(items) - len(test),
            "test_normal": test.count(0),
            "test_anomalous": test.count(1),
            "masks": sum(item.mask is not None for item in items if item.split == "test"),
        }
        flags = record_flags(str(record.description.get("weights")), layout, folder.parts[-2], items)
        return test, counts, flags

    labels, counts, flags = source.read(file, read)
    found.same("data", record.data.model_dump(), counts)
    stored, ensemble = Counter(record.flags), folder.parts[-4] == "ensembles"
    found.differs += [
        f"flags: stored {short([str(flag) for flag in record.flags])}, found {str(flag)!r} to be true"
        for flag in Counter(flags) - stored
    ]
    surplus = stored - Counter(flags)  # an ensemble's are its members', which is checked there
    found.differs += [] if ensemble else [f"flags: stored {short(str(flag))}, found not to be true" for flag in surplus]
    return labels


def _below(record: Record, source: Source, stage: str, name: str) -> Path:
    """The folder of a stage's files. Raises Unverifiable where its name could lead elsewhere: a record may hold all."""
    if not RUN.fullmatch(name):
        raise Unverifiable(f"{stage}: {short(name)} is no name of a folder")
    return source.root / stage / record.dataset / record.category / name


def _check_stages(found: Findings, record: Record, source: Source) -> None:
    """The facts that stages wrote of themselves, and the files they made."""
    d, side = record.description, record.training_features
    trained = ["training"] if d.get("method") == "reconpatch" else []
    found.same("stages", sorted(record.stages), sorted(["features", *trained, "bank", "score"]))
    found.same("training_features", side is not None, d.get("augment") == "test")
    of_run = {name: f for name, f in record.stages.items() if name in ("features", "training", "bank")}
    for name, facts in (of_run | ({"training_features": side} if side else {})).items():
        stage = "features" if name == "training_features" else name
        file = found.attempt(lambda s=stage, f=facts: _facts(record, source, s, f))  # type: ignore[misc]
        if file is None:
            continue
        path = name if name == "training_features" else f"stages.{name}"
        found.same(path, facts.without_usage(), file.stage.without_usage())
        made = {"features": "test_features", "training_features": "train_features", "bank": "train_features"}.get(name)
        if made:
            found.same(f"digests.{made}", record.digests.get(made), file.digests.get(made))
        if name == "features":
            found.same("weights", record.weights.model_dump(), file.weights.model_dump() if file.weights else None)
            if side is None:
                key = "train_features"
                found.same(f"digests.{key}", record.digests.get(key), file.digests.get(key))
        if name == "bank":
            own = (side or record.stages["features"]).without_usage()
            found.same("features of the bank", own, file.features.without_usage() if file.features else None)
    kept = coreset_size(record.bank.of, float(d["coreset"]))
    found.same("bank.patches", record.bank.patches, kept)
    at = {stage: _below(record, source, stage, facts.folder) for stage, facts in of_run.items()}
    found.attempt(lambda: _check_bank(found, record, at["bank"] / "bank.safetensors", kept, source))
    if "training" in at:
        epoch = d.get("epoch", d.get("epochs"))
        found.attempt(lambda: _check_f(found, record, at["training"] / "f.safetensors", str(epoch), source))


def _facts(record: Record, source: Source, stage: str, facts: StageFacts) -> StageFile:
    return source.read(_below(record, source, stage, facts.folder) / f"{stage}.json", read_stage)


def _check_bank(found: Findings, record: Record, file: Path, kept: int, source: Source) -> None:
    """The rows of the memory bank and the f that the record's run used."""
    whole = source.read(file, MemoryBank.load)
    found.same(f"bank.of, training patches of {source.name(file)}", record.bank.of, whole.training_patches)
    if kept > len(whole.patches):
        raise Unverifiable(f"{source.name(file)} has {len(whole.patches)} rows, not the {kept} that were used")
    digests = bank_digests(whole.first(kept))
    for what in ("bank", "f"):
        stored, again = record.digests.get(what, ABSENT), digests.get(what, ABSENT)
        found.same(f"digest of {'f' if what == 'f' else 'what was used'} in {source.name(file)}", stored, again)


def _check_f(found: Findings, record: Record, file: Path, epoch: str, source: Source) -> None:
    """The representation after an epoch, among those that training saved."""
    saved = source.read(file, load_file)
    f = {part: saved.get(f"{epoch}.{part}") for part in ("weight", "bias")}
    if any(values is None for values in f.values()):
        raise Unverifiable(f"{source.name(file)} has no f of epoch {short(epoch)}")
    found.same(f"digest of f in {source.name(file)}", record.digests.get("f", ABSENT), arrays_digest(f))


def _masks(found: Findings, record: Record, source: Source) -> Masks:
    file = _below(record, source, "masks", record.masks) / "masks.npy"
    source.check_digest(found, record.digests.get("masks"), file)
    return read_masks(file, source)


def _check_run(found: Findings, record: Record, folder: Path, source: Source, truth: list[int] | None) -> None:
    """The name of a run, its image scores and its metrics."""
    d = record.description
    found.same("digest in the run's name", folder.name.rpartition("-")[2], digest(d))
    scores = read_scores(found, folder / "scores.safetensors", source, ("image", "patch"))
    check_labels(found, scores, truth)
    found.same("bank.grid", record.bank.grid, list(scores["patch"].shape[1:]))
    if d.get("reweight") in (None, "map"):  # else the image score is weighted and the patches' are not
        for n in np.flatnonzero(scores["image"] != scores["patch"].max((1, 2)))[:1]:
            most = float(scores["patch"][n].max())
            found.differs.append(f"image score {n}: stored {float(scores['image'][n])!r}, recomputed {most!r}")
    masks = _masks(found, record, source)
    maps = anomaly_maps(scores["patch"], *map_settings(d, masks))
    check_numbers(found, record, scores, maps, masks)


def _check_ensemble(found: Findings, record: Record, folder: Path, source: Source, truth: list[int] | None) -> None:
    """An ensemble against its members' records, and its scores combined from theirs anew."""
    how, runs = str(record.combine), [member.run for member in record.members]
    if not runs or not all(RUN.fullmatch(run) for run in runs):
        raise Unverifiable("members does not name runs")
    found.same("digest in the ensemble's name", folder.name.rpartition("-")[2], digest([runs, how]))
    places = [source.root / "runs" / folder.parts[-3] / folder.parts[-2] / run for run in runs]
    references = [] if how == "minmax" else [place / "training.safetensors" for place in places]
    for member, place in zip(record.members, places, strict=True):
        source.check_digest(found, member.digests.get("scores"), place / "scores.safetensors")
        if references:
            source.check_digest(found, member.digests.get("training_scores"), place / "training.safetensors")
    records = [source.read(place / RECORD, unsealed) for place in places]
    scored = [member.digests.get("training_scores", "") for member in record.members]
    if not references:
        scored = []
    own = {key: record.digests.get(key, "") for key in ("scores", "masks")}
    made = combined_record(
        folder.name, how, records, record.metrics, record.masks, own, record.stages["ensemble"], scored
    )
    found.same("", without_usage(record), without_usage(made))
    stored = read_scores(found, folder / "scores.safetensors", source, ("image",))
    check_labels(found, stored, truth)
    masks = _masks(found, record, source)
    try:
        image, maps = combine_runs(
            [read_scores(found, place / "scores.safetensors", source, ("image", "patch")) for place in places],
            [read_references(file, source) for file in references],
            [map_settings(member.description, masks) for member in records],
            how,
        )
    except ReconpatchError as error:
        raise Unverifiable(f"its members cannot be combined ({error})") from None
    if image.shape != stored["image"].shape:
        found.differs.append(f"image scores: stored of {len(stored['image'])} images, recomputed of {len(image)}")
        return
    n = int(np.argmax(np.abs(stored["image"] - image)))
    found.close(f"image score {n}", float(stored["image"][n]), float(image[n]))
    check_numbers(found, record, stored, maps, masks)


def without_usage(record: Record) -> dict[str, Any]:
    """Record -> its content without seal, time and memory: a stage that is run again makes the same."""
    content = record.model_dump(exclude={"digest"})
    for part in (content, *content["members"]):
        for facts in (*part["stages"].values(), part["training_features"] or {}):
            for key in USAGE:
                facts.pop(key, None)
    return content
