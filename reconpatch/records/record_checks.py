"""One record against the files behind it: digests, settings, data, and its numbers computed again."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from reconpatch.data.index import read_manifest
from reconpatch.data.published import Flag, record_flags
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import digest
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.maps import anomaly_maps
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.records.compare import ABSENT, short
from reconpatch.records.findings import Findings, Source, Unverifiable
from reconpatch.records.locations import RECORD, RUN, stage_names
from reconpatch.records.provenance import USAGE, arrays_digest, bank_digests
from reconpatch.records.recomputation import (
    Masks,
    check_labels,
    check_numbers,
    map_settings,
    read_masks,
    read_references,
    read_scores,
)
from reconpatch.records.record import Record, combined_record, content_digest, read_record

STAGES = ("features", "training features", "training", "bank")
# What a stage's facts tell of the features that the record speaks of, too.
DIGESTS = {
    "features": ("test_features", "train_features"),
    "training features": ("train_features",),
    "bank": ("train_features",),
}
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
    source.check_digest(found, "scores", record, folder / "scores.safetensors")
    if folder.parts[-4] == "ensembles":
        found.attempt(lambda: _check_ensemble(found, record, folder, source, truth))
    else:
        found.attempt(lambda: _check_stages(found, record, folder, source))
        found.attempt(lambda: _check_run(found, record, folder, source, truth))
    return found, record


def _check_data(found: Findings, record: Record, folder: Path, source: Source) -> list[int]:
    """The record's data and flags against the manifest of its category, whose test images' labels are returned."""
    file = source.root / "index" / folder.parts[-3] / f"{folder.parts[-2]}.json"
    layout = record.data.get("layout")

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
        flags = record_flags(str(record.description.get("weights")), str(layout), folder.parts[-2], items)
        return test, counts, flags

    labels, counts, flags = source.read(file, read)
    found.same("data", record.data, counts)
    stored, ensemble = Counter(record.flags), folder.parts[-4] == "ensembles"
    found.differs += [
        f"flags: stored {short([str(flag) for flag in record.flags])}, found {str(flag)!r} to be true"
        for flag in Counter(flags) - stored
    ]
    surplus = stored - Counter(flags)  # an ensemble's are its members', which is checked there
    found.differs += [] if ensemble else [f"flags: stored {short(str(flag))}, found not to be true" for flag in surplus]
    return labels


def _names(record: Record) -> dict[str, str]:
    """Names of the stages of a record, or of an ensemble's first member."""
    description = record.description
    members = description.get("members")
    try:
        return stage_names(members[0] if isinstance(members, list) else description)
    except (KeyError, TypeError, IndexError) as error:
        raise Unverifiable(f"files of its stages: the description is not whole ({short(repr(error))})") from None


def _check_stages(found: Findings, record: Record, folder: Path, source: Source) -> None:
    """The facts that stages wrote of themselves, and the files they made."""
    d, names = record.description, _names(record)
    stages = [stage for stage in STAGES if stage in names]
    found.same("stages", sorted(record.stages), sorted([*stages, "score"]))
    places = {s: source.root / s.split()[-1] / folder.parts[-3] / folder.parts[-2] / names[s] for s in stages}
    for stage, at in places.items():
        facts = found.attempt(lambda at=at, s=stage: source.read(at / f"{s.split()[-1]}.json", _facts))  # type: ignore[misc]
        if facts is None:
            continue
        found.same(f"stages.{stage}", _without_usage(record.stages.get(stage)), _without_usage(facts.get("stage")))
        told = facts.get("digests")
        for key in DIGESTS.get(stage, ()):
            if key == "train_features" and stage == "features" and "training features" in names:
                continue  # not those the bank is made from
            found.same(f"digests.{key}", record.digests.get(key), told.get(key) if isinstance(told, dict) else told)
        if stage == "features":
            found.same("weights", record.weights, facts.get("weights"))
        if stage == "bank":
            side = record.stages.get("training features", record.stages.get("features"))
            found.same("features of the bank", _without_usage(side), _without_usage(facts.get("features")))
    kept = coreset_size(int(record.bank["of"]), float(d["coreset"]))
    found.same("bank.patches", record.bank.get("patches"), kept)
    found.attempt(lambda: _check_bank(found, record, places["bank"] / "bank.safetensors", kept, source))
    if "training" in places:
        epoch = d.get("epoch", d.get("epochs"))
        found.attempt(lambda: _check_f(found, record, places["training"] / "f.safetensors", str(epoch), source))


def _check_bank(found: Findings, record: Record, file: Path, kept: int, source: Source) -> None:
    """The rows of the memory bank and the f that the record's run used."""
    whole = source.read(file, MemoryBank.load)
    found.same(f"bank.of, training patches of {source.name(file)}", record.bank.get("of"), whole.training_patches)
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


def _without_usage(facts: Any) -> Any:
    """Facts of a stage, but time and memory: a stage that was run again for other results made the same."""
    return {key: value for key, value in facts.items() if key not in USAGE} if isinstance(facts, dict) else facts


def _facts(file: Path) -> dict[str, Any]:
    facts = json.loads(file.read_text())
    if not isinstance(facts, dict):
        raise ValueError("not the facts of a stage")
    return facts


def _masks(found: Findings, record: Record, folder: Path, source: Source) -> Masks:
    file = source.root / "masks" / folder.parts[-3] / folder.parts[-2] / _names(record)["masks"] / "masks.npy"
    source.check_digest(found, "masks", record, file)
    return read_masks(file, source)


def _check_run(found: Findings, record: Record, folder: Path, source: Source, truth: list[int] | None) -> None:
    """The name of a run, its image scores and its metrics."""
    d = record.description
    found.same("digest in the run's name", folder.name.rpartition("-")[2], digest(d))
    scores = read_scores(found, folder / "scores.safetensors", source, ("image", "patch"))
    check_labels(found, scores, truth)
    found.same("bank.grid", record.bank.get("grid"), list(scores["patch"].shape[1:]))
    if d.get("reweight") in (None, "map"):  # else the image score is weighted and the patches' are not
        for n in np.flatnonzero(scores["image"] != scores["patch"].max((1, 2)))[:1]:
            most = float(scores["patch"][n].max())
            found.differs.append(f"image score {n}: stored {float(scores['image'][n])!r}, recomputed {most!r}")
    masks = _masks(found, record, folder, source)
    maps = anomaly_maps(scores["patch"], *map_settings(d, masks))
    check_numbers(found, record, scores, maps, masks)


def _check_ensemble(found: Findings, record: Record, folder: Path, source: Source, truth: list[int] | None) -> None:
    """An ensemble against its members' records, and its scores combined from theirs anew."""
    how, members = str(record.description.get("combine")), record.description.get("members")
    runs = [m.get("run") if isinstance(m, dict) else None for m in members] if isinstance(members, list) else []
    if not runs or not all(isinstance(run, str) and RUN.fullmatch(run) for run in runs):
        raise Unverifiable("description.members does not name runs")
    found.same("digest in the ensemble's name", folder.name.rpartition("-")[2], digest([runs, how]))
    places = [source.root / "runs" / folder.parts[-3] / folder.parts[-2] / str(run) for run in runs]
    references = [] if how == "minmax" else [place / "training.safetensors" for place in places]
    for n, place in enumerate(places):
        source.check_digest(found, f"{n} scores", record, place / "scores.safetensors")
        if references:
            source.check_digest(found, f"{n} training_scores", record, references[n])
    records = [source.read(place / RECORD, unsealed) for place in places]
    own = {key: record.digests.get(key, "") for key in ("scores", "masks")}
    own |= {key: value for key, value in record.digests.items() if key.endswith(" training_scores")}
    made = combined_record(folder.name, how, records, record.metrics, record.stages.get("ensemble", {}), own)
    for key in ("description", "flags", "data", "weights", "bank", "digests"):
        found.same(key, getattr(record, key), getattr(made, key))
    stages = ({name: _without_usage(facts) for name, facts in part.items()} for part in (record.stages, made.stages))
    found.same("stages", *stages)
    stored = read_scores(found, folder / "scores.safetensors", source, ("image",))
    check_labels(found, stored, truth)
    masks = _masks(found, record, folder, source)
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
