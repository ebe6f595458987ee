"""Experiments: one file of changes, variants and axes -> the rows of its table, each with a run and its labels."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from reconpatch.data.catalogue import kinds_of
from reconpatch.errors import ReconpatchError, choose
from reconpatch.experiments.config import Config, Experiment, Override, Variant
from reconpatch.experiments.place import paper_file
from reconpatch.experiments.run import BASELINE, ORIGINS, Channels, Run, RunSettings, fitted, share_of, vary
from reconpatch.experiments.stages import description
from reconpatch.experiments.value_types import shown

# The paper's settings, or ours where it does not state them, whatever baseline the user's configuration has.
PAPER = {key: value for key, value in BASELINE if ORIGINS[key].stated is not None}
NOT_STATED = {key for key, origin in ORIGINS.items() if origin.stated is False}


@dataclass(frozen=True)
class Row:
    """One row of a table: its variant and axis values, and the run that fills it."""

    labels: dict[str, object]  # variant and axis values, except method and seed, which every row has
    run: Run
    departures: tuple[str, ...]  # settings in which the run departs from the paper: `key = value (paper value)`


def overridden(experiment: Experiment, override: Override) -> Experiment:
    """Experiment with its categories, axes and figures as an override changes them."""
    changes: dict[str, object] = {"axes": experiment.axes | override.axes}
    changes |= {} if override.datasets is None else {"datasets": override.datasets}
    changes |= {} if override.figures is None else {"figures": override.figures}
    return experiment.model_copy(update=changes)


def expand(name: str, experiment: Experiment, config: Config, channels: Channels) -> tuple[list[Row], list[str]]:
    """Experiment, what `fitted` asks for -> its rows, and why some are left out: their epoch is not reached, or f is
    not kept there.

    Variants vary slowest, then the axes, the first one slowest, then seeds. `set` of an override wins over that of the
    file; at last a stand-in replaces the backbone. Raises ReconpatchError naming the experiment and the wrong key.
    """
    where, override = f"experiment {name}", config.overrides.get(name, Override())
    axes = {"seed": config.seeds} | experiment.axes
    _check_keys(where, experiment, override, axes)
    _check_axes(where, experiment.axes)
    _check_ensemble(where, experiment)
    _check_figures(where, experiment)
    _check_reference(where, experiment)
    if experiment.metrics is not None:
        try:
            table_metrics(experiment)
        except ReconpatchError as error:
            raise error.at(where) from None
    layouts = (config.datasets[dataset].layout for dataset in experiment.datasets if dataset in config.datasets)
    _check_view(where, experiment, axes, [kind for layout in layouts for kind in kinds_of(layout)])
    order = [key for key in axes if key != "seed"] + ["seed"]
    variants = experiment.variants or {"": Variant()}
    in_paper = _paper_columns(name, experiment, axes)
    rows, missing_epochs = [], []
    for (label, variant), values in itertools.product(variants.items(), itertools.product(*(axes[k] for k in order))):
        point = dict(zip(order, values, strict=True))
        changes = experiment.set | variant.set | override.set | override.variants.get(label, {}) | point
        if _lacks_epoch(where, changes, config, swept="epoch" in axes):
            missing_epochs.append(str(changes.get("epoch", config.baseline.epoch)))
            continue
        settings = vary(config.baseline, changes, where)
        if settings.backbone in config.stand_ins:
            settings = vary(settings, config.stand_ins[settings.backbone], f"stand_ins.{settings.backbone}")
        run = fitted(settings, channels, where)
        if isinstance(settings.epoch, str) and run.epoch not in config.kept_epochs(run.epochs):
            raise _not_kept(where, settings.epoch, config)
        labels: dict[str, object] = {"variant": label} if experiment.variants else {}
        labels |= {key: plain(getattr(settings, key)) for key in order if key not in ("method", "seed")}
        stated = experiment.paper | variant.paper | {key: value for key, value in point.items() if key in in_paper}
        if "dim" in point and "dim" in in_paper:
            stated["dim"] = share_of(point["dim"], BASELINE.feature_dim)
        assumed = experiment.assumed | variant.assumed
        not_stated = (NOT_STATED | set(assumed)) - set(stated)
        departures = tuple(_departures(run, PAPER | assumed | stated, not_stated))
        rows.append(Row(labels, run, departures))
    if not experiment.ensemble:  # `plan` checks the members of ensembles
        _check_distinct(where, rows)
    epochs = ", ".join(dict.fromkeys(missing_epochs))
    why = f"epochs {epochs} are beyond the last or not among checkpoints {config.checkpoints}"
    return rows, [why] if missing_epochs else []


def _paper_columns(name: str, experiment: Experiment, axes: Collection[str]) -> set[str]:
    """Axes whose values only place a row in the paper's table. Values of other axes are settings of our own.

    They are the columns of the experiment's published numbers; without published numbers, all axes.
    """
    combined = {experiment.ensemble.over} if experiment.ensemble else set()
    columns: Collection[str] = axes
    if file := paper_file(name):
        with file.open(encoding="utf-8") as lines:
            columns = next(lines).strip().split(",")
    return {"method", "seed", *combined, *columns}


def _lacks_epoch(where: str, changes: Mapping[str, Any], config: Config, swept: bool) -> bool:
    """Whether the training that a row asks for does not reach its epoch, or does not keep f there.

    Raises ReconpatchError where f is not kept at an epoch that is set, not swept.
    """
    given = [str(changes.get(key, getattr(config.baseline, key))) for key in ("epoch", "epochs")]
    if not all(text.isdecimal() and len(text) < 10 and int(text) for text in given):
        return False  # the last epoch; or `vary` says what is wrong
    epoch, epochs = map(int, given)
    if epoch in config.kept_epochs(epochs):
        return False
    if epoch <= epochs and not swept:
        raise _not_kept(where, epoch, config)
    return True


def _not_kept(where: str, epoch: object, config: Config) -> ReconpatchError:
    return ReconpatchError(
        f"epoch = {epoch} is not among checkpoints {config.checkpoints}, so f is not kept there",
        where=where,
        fix="choose one of these, or add it to them",
    )


def _check_distinct(where: str, rows: list[Row]) -> None:
    """Raise ReconpatchError where two rows have the same labels."""
    seen: set[str] = set()
    for row in rows:
        labels = str(row.labels | {"method": row.run.method, "seed": row.run.seed})
        if labels in seen:
            raise ReconpatchError(f"two rows are {labels}: do two backbones have the same stand-in?", where=where)
        seen.add(labels)


def _check_keys(where: str, experiment: Experiment, override: Override, axes: Collection[str]) -> None:
    """Raise ReconpatchError for a key that is no parameter, is both set and an axis, or an unknown variant."""
    for label in override.variants:
        if label not in experiment.variants:
            raise ReconpatchError(f"no variant {label!r}", where=where, fix=choose(label, experiment.variants))
    variants = list(experiment.variants.values())
    changes = [experiment.set, override.set, *(v.set for v in variants), *override.variants.values()]
    papers = [experiment.paper, experiment.assumed, *(v.paper for v in variants), *(v.assumed for v in variants)]
    for key in (*axes, *(key for settings in (*changes, *papers) for key in settings)):
        if key not in RunSettings.model_fields:
            close = (
                ", ".join(get_close_matches(key, RunSettings.model_fields)) or "any of baseline in configs/default.yaml"
            )
            raise ReconpatchError(f"{key!r} is no parameter of a run", where=where, fix=f"did you mean {close}?")
        if key in axes and any(key in settings for settings in changes):
            fix = "give it under `seeds`, or as an axis" if key == "seed" else "leave one of them out"
            raise ReconpatchError(f"{key!r} is both set and an axis", where=where, fix=fix)


def _check_axes(where: str, axes: Mapping[str, list[Any]]) -> None:
    """Raise ReconpatchError for an axis without values, or with one of them twice."""
    for key, values in axes.items():
        if not values:
            raise ReconpatchError(f"axes: {key} = []", where=where, fix="give at least one value")
        for number, value in enumerate(values):
            if any(same(value, earlier) for earlier in values[:number]):
                raise ReconpatchError(
                    f"axes: {key}: {shown(value)} is there twice", where=where, fix="give every value once"
                )


def _check_ensemble(where: str, experiment: Experiment) -> None:
    """Raise ReconpatchError for an ensemble over something that is no axis of settings with two values."""
    if experiment.ensemble:
        over = experiment.ensemble.over
        where = f"{where}: ensemble: over = {over!r}"
        if over in ("method", "seed"):
            raise ReconpatchError("members must have the same method and seed", where=where, fix="choose another axis")
        if len(experiment.axes.get(over, [])) < 2:
            raise ReconpatchError("no axis with at least two values", where=where, fix="give it more, or another axis")


def _check_reference(where: str, experiment: Experiment) -> None:
    """Raise ReconpatchError for a reference that is no row of the table, and for an oracle over no axis of settings."""
    labels = {"variant": list(experiment.variants)} if experiment.variants else {}
    labels |= {key: values for key, values in experiment.axes.items() if key not in ("method", "seed")}
    for key, value in experiment.reference.items():
        if key not in labels or not any(same(value, each) for each in labels[key]):
            known = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in labels.items())
            raise ReconpatchError(
                f"reference: {key} = {value!r} is no row of the table", where=where, fix=f"rows: {known}"
            )
    if experiment.oracle is not None and experiment.oracle not in set(labels) - {"variant"}:
        what = f"oracle: {experiment.oracle!r} is no axis of settings"
        raise ReconpatchError(what, where=where, fix=f"name one of {', '.join(sorted(set(labels) - {'variant'}))}")


def _check_view(where: str, experiment: Experiment, axes: Collection[str], kinds: Collection[str]) -> None:
    """Raise ReconpatchError for a view of what the table does not have, or with something in its rows and columns.

    `kinds` are the kinds of anomalies that its data sets tell apart.
    """
    view, where = experiment.view, f"{where}: view"
    if view is None:
        return
    values = {"variant": list(experiment.variants)} if experiment.variants else {}
    values |= {key: experiment.axes.get(key, []) for key in axes if key not in ("method", "seed")}
    values |= {"kind": [*kinds, "mean"]} if kinds else {}
    known = ["category", "method", "metric", *values]
    for key, chosen in view.where.items():
        if key not in values:
            raise ReconpatchError(f"where: {key!r} is no axis", where=where, fix=choose(key, values))
        combined = experiment.ensemble is not None and key == experiment.ensemble.over
        for value in chosen:
            if not combined and values[key] and not any(same(plain(each), value) for each in values[key]):
                raise ReconpatchError(f"where: {key} = {value!r} is not among {values[key]}", where=where)
    for key in (*view.rows, *view.columns):
        if key not in known:
            raise ReconpatchError(f"{key!r} is no part of the table", where=where, fix=choose(key, known))
    if twice := [key for key in known if [*view.rows, *view.columns].count(key) > 1]:
        raise ReconpatchError(f"{twice[0]!r} is there twice", where=where, fix="name it once, in rows or in columns")
    for key, chosen in (("methods", view.methods or []), ("metrics", view.metrics or [])):
        names = list(map(str, chosen))
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ReconpatchError(f"{key}: {repeated[0]} is there twice", where=where, fix="name it once")
    if view.metrics is not None:
        shown = table_metrics(experiment)
        for metric in view.metrics:
            if metric not in shown:
                raise ReconpatchError(f"no metric {metric!r}", where=where, fix=choose(metric, shown))
    if view.categories == "natures" and not experiment.by_nature:
        raise ReconpatchError("categories: natures, but the table has none", where=where, fix="set by_nature: true")


def table_metrics(experiment: Experiment) -> list[str]:
    """Experiment -> the metrics of its table. Raises ReconpatchError, without a place, for one that does not exist."""
    from reconpatch.method.metrics import METRICS  # NumPy is imported for it

    for metric in experiment.metrics or ():
        if metric not in METRICS:
            raise ReconpatchError(f"metrics: no metric {metric!r}", fix=choose(metric, METRICS))
    return experiment.metrics or [name for name, metric in METRICS.items() if metric.in_tables]


def _check_figures(where: str, experiment: Experiment) -> None:
    """Raise ReconpatchError for a figure of an axis or value that the experiment does not have."""
    known = {"variant": list(experiment.variants)} | experiment.axes
    for figure, chosen in experiment.figures.items():
        for key, value in chosen.items():
            at = f"{where}: figures: {figure}"
            if key not in known:
                raise ReconpatchError(f"{key!r} is no axis", where=at, fix=choose(key, known))
            if not any(same(value, each) for each in known[key]):
                raise ReconpatchError(f"{key} = {value!r} is not among {known[key]}", where=at)


def _departures(run: Run, paper: Mapping[str, Any], not_stated: Collection[str]) -> Iterator[str]:
    """Settings in which a run departs from those of the paper, or from what we assume where it does not state them."""
    for key, value in description(run, "score").items():
        expected = paper.get(key, value)
        # The paper's weights may come from a file; one neighbour has no weight; PatchCore may pool to `dim` directly.
        means_the_same = (
            (key == "weights" and value == "file")
            or (key == "reweight" and run.neighbours == 1)
            or (key == "feature_dim" and value != run.feature_dim)
            or (key in ("level_dim", "feature_dim") and run.embedding == "concat")  # it follows from the network
        )
        if not means_the_same and not same(value, expected):
            whose = "not stated, assumed" if key in not_stated else "paper"
            other = "the last" if key == "epoch" and expected is None else plain(expected)
            yield f"{key} = {plain(value)} ({whose} {other})"


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting agree, numbers as numbers: 1, 1.0 and the text "1e0" do."""
    return _comparable(one) == _comparable(other)


def _comparable(value: Any) -> float | str:
    text = str(plain(value))
    try:
        return float(text)
    except ValueError:
        return text


def plain(value: Any) -> Any:
    """Value of a setting -> as tables label it: a list joined by '+'."""
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else value
