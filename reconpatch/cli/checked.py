"""What `reconpatch check` finds of data sets, weights and networks before anything runs."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from reconpatch.data.catalogue import Counts, category_counts
from reconpatch.data.images import load_image, view
from reconpatch.data.index import index
from reconpatch.data.layouts import Item, category_folder, unlabelled_images
from reconpatch.data.manifest import frame_shape
from reconpatch.data.published import data_flags
from reconpatch.data.remarks import enlarged_remarks
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.checks import check_backbones, embedding_remarks, stray_weights
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.outputs import reasons
from reconpatch.experiments.plan import Plan, Target


@dataclass(frozen=True)
class Images:
    """What was found of the images of one category."""

    training: int
    normal: int  # test images
    anomalous: int
    validation: int  # further normal images
    unlabelled: int  # whose truth only a server knows
    masks: int
    defects: dict[str, int]  # type of defect -> images
    remarks: list[str]

    def __str__(self) -> str:
        counts = f"{self.training} training, {self.normal} normal and {self.anomalous} anomalous test images"
        counts += f", {self.validation} validation images" if self.validation else ""
        counts += f", {self.unlabelled} test images without truth" if self.unlabelled else ""
        kinds = ", ".join(f"{quote(kind)} {count}" for kind, count in self.defects.items()) or "none"
        remarks = "".join(f"\n  remark: {remark}" for remark in self.remarks)
        return f"{counts}, {self.masks} masks; defects: {kinds}; all readable{remarks}"


@dataclass(frozen=True)
class Weights:
    """What was found of a network's weights."""

    backbone: str
    levels: list[int]
    weights: str  # pretrained, embedded, file or random
    sha256: str | None = None  # None: not here; the first run that needs them downloads them
    pinned: bool = False  # whether the configuration asks for these bytes

    def __str__(self) -> str:
        if self.sha256 is None:
            return f"{self.backbone}: {self.weights} weights, downloaded by the first run that needs them"
        pinned = ", as pinned" if self.pinned else ""
        return (
            f"{self.backbone}, levels {tuple(self.levels)}: {self.weights} weights fit; SHA-256 {self.sha256}{pinned}"
        )


@dataclass
class Checked:
    """What was found."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # what data lack -> experiments left out or in part
    weights: list[Weights] = field(default_factory=list)
    images: dict[str, Images] = field(default_factory=dict)  # data set/category ->
    computes: str = ""


def check(plan: Plan, networks: Networks, results: Path, tell: Callable[[str], object]) -> Checked:
    """Plan, networks known, folder of results -> what was found; a line on each, when it is found, goes to `tell`."""
    found = Checked()
    try:
        known = check_backbones(plan, networks)
    except ReconpatchError as error:
        found.problems.append(str(error))
    else:
        for remark in embedding_remarks(plan, known):
            found.remarks.append(remark)
            tell(f"remark: {remark}")
        found.weights, problems = check_weights(plan)
        for line in dict.fromkeys(map(str, found.weights)):
            tell(line)
        found.problems += problems + stray_weights(plan, results)
        for remark in undownloaded(found.weights):
            found.remarks.append(remark)
            tell(f"remark: {remark}")
    lacking = reasons(plan.weightless)
    found.problems += [f"{why} ({', '.join(names)})" for why, names in lacking.items()]
    for why, names in reasons(plan.absent).items():
        if why not in lacking:
            found.left_out[why] = names
            tell(f"left out: {why} ({', '.join(names)})")
    for target in sorted({target for targets in plan.targets.values() for target in targets}):
        if plan.dataset(target[0]).layout == "sample":
            continue  # drawn by the workflow itself
        try:
            found.images["/".join(target)] = images = check_images(plan, target)
            tell(f"{'/'.join(target)}: {images}")
        except ReconpatchError as error:
            found.problems.append(str(error))
    found.computes = devices_used(plan.config.device)
    tell(found.computes)
    return found


def check_images(plan: Plan, target: Target) -> Images:
    """Plan, one of its categories -> what its images are, all of which are read.

    Raises ReconpatchError for what cannot be read or does not fit.
    """
    dataset, category = target
    layout = plan.dataset(dataset).layout
    items = index(layout, plan.root(dataset), category, os.cpu_count() or 1)
    test = [item.label for item in items if item.split == "test"]
    withheld = check_withheld(layout, category_folder(layout, plan.root(dataset), category))
    return Images(
        training=sum(item.split == "train" for item in items),
        normal=test.count(0),
        anomalous=sum(test),
        validation=sum(item.split == "validation" for item in items),
        unlabelled=withheld,
        masks=sum(len(item.masks) for item in items),
        defects=dict(Counter(item.defect for item in items if item.label)),
        remarks=[
            *map(str, data_flags(layout, category, items)),
            *small_images(plan, target, items),
            *withheld_remarks(layout, category, withheld),
            *undrawable({item.defect for item in items}),
        ],
    )


def check_withheld(layout: str, folder: Path) -> int:
    """Layout, a category's folder -> the number of its test images without truth, all of which are read.

    Raises one ReconpatchError for those that cannot be read.
    """

    def problem(path: Path) -> str:
        try:
            load_image(path)
        except ReconpatchError as error:
            return str(error)
        return ""

    images = unlabelled_images(layout, folder)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        problems = list(filter(None, pool.map(problem, images)))
    if problems:
        raise ReconpatchError(
            "\n  ".join(
                [
                    f"{folder.name}: {len(problems)} problem(s) in test images without truth; restore these files:",
                    *problems,
                ]
            )
        )
    return len(images)


def withheld_remarks(layout: str, category: str, found: int) -> list[str]:
    """Layout, category, number of its test images without truth -> a remark where the published number differs."""
    published = category_counts(layout).get(category, Counts(0, 0, 0)).unlabelled
    what = f"test images without truth: {found}, published {published}; a submission needs all"
    return [what] if found != published else []


def small_images(plan: Plan, target: Target, items: Sequence[Item]) -> list[str]:
    """Plan, a category and its images -> a remark on those that the run which enlarges them most enlarges far.

    Raises ReconpatchError for a run that cannot see all of them in one shape.
    """
    members = {name for experiment, on in plan.targets.items() if target in on for name in plan.members(experiment)}
    ways = {(run.crop, run.resize, run.aspect) for name, run in plan.runs.items() if name in members}
    for crop, _, aspect in ways:
        frame_shape(items, {"crop": crop, "aspect": aspect})
    factors = [
        max((view(i.width, i.height, size=c, resize=r, aspect=a).enlargement() for c, r, a in ways), default=0.0)
        for i in items
    ]
    return list(enlarged_remarks([i.path for i in items], factors))


def undrawable(names: Iterable[str]) -> list[str]:
    """Names of defects -> a remark on each that figures show in another form, as no font has all its characters."""
    foreign = sorted(name for name in names if not name.isascii())
    if not foreign:
        return []
    from reconpatch.results.figures.fonts import drawable  # imports matplotlib

    shown = {name: " ".join(drawable(name).split("\n")) for name in foreign}
    return [
        f"figures show {quote(name)} as {text}, because no installed font has its characters; install one that has, "
        "for example from the Noto family"
        for name, text in shown.items()
        if text != name
    ]


def undownloaded(weights: Sequence[Weights]) -> list[str]:
    """What was found of weights -> a remark on each network whose weights are not here and cannot be downloaded now."""
    from reconpatch.method.backbones import check_pretrained

    remarks = []
    for name in sorted({each.backbone for each in weights if each.weights == "pretrained"}):
        try:
            check_pretrained(name)
        except ReconpatchError as error:
            remarks.append(str(error))
    return remarks


def check_weights(plan: Plan) -> tuple[list[Weights], list[str]]:
    """Plan -> what was found of the weights of its networks, and what is wrong with those that are at hand.

    Pretrained ones are downloaded when first used.
    """
    from reconpatch.method.backbones import load_backbone

    found: list[Weights] = []
    problems = []
    used = {(run.backbone, run.weights, run.levels): run for run in plan.runs.values()}
    for (name, weights, levels), run in sorted(used.items(), key=lambda item: item[0]):
        if weights == "pretrained":
            found.append(Weights(name, list(levels), weights))
            continue
        pinned = plan.config.weight_digests.get(name, ())
        try:
            loaded = load_backbone(name, levels, weights, plan.weight_file(run), seed=run.seed, pinned=pinned)
        except ReconpatchError as error:
            problems.append(str(error))
            continue
        found.append(Weights(name, list(levels), weights, str(loaded.weights["sha256"]), bool(pinned)))
    return found, problems


def devices_used(device: str) -> str:
    """auto, cpu or cuda -> what computes here, as a sentence."""
    import torch

    from reconpatch.method.search import choose_engine

    network = torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else "the CPU"
    if device == "cuda" and network == "the CPU":
        return "there is no GPU here, and device: cuda asks for one; jobs must run elsewhere"
    return f"network and training run on {network}, and the memory bank is searched by {choose_engine(device)}"
