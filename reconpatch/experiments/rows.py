"""Experiments: one file of changes, variants and axes -> its rows, each a run with its place in the table."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Experiment, Override, Variant
from reconpatch.experiments.run import BASELINE, ORIGINS, Run, description, vary
from reconpatch.experiments.value_types import shown

# The paper's settings, or ours where it is silent, whatever baseline the user's configuration has.
PAPER = {key: value for key, value in BASELINE if ORIGINS[key].stated is not None}
SILENT = {key for key, origin in ORIGINS.items() if origin.stated is False}  # keys that the paper does not state


@dataclass(frozen=True)
class Row:
    """One place of a table: its variant and axis values, and the run that fills it."""

    labels: dict[str, Any]  # variant and axis values, but for method and seed, which every row has
    run: Run
    departures: tuple[str, ...]  # `key = value (paper ...)`, what the run does otherwise than the paper there


def overridden(experiment: Experiment, override: Override) -> Experiment:
    """Experiment with an overlay's changes: categories, axes and figures replaced."""
    changes: dict[str, Any] = {"axes": experiment.axes | override.axes}
    changes |= {} if override.datasets is None else {"datasets": override.datasets}
    changes |= {} if override.figures is None else {"figures": override.figures}
    return experiment.model_copy(update=changes)


def expand(name: str, experiment: Experiment, config: Config) -> tuple[list[Row], list[str]]:
    """Experiment -> its rows, variants slowest, then every combination of the axes, first axis slowest, seeds last;
    and why rows fall out, as epochs that the training does not reach or keep.

    An overlay's `set` wins over the file's, a stand-in replaces a backbone last of all. Raises ReconpatchError naming
    the experiment and the key that is wrong.
    """
    where, axes = f"experiment {name}", {"seed": list(config.seeds)} | experiment.axes
    override = config.overrides.get(name, Override())
    variants = list((experiment.variants or {"": Variant()}).items())
    _check(where, experiment, override, list(axes))
    order = [k for k in axes if k != "seed"] + ["seed"]
    rows, out = [], []
    # An axis is the row's own place in the paper's table, not a departure, if the table has it; others are settings.
    swept = {"method", "seed", *(experiment.ensemble.over if experiment.ensemble else "",), *_swept(name, axes)}
    for (label, variant), values in itertools.product(variants, itertools.product(*(axes[k] for k in order))):
        place = dict(zip(order, values, strict=True))
        changes = experiment.set | variant.set
        changes |= override.set | override.variants.get(label, {}) | place
        if _unreached(changes, config):
            if "epoch" not in axes and _reached(changes, config):
                raise ReconpatchError(
                    f"{where}: epoch = {changes.get('epoch', config.baseline.epoch)} is not among checkpoints "
                    f"{config.checkpoints}, so f is not kept there: choose one of these, or add it to them"
                )
            out.append(str(changes.get("epoch", config.baseline.epoch)))
            continue
        run = vary(config.baseline, changes, where)
        if run.backbone in config.stand_ins:
            run = vary(run, config.stand_ins[run.backbone], f"stand_ins.{run.backbone}")
        labels = {"variant": label} if experiment.variants else {}
        labels |= {k: _plain(getattr(run, k)) for k in order if k not in ("method", "seed")}
        stated = experiment.paper | variant.paper | {k: v for k, v in place.items() if k in swept}
        assumed = experiment.assumed | variant.assumed
        silent = (SILENT | set(assumed)) - set(stated)
        rows.append(Row(labels, run, tuple(_departures(run, PAPER | assumed | stated, silent))))
    _distinct(where, experiment, rows)
    why = f"epochs {', '.join(dict.fromkeys(out))} are beyond the last or not among checkpoints {config.checkpoints}"
    return rows, [why] if out else []


def _epochs(changes: Mapping[str, Any], config: Config) -> tuple[int, int] | None:
    """(epoch, epochs) of a row; None where epoch is the last, or `vary` will say what is wrong with one of them."""
    pair = [str(changes.get(key, getattr(config.baseline, key))) for key in ("epoch", "epochs")]
    if not all(text.isdecimal() and len(text) < 10 and int(text) for text in pair):
        return None
    return int(pair[0]), int(pair[1])


def _unreached(changes: Mapping[str, Any], config: Config) -> bool:
    """Whether the training a row asks for lacks its epoch."""
    pair = _epochs(changes, config)
    return pair is not None and (pair[0] > pair[1] or pair[0] not in (pair[1], *config.checkpoints))


def _reached(changes: Mapping[str, Any], config: Config) -> bool:
    """Whether the training a row asks for passes its epoch, be it kept or not."""
    pair = _epochs(changes, config)
    return pair is not None and pair[0] <= pair[1]


def _distinct(where: str, experiment: Experiment, rows: list[Row]) -> None:
    """Raise ReconpatchError where two rows would have the same labels; an ensemble's members are looked at later."""
    seen: set[str] = set()
    for row in [] if experiment.ensemble else rows:
        place = str(row.labels | {"method": row.run.method, "seed": row.run.seed})
        if place in seen:
            raise ReconpatchError(f"{where}: two rows are {place}: do two backbones have the same stand-in?")
        seen.add(place)


def _check(where: str, experiment: Experiment, override: Override, axes: list[str]) -> None:
    sets = [experiment.set, override.set, *(v.set for v in experiment.variants.values()), *override.variants.values()]
    for label in override.variants:
        if label not in experiment.variants:
            raise ReconpatchError(
                f"{where}: no variant {label!r}; there are {', '.join(experiment.variants) or 'none'}"
            )
    variants = list(experiment.variants.values())
    papers = [experiment.paper, experiment.assumed, *(v.paper for v in variants), *(v.assumed for v in variants)]
    for key in (*axes, *(k for s in (*sets, *papers) for k in s)):
        if key not in Run.model_fields:
            close = ", ".join(get_close_matches(key, Run.model_fields)) or "any of baseline in configs/default.yaml"
            raise ReconpatchError(f"{where}: {key!r} is no parameter of a run; did you mean {close}?")
        if key in axes and any(key in s for s in sets):
            fix = "give it under `seeds`, or as an axis" if key == "seed" else "leave one of them out"
            raise ReconpatchError(f"{where}: {key!r} is both set and an axis; {fix}")
    empty = [key for key, values in experiment.axes.items() if not values]
    if empty:
        raise ReconpatchError(f"{where}: axes: {empty[0]} = []: give at least one value")
    for key, values in experiment.axes.items():
        twice = [value for n, value in enumerate(values) if any(same(value, before) for before in values[:n])]
        if twice:
            raise ReconpatchError(f"{where}: axes: {key}: {shown(twice[0])} is there twice; give every value once")
    ensemble = experiment.ensemble
    if ensemble and ensemble.over in ("method", "seed"):
        raise ReconpatchError(f"{where}: ensemble: over = {ensemble.over!r}: members must be of one method and seed")
    if ensemble and len(experiment.axes.get(ensemble.over, [])) < 2:
        raise ReconpatchError(f"{where}: ensemble: over = {ensemble.over!r} is no axis with at least two values")
    places = {"variant": list(experiment.variants)} | experiment.axes
    for kind, chosen in experiment.figures.items():
        for key, value in chosen.items():
            if key not in places:
                raise ReconpatchError(f"{where}: figures: {kind}: {key!r} is no axis; choose from {', '.join(places)}")
            if not any(same(value, known) for known in places[key]):
                raise ReconpatchError(f"{where}: figures: {kind}: {key} = {value!r} is not among {places[key]}")


def _swept(name: str, axes: Collection[str]) -> Collection[str]:
    """The columns of an experiment's published numbers; where it has none, all of its axes."""
    file = Path(f"configs/paper/{name}.csv")
    if not file.is_file():
        return axes
    with file.open(encoding="utf-8") as lines:
        return next(lines).strip().split(",")


def _departures(run: Run, paper: Mapping[str, Any], assumed: Collection[str]) -> Iterator[str]:
    """What a run does otherwise than the paper.

    The paper's weights may come from a file of the user's, without neighbours there is nothing to weight, and a
    PatchCore that pools directly to its dimension has no feature_dim.
    """
    for key, value in description(run, "score").items():
        theirs = paper.get(key, value)
        silent = (key == "weights" and value == "file") or (key == "reweight" and run.neighbours == 1)
        silent |= key == "feature_dim" and value != run.feature_dim
        if not silent and not same(value, theirs):
            whose = "not stated, assumed" if key in assumed else "paper"
            yield f"{key} = {_plain(value)} ({whose} {_plain(theirs)})"


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting agree, numbers as numbers: 1, 1.0 and the text "1e0" do."""
    return _comparable(one) == _comparable(other)


def _comparable(value: Any) -> float | str:
    text = str(_plain(value))
    try:
        return float(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else value
