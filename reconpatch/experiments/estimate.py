"""What a plan will need: images, jobs' memory, time and disk, from numbers of files and shapes, before any job."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

from reconpatch.data.layouts import category_folder, count_images, list_items
from reconpatch.experiments import needs, times
from reconpatch.experiments.needs import Need, Network
from reconpatch.experiments.plan import Plan, Target, stage_name
from reconpatch.experiments.run import Run, description, of_training
from reconpatch.experiments.stages import BY_RULE
from reconpatch.experiments.times import Time

TYPICAL = 12  # panels of a category's qualitative figure: four kinds of image, each with two maps
THREADS = 2  # of the jobs that decode images with several, as their rules say
MEGAPIXEL = 10**6  # of images whose size cannot be told; the index says what is wrong with them
UNPLANNED = 1000  # MB for a job of a rule that no job of the plan has
UNTIMED = 3600.0  # seconds for one
Counts = tuple[int, int]  # training and test images
Both = tuple[Need, Time]


class Job(NamedTuple):
    """What tells a job from all others: its rule and wildcards, those it has not being empty."""

    rule: str
    dataset: str = ""
    category: str = ""
    name: str = ""  # of the stage, run or experiment


@dataclass(frozen=True)
class Estimate:
    """Predicted needs of a plan."""

    features_gb: float  # disk of all feature files together
    largest_gb: float  # of the largest single set of them
    jobs: dict[Job, Need]  # memory of the jobs that are not small whatever the plan
    times: dict[Job, Time] = field(default_factory=dict)  # of the same jobs

    def mb(self, job: Job) -> int:
        """Memory of a job; of one outside the plan, as its stage on another category, the largest of its rule. MB."""
        if job in self.jobs:
            return self.jobs[job].mb
        return max((need.mb for known, need in self.jobs.items() if known.rule == job.rule), default=UNPLANNED)

    def seconds(self, job: Job) -> float:
        """Time of a job with the threads of its rule; of one outside the plan the longest of its rule."""
        if job in self.times:
            return self.times[job].wall(threads_of(job.rule))
        return max((self.seconds(known) for known in self.times if known.rule == job.rule), default=UNTIMED)

    def longest(self) -> dict[str, tuple[float, Job]]:
        """Rule -> seconds of one core that all its jobs take, and the longest of them."""
        found: dict[str, tuple[float, Job]] = {}
        for job, time in self.times.items():
            total, most = found.get(job.rule, (0.0, job))
            found[job.rule] = total + time.cpu, max(most, job, key=self.seconds)
        return found

    def by_rule(self) -> list[tuple[str, int, Job, Need]]:
        """Per rule: its name, number of jobs, the job of largest memory and this."""
        counts = Counter(job.rule for job in self.jobs)
        largest = {
            rule: max((j for j in self.jobs if j.rule == rule), key=lambda j: self.jobs[j].mb) for rule in counts
        }
        return [(rule, counts[rule], job, self.jobs[job]) for rule, job in largest.items()]


def threads_of(rule: str) -> int:
    """Cores of a rule's jobs."""
    return BY_RULE[rule].threads if rule in BY_RULE else 1


def grid(crop: int, stride: int) -> int:
    """px of the crop, stride of the first level -> patches along a side."""
    return -(-crop // stride)


def width(run: Run) -> int:
    """Values a patch feature has: PatchCore may pool directly to its dimension."""
    return int(description(run, "features")["feature_dim"])


def image_counts(plan: Plan, dataset: str, category: str) -> Counts:
    """(training, test) images of a category, those of the embedded sample before they are drawn."""
    data = plan.dataset(dataset)
    if data.layout == "sample":
        from reconpatch.data.sample import COUNTS, DEFECTS

        return COUNTS["train"], COUNTS["good"] + len(DEFECTS) * COUNTS["defect"]
    return count_images(data.layout, category_folder(data.layout, plan.root(dataset), category))


def image_pixels(plan: Plan, dataset: str, category: str) -> int:
    """Pixels of a category's first training image, from the header of its file: its other images are as large."""
    data = plan.dataset(dataset)
    if data.layout == "sample":
        from reconpatch.data.sample import SIDE

        return SIDE**2
    folder = category_folder(data.layout, plan.root(dataset), category)
    path = next((folder / item.path for item in list_items(data.layout, folder, []) if item.split == "train"), None)
    try:
        if path is None or not path.is_file():  # a pipe would never open
            return MEGAPIXEL
        from PIL import Image

        from reconpatch.data.decoding import FORMATS, MAX_PIXELS

        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            return min(image.width * image.height, MAX_PIXELS)
    except Exception:  # Pillow's parsers raise anything on damaged files
        return MEGAPIXEL


def features_bytes(run: Run, stride: int, images: int) -> int:
    """Disk of the patch features of some images, float16, without the file's header."""
    return images * grid(run.crop, stride) ** 2 * width(run) * 2


def estimate(plan: Plan, networks: Mapping[str, Network]) -> Estimate:
    """Plan, network of each of its runs as `checks.check_backbones` gives them -> predicted disk, memory and time."""
    features: dict[Job, int] = {}
    jobs: dict[Job, Both] = {}
    counted = cache(partial(image_counts, plan))
    sized = cache(partial(image_pixels, plan))
    for name, targets in plan.targets.items():
        members = plan.members(name)
        most = max((counted(*target)[1] for target in targets), default=0)
        if members and targets:
            results = len(targets) * len(members)
            jobs[Job("make_table", name=name)] = needs.table(results, most), times.table(results, most)
            jobs |= _of_pictures(plan, name, targets)
        for target in targets:
            counts, pixels = counted(*target), sized(*target)
            jobs[Job("index_category", *target)] = needs.index(pixels, THREADS), times.index(sum(counts), pixels)
            for key in members:
                if key in plan.runs:
                    run = plan.runs[key]
                    for side in (run, of_training(run)):
                        job = Job("extract_features", *target, stage_name(side, "features"))
                        features[job] = features_bytes(side, networks[key].stride, sum(counts))
                    jobs |= _of_run(plan, networks[key], key, target, counts, pixels)
                else:
                    jobs |= _of_ensemble(plan, networks, key, target, counts)
    memory = {job: need for job, (need, _) in jobs.items()}
    spent = {job: time for job, (_, time) in jobs.items()}
    return Estimate(sum(features.values()) / 1e9, max(features.values(), default=0) / 1e9, memory, spent)


def of_run(
    run: Run,
    network: Network,
    counts: Counts,
    ratio: float,
    batch_images: int,
    pixels: int = MEGAPIXEL,
    threads: int = THREADS,
) -> dict[str, Need]:
    """Run, its network, (training, test) images, ratio of the bank in its file, images a pass, px of an image, threads
    that decode -> rule -> memory of the run's job.

    An ensemble's rule is there, too, for an ensemble of two such runs.
    """
    (train, test), side, wide = counts, grid(run.crop, network.stride), width(run)
    patches, tested = train * side**2, test * side**2
    kept, used = (max(1, int(patches * share)) for share in (ratio, run.coreset))  # as memory.coreset_size
    searched = (wide, run.dim, kept, used, run.neighbours)
    return {
        "read_masks": needs.masks(test, run.crop, pixels),
        "extract_features": needs.extraction(
            run.backbone, network.parameters, run.crop, side, wide, batch_images, pixels, threads
        ),
        "train_representation": needs.training(patches, wide, run.dim, run.projection_dim, run.batch),
        "select_coreset": needs.bank(patches, wide, run.dim, run.coreset_dim, kept),
        "score_run": needs.score(tested, *searched, test, run.crop),
        "score_training": needs.training_scores(patches, *searched),
        "combine_ensemble": needs.ensemble(test, run.crop, tested, patches, 2),
    }


def times_of_run(run: Run, network: Network, counts: Counts, ratio: float, pixels: int = MEGAPIXEL) -> dict[str, Time]:
    """As `of_run`: rule -> time of the run's job."""
    (train, test), side, wide = counts, grid(run.crop, network.stride), width(run)
    patches, tested, learnt = train * side**2, test * side**2, run.method == "reconpatch"
    kept, used = (max(1, int(patches * share)) for share in (ratio, run.coreset))
    searched = (wide, run.dim, used, run.neighbours, learnt)
    return {
        "read_masks": times.masks(test, run.crop, pixels),
        "extract_features": times.extraction(
            run.backbone, network.parameters, run.crop, side, wide, train + test, pixels
        ),
        "train_representation": times.training(patches, wide, run.dim, run.projection_dim, run.batch, run.epochs),
        "select_coreset": times.bank(patches, wide, run.dim, run.coreset_dim, kept, learnt),
        "score_run": times.score(tested, *searched, test, run.crop),
        "score_training": times.training_scores(patches, *searched),
    }


def _of_run(plan: Plan, network: Network, key: str, target: Target, counts: Counts, pixels: int) -> dict[Job, Both]:
    """The jobs behind a run on a category."""
    run = plan.runs[key]
    trained = of_training(run)
    bank = stage_name(trained, "bank")
    ratio = plan.ratios[*target, bank]
    found = of_run(run, network, counts, ratio, plan.config.batch_images, pixels)
    spent = times_of_run(run, network, counts, ratio, pixels)
    names = {"read_masks": [stage_name(run, "masks")], "select_coreset": [bank], "score_run": [key]}
    names["extract_features"] = [stage_name(side, "features") for side in (run, trained)]
    if run.method == "reconpatch":
        names["train_representation"] = [stage_name(trained, "training")]
    return {Job(rule, *target, name): (found[rule], spent[rule]) for rule, each in names.items() for name in each}


def _of_ensemble(
    plan: Plan, networks: Mapping[str, Network], key: str, target: Target, counts: Counts
) -> dict[Job, Both]:
    """The ensemble's own job, and those that score the training images for it."""
    combination, (train, test) = plan.ensembles[key], counts
    runs = {member: plan.runs[member] for member in combination.members}
    patches = max(grid(run.crop, networks[member].stride) for member, run in runs.items()) ** 2
    jobs: dict[Job, Both] = {}
    references = 0
    if combination.combine == "zscore":
        references = train * patches
        for member, run in runs.items():
            ratio = plan.ratios[*target, stage_name(of_training(run), "bank")]
            need = of_run(run, networks[member], counts, ratio, plan.config.batch_images)["score_training"]
            time = times_of_run(run, networks[member], counts, ratio)["score_training"]
            jobs[Job("score_training", *target, member)] = need, time
    crop = max(run.crop for run in runs.values())
    need = needs.ensemble(test, crop, test * patches, references, len(runs))
    return jobs | {Job("combine_ensemble", *target, key): (need, times.ensemble(test, crop, len(runs)))}


def _of_pictures(plan: Plan, name: str, targets: Sequence[Target]) -> dict[Job, Both]:
    """An experiment's figures of photographs: a map below each; of a category, how many depends on its defects."""
    jobs: dict[Job, Both] = {}
    for run in (plan.runs[key] for key in plan.drawn(name, "gallery")[:1]):
        jobs[Job("draw_gallery", name=name)] = _picture("draw_gallery", 2 * len(targets), run)
    for run in (plan.runs[key] for key in plan.drawn(name, "qualitative")[:1]):
        rule = "draw_qualitative"
        jobs |= {Job(rule, *target, name): _picture(rule, TYPICAL, run) for target in targets}
    return jobs


def _picture(rule: str, panels: int, run: Run) -> Both:
    return needs.pictures(panels, run.crop), times.pictures(rule, panels, run.crop)
