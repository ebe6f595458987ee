"""The stages of the workflow, one row each: the one place that says what a stage is.

Rules take threads, priority, resources, files and inputs from here; the predictions of memory and time, the refusal of
what does not fit, records and verification read the same rows. To add a stage, add its row, its rule and its step
(docs/extending.md). To add a kind of figure, add its row to FIGURES, its script and its drawing function.

A row names files below `results/` with the wildcards that tell its jobs apart. `{stage}` is a name that runs share if
they agree in all that the stage depends on (`plan.stage_names`), `{run}` is the name of one run or ensemble.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reconpatch.experiments import costs
from reconpatch.experiments.costs import Memory, Sizes, Time, Work
from reconpatch.experiments.run import ORIGINS, Run, of_training

# The features of the training images: of the same stage, but without the augmentation of test images alone.
TRAINING_FEATURES = "training features"


class Read(NamedTuple):
    """What a stage reads: its name as the rule's input, the stage that makes it, and which of that stage's files."""

    name: str
    stage: str
    file: str


@dataclass(frozen=True)
class Stage:
    """A kind of job. Jobs of it differ in the wildcards of its files."""

    name: str  # of its script, its folder below results/ and its facts in records
    rule: str
    files: Mapping[str, str]  # name of the output -> its path below results/
    reads: tuple[Read, ...] = ()
    threads: int = 1  # at most: `resources.Estimate.threads`
    priority: int = 1  # ready jobs of the highest start first, among them those that begin the longest chains
    gpu: bool = False  # whether it computes on a GPU where there is one
    gpu_key: str = ""  # key of the configuration that must be true for that
    base_mb: float = 0.0  # MB of the process with its imports
    memory: Callable[[Sizes], Memory] | None = None  # what sizes add to it, if they matter
    gpu_mb: Callable[[Sizes], float] | None = None  # MB of its arrays on a GPU
    base_s: float = 0.0  # seconds of the process before its work, with its imports, and of leaving
    work: Callable[[Sizes], Work] | None = None  # what sizes add to it
    advice: str = ""  # what to change where it does not fit into memory
    # Which runs it is made for: every run; those of ReConPatch; members of an ensemble that uses z-scores; or none,
    # if it is made only where its file is asked for.
    made_for: Literal["run", "reconpatch", "zscore", "asked"] = "asked"
    temporary: frozenset[str] = frozenset()  # files that are deleted once used where they would fill the disk
    recorded: bool = False  # whether a record holds the facts of this stage
    digests: tuple[str, ...] = ()  # of its facts, those that a record repeats

    @cached_property
    def wildcards(self) -> tuple[str, ...]:
        """What tells its jobs apart, in the order of its files' folders."""
        first = next(iter(self.files.values()))
        return tuple(re.findall(r"{(\w+)}", first))

    @property
    def script(self) -> str:
        """Its file in workflow/scripts, without the suffix."""
        return self.name

    def file(self, name: str, **wildcards: str) -> str:
        """The path of one of its files, from where Snakemake is called."""
        return f"results/{self.files[name]}".format(**wildcards)

    @property
    def log(self) -> str:
        """The path of its jobs' logs, with the wildcards."""
        return "/".join(["logs", self.rule, *(f"{{{name}}}" for name in self.wildcards)]) + ".log"

    def memory_of(self, sizes: Sizes) -> Memory:
        """Predicted memory of a job."""
        more = self.memory(sizes) if self.memory else Memory(0.0)
        return Memory(self.base_mb + more.held, more.mapped)

    def time_of(self, sizes: Sizes) -> Time:
        """Predicted time of a job."""
        return Time(self.base_s, *(self.work(sizes) if self.work else ()))


@dataclass(frozen=True)
class Figure(Stage):
    """A kind of figure, `figures` of an experiment names it. It reads files of the runs that the experiment chooses."""

    caption: str = field(default="", kw_only=True)  # what the report says below it
    photographs: bool = field(default=False, kw_only=True)  # whether it opens images of the data set
    # Whose files it reads: the chosen runs of one category; the first chosen run of every category; all results.
    draws: Literal["category", "categories", "results"] = field(default="category", kw_only=True)
    every_seed: bool = field(default=False, kw_only=True)  # whether it draws runs of all seeds, or of the first alone

    @property
    def script(self) -> str:
        """Its file in workflow/scripts: `umap.py` would be taken for the package of this name."""
        return self.rule


_KEYED = "{dataset}/{category}/{stage}"
_RUN = "runs/{dataset}/{category}/{run}"
_ENSEMBLE = "ensembles/{dataset}/{category}/{run}"

_ROWS = (
    Stage(
        "sample",
        "draw_sample",
        {"folder": "sample/{category}"},  # unless the configuration gives the sample another root
        base_mb=90,
        base_s=1.0,
    ),
    Stage(
        "index",
        "index_category",
        {"manifest": "index/{dataset}/{category}.json"},
        threads=2,
        priority=2,  # problems of the data show before any heavy work
        base_mb=50,
        memory=costs.index_memory,
        base_s=0.3,
        work=costs.index_work,
        advice="scale the images",
    ),
    Stage("plan", "write_plan", {"plan": "plan.csv"}, base_mb=36, base_s=0.3),
    Stage(
        "weights",
        "fetch_weights",
        {"weights": "weights/{backbone}.json"},
        priority=2,  # without a network, say so once and before any heavy work
        base_mb=1500,
        base_s=60.0,  # a download: a guess
    ),
    Stage(
        "features",
        "extract_features",
        {
            "train": f"features/{_KEYED}/train.npy",
            "test": f"features/{_KEYED}/test.npy",
            "validation": f"features/{_KEYED}/validation.npy",
            "facts": f"features/{_KEYED}/features.json",
        },
        (Read("manifest", "index", "manifest"),),
        threads=2,
        priority=0,  # features are used before more of them are extracted, so that few lie on the disk at once
        gpu=True,
        base_mb=1000,
        memory=costs.extraction_memory,
        gpu_mb=costs.extraction_gpu,
        base_s=4.5,
        work=costs.extraction_work,
        advice="lower batch_images, crop or feature_dim, scale very large images",
        made_for="run",
        temporary=frozenset({"train", "test", "validation"}),
        recorded=True,
        digests=("test_features", "train_features", "validation_features"),
    ),
    Stage(
        "masks",
        "read_masks",
        {"masks": f"masks/{_KEYED}/masks.npy", "defects": f"masks/{_KEYED}/defects.safetensors"},
        (Read("manifest", "index", "manifest"),),
        base_mb=48,
        memory=costs.masks_memory,
        base_s=0.3,
        work=costs.masks_work,
        advice="scale the images, or lower crop",
        made_for="run",
    ),
    Stage(
        "training",
        "train_representation",
        {"f": f"training/{_KEYED}/f.safetensors", "facts": f"training/{_KEYED}/training.json"},
        (Read("train", TRAINING_FEATURES, "train"),),
        gpu=True,
        base_mb=1000,
        memory=costs.training_memory,
        gpu_mb=costs.training_gpu,
        base_s=2.5,
        work=costs.training_work,
        advice="lower batch or dim",
        made_for="reconpatch",
        recorded=True,
    ),
    Stage(
        "bank",
        "select_coreset",
        {"bank": f"bank/{_KEYED}/bank.safetensors", "facts": f"bank/{_KEYED}/bank.json"},
        (
            Read("train", TRAINING_FEATURES, "train"),
            Read("features", TRAINING_FEATURES, "facts"),
            Read("f", "training", "f"),
        ),
        gpu=True,
        gpu_key="gpu_coreset",
        base_mb=255,  # with what compiles its loops, the first time
        memory=costs.bank_memory,
        gpu_mb=costs.bank_gpu,
        base_s=0.6,
        work=costs.bank_work,
        advice="lower coreset, coreset_dim, dim or crop",
        made_for="run",
        recorded=True,
        digests=("train_features",),
    ),
    Stage(
        "score",
        "score_run",
        {"record": f"{_RUN}/record.json", "scores": f"{_RUN}/scores.safetensors"},
        (
            Read("manifest", "index", "manifest"),
            Read("test", "features", "test"),
            Read("validation", "features", "validation"),
            Read("masks", "masks", "masks"),
            Read("defects", "masks", "defects"),
            Read("features", "features", "facts"),
            Read("training", "training", "facts"),
            Read("bank", "bank", "bank"),
            Read("bank_facts", "bank", "facts"),
        ),
        gpu=True,
        base_mb=300,
        memory=costs.score_memory,
        gpu_mb=costs.search_gpu,
        base_s=0.6,
        work=costs.score_work,
        advice="lower coreset, dim or crop",
        made_for="run",
        recorded=True,
    ),
    Stage(
        "training_scores",
        "score_training",
        {"scores": f"{_RUN}/training.safetensors"},
        (Read("train", TRAINING_FEATURES, "train"), Read("bank", "bank", "bank")),
        gpu=True,
        base_mb=270,
        memory=costs.training_scores_memory,
        gpu_mb=costs.search_gpu,
        base_s=0.6,
        work=costs.training_scores_work,
        advice="lower coreset, dim or crop",
        made_for="zscore",
    ),
    # Of test images whose truth only a server knows.
    Stage(
        "submission",
        "write_submission",
        {"part": "submissions/{dataset}/{run}/{category}.tar", "facts": "submissions/{dataset}/{run}/{category}.json"},
        (
            Read("manifest", "index", "manifest"),
            Read("bank", "bank", "bank"),
            Read("record", "score", "record"),
        ),
        threads=2,
        gpu=True,
        base_mb=1000,
        memory=costs.submission_memory,
        gpu_mb=costs.extraction_gpu,
        base_s=4.5,
        work=costs.submission_work,
        advice="lower batch_images or crop, or scale very large images",
    ),
    # What an ensemble reads are its members' files, `plan.ensembles` says which.
    Stage(
        "ensemble",
        "combine_ensemble",
        {"record": f"{_ENSEMBLE}/record.json", "scores": f"{_ENSEMBLE}/scores.safetensors"},
        (
            Read("manifest", "index", "manifest"),
            Read("records", "score", "record"),
            Read("scores_of_members", "score", "scores"),
            Read("training", "training_scores", "scores"),
            Read("masks", "masks", "masks"),
            Read("defects", "masks", "defects"),
        ),
        base_mb=85,
        memory=costs.ensemble_memory,
        base_s=0.4,
        work=costs.ensemble_work,
        advice="lower crop",
        recorded=True,
    ),
    # What a table reads are the results of all runs and ensembles of its experiment, and the manifests.
    Stage(
        "table",
        "make_table",
        {
            "cells": "tables/{experiment}.csv",
            "summary": "tables/{experiment}_summary.csv",
            "defects": "tables/{experiment}_defects.csv",
            "parquet": "tables/{experiment}.parquet",
            "md": "tables/{experiment}.md",
            "tex": "tables/{experiment}.tex",
            "more_tex": "tables/{experiment}_more.tex",
            "html": "tables/{experiment}.html",
            "settings": "tables/{experiment}.json",
        },
        base_mb=170,
        memory=costs.table_memory,
        base_s=1.5,
        work=costs.table_work,
    ),
    # One of the pairs of runs that the report shows: `run` and, if it is of ReConPatch, PatchCore's with its settings.
    Stage(
        "thumbnails",
        "make_thumbnails",
        {"thumbnails": "thumbnails/{dataset}/{category}/{run}.json"},
        (Read("runs", "score", "record"), Read("scores", "score", "scores"), Read("manifest", "index", "manifest")),
        base_mb=290,
        base_s=5.0,
    ),
    Stage("report", "report", {"page": "report.html"}, base_mb=150, base_s=1.0),
)


def _of_category(kind: str, suffix: str = "svg") -> dict[str, str]:
    return _beside(f"figures/{{experiment}}/{{dataset}}/{{category}}/{kind}", suffix)


def _of_experiment(kind: str, suffix: str = "svg") -> dict[str, str]:
    return _beside(f"figures/{{experiment}}/{kind}", suffix)


def _beside(stem: str, suffix: str) -> dict[str, str]:
    """The files of a figure: the one that the report shows, SVG or, of photographs, PNG; the other formats; the
    caption as text and for LaTeX.
    """
    others = {each: f"{stem}.{each}" for each in ("pdf", "svg", "png") if each != suffix}
    return {"figure": f"{stem}.{suffix}", **others, "caption": f"{stem}.txt", "caption_tex": f"{stem}.tex"}


_MANIFEST = Read("manifest", "index", "manifest")
_RECORDS, _SCORES = Read("runs", "score", "record"), Read("scores", "score", "scores")
_BANKS = Read("banks", "bank", "bank")

_FIGURE_ROWS = (
    Figure(
        "qualitative",
        "draw_qualitative",
        _of_category("qualitative", "png"),
        (_RECORDS, _SCORES, _MANIFEST),
        base_mb=340,
        memory=costs.pictures_memory,
        base_s=2.0,
        work=costs.pictures_work,
        photographs=True,
        caption="Test images and anomaly maps. Solid orange: ground truth; dashed green: threshold of the best pixel "
        "F1, which is chosen on the test set; star: maximum of the map. Maps of a method share one colour scale. Of "
        "every defect type the image of median score, so neither the best nor the worst.",
    ),
    Figure(
        "gallery",
        "draw_gallery",
        _of_experiment("gallery", "png"),
        (_RECORDS, _SCORES, Read("manifests", "index", "manifest")),
        base_mb=340,
        memory=costs.pictures_memory,
        base_s=2.0,
        work=costs.pictures_work,
        draws="categories",
        photographs=True,
        caption="One defective image a category, of median score among those with a mask; below it its anomaly map, "
        "scaled to [0, 1]. Solid orange: ground truth; dashed green: threshold of the category's best pixel F1; star: "
        "maximum.",
    ),
    Figure(
        "histogram",
        "draw_histogram",
        _of_category("histogram"),
        (_RECORDS, _SCORES, _MANIFEST),
        base_mb=125,
        base_s=2.0,
        caption="Image scores of the test set, those of each method scaled to [0, 1]; d' is the distance of the means "
        "in units of the pooled standard deviation.",
    ),
    Figure(
        "roc",
        "draw_roc",
        _of_category("roc"),
        (_RECORDS, _SCORES, _MANIFEST),
        base_mb=285,
        base_s=3.0,
        caption="ROC curve, and precision over recall, of the image scores of the test set. Grey: what scores without "
        "any information give.",
    ),
    Figure(
        "umap",
        "draw_umap",
        _of_category("umap"),
        (_RECORDS, Read("features", "features", "test"), _MANIFEST, Read("masks", "masks", "masks"), _BANKS),
        base_mb=680,
        base_s=11.0,
        caption="UMAP of patch representations: memory bank, normal test patches, test patches inside a defect, "
        "of each up to 500 drawn at random. Test patches are the same in all panels.",
    ),
    Figure(
        "positions",
        "draw_positions",
        _of_category("positions"),
        (_RECORDS, Read("features", TRAINING_FEATURES, "train"), _MANIFEST, _BANKS),
        base_mb=680,
        base_s=11.0,
        photographs=True,
        caption="UMAP of the representations of four patch positions, one point per training image and position.",
    ),
    Figure(
        "sweep",
        "draw_sweep",
        _of_experiment("sweep"),
        (Read("cells", "table", "cells"), Read("records", "score", "record")),
        base_mb=210,
        base_s=2.2,
        draws="results",
        caption="AUROC over what the table sweeps, with 95 % intervals of each value by itself: whether "
        "a difference is significant, the paired gains of the table say. Hollow, where there are any: published "
        "numbers.",
    ),
    Figure(
        "effects",
        "draw_effects",
        _of_experiment("effects"),
        (
            Read("cells", "table", "cells"),
            Read("settings", "table", "settings"),
            Read("records", "score", "record"),
        ),
        base_mb=210,
        base_s=2.2,
        draws="results",
        caption="What each row of the table changes against its reference row, in points of AUROC with 95 % intervals; "
        "the largest effect at the top. Black edge: significant at 5 %, corrected for the number of rows (Holm).",
    ),
    Figure(
        "gains",
        "draw_gains",
        _of_experiment("gains"),
        (Read("cells", "table", "cells"), Read("records", "score", "record")),
        base_mb=210,
        base_s=2.2,
        draws="results",
        caption="Gain over PatchCore by category, in points with paired 95 % intervals; the largest gain in image "
        "AUROC at the top, means below the line; hollow: the published gain. Black edge: significant at 5 %, of a "
        "category corrected for their number (Holm).",
        every_seed=True,
    ),
    Figure(
        "ranks",
        "draw_ranks",
        _of_experiment("ranks"),
        (Read("cells", "table", "cells"), Read("records", "score", "record")),
        base_mb=290,
        base_s=4.5,
        draws="results",
        caption="Average ranks of the methods over categories, 1 is the best. A bar joins methods that do not differ "
        "significantly: their ranks differ by less than the critical difference (CD, Nemenyi's test at 5 %).",
    ),
    Figure(
        "curve",
        "draw_curve",
        _of_category("curve"),
        (_RECORDS, Read("training", "training", "facts")),
        base_mb=130,
        base_s=2.0,
        caption="Left: loss and mean pairwise similarity of every epoch. Right: AUROC of the representation after some "
        "epochs, 0: as it is drawn; dashed: PatchCore. Lines are means over seeds, shades reach from the lowest to the "
        "highest seed.",
        every_seed=True,
    ),
)

FIGURES: dict[str, Figure] = {row.name: row for row in _FIGURE_ROWS}
STAGES: dict[str, Stage] = {row.name: row for row in (*_ROWS, *_FIGURE_ROWS)}
# Stages whose jobs runs share; the run's fields that such a stage depends on are in its name.
KEYED: tuple[Stage, ...] = tuple(row for row in STAGES.values() if "stage" in row.wildcards)
BY_RULE: dict[str, Stage] = {row.rule: row for row in STAGES.values()}
# What is made for a run or an ensemble lies in <one of RESULT_FOLDERS>/<data set>/<category>/<run>/.
_OF_RUNS = [STAGES[name].files for name in ("score", "training_scores", "ensemble")]
RESULT_FOLDERS = tuple(dict.fromkeys(file.split("/")[0] for files in _OF_RUNS for file in files.values()))
RESULT_FILES = {Path(file).name for files in _OF_RUNS for file in files.values()}
RECORD = Path(STAGES["score"].files["record"]).name
SCORES = Path(STAGES["score"].files["scores"]).name
# Names of rules, which no experiment may have, since experiments are targets beside them.
RULES = frozenset({"all", "report_all", "report_smoke", "submission_ad2", *BY_RULE} - {"report"})


def _matters(key: str, stage: str, run: Run) -> bool:
    """Whether a field that a stage uses can change what it makes, given the run's other fields."""
    augmented = run.augment != "none"
    if key.startswith("augment"):
        return augmented
    if key == "seed" and stage in ("masks", "features"):
        return augmented or (stage == "features" and run.weights == "random")
    if key in ("init", "bias"):
        return run.method != "patchcore"
    if key == "aspect":
        return run.aspect != "crop"
    if key == "resize":
        return run.aspect == "crop"
    if key == "epoch":
        return run.method == "reconpatch" and run.epoch not in (None, run.epochs)
    return stage != "training" or run.method == "reconpatch"


@cache
def _with_sources(stage: str) -> frozenset[str]:
    """A stage and all stages that it builds on."""
    name = "features" if stage == TRAINING_FEATURES else stage
    return frozenset({name}).union(*(_with_sources(read.stage) for read in STAGES[name].reads))


def description(run: Run, stage: str) -> dict[str, Any]:
    """A run, one of its stages -> the fields that the stage depends on, itself or through the stages before it.

    PatchCore has no training, so no field of it. `features` and `masks` are those of the test images; those of the
    training images are `description(of_training(run), "features")`.
    """
    if stage in ("training", "bank"):
        run = of_training(run)
    fields = run.model_dump(mode="json") | {"level_dim": run.level_width, "feature_dim": run.width}
    if run.neighbours == 1:
        fields["reweight"] = None  # without neighbours there is nothing to weight
    if run.augment != "none" and stage in ("masks", "features"):
        fields["augment"] = "drawn"  # runs that augment test images alone, or both, share the test images
    used = _with_sources(stage)
    return {
        key: value
        for key, value in fields.items()
        if any(each in used and _matters(key, each, run) for each in ORIGINS[key].stages)
    }
