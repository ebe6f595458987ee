"""What a plan needs before any job runs: images, disk, and memory and time of every job; and whether the jobs fit.

Numbers of images are counted and sizes read from a header; the rest are formulas (`costs.py`) that the stage table
names.
"""

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import NamedTuple

from reconpatch.data.layouts import LAYOUTS, category_folder, count_images, list_items, unlabelled_images
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config
from reconpatch.experiments.costs import Memory, Network, Sizes, Time, features_bytes, sizes_of
from reconpatch.experiments.plan import Plan, Target, sources, stage_names, stages_behind
from reconpatch.experiments.run import Run
from reconpatch.experiments.stages import BY_RULE, FIGURES, STAGES, TRAINING_FEATURES, Stage

TYPICAL_PANELS = 12  # of a figure of one category: four kinds of image, each with two maps
UNPLANNED_MB, UNPLANNED_S = 1000, 3600.0  # for a job whose rule has no job in the plan
# MB of the two Snakemakes around a job of a cluster: 188 MB each with the smoke run's plan, 193 MB with the paper's.
AROUND_MB = 400
CUDA_MB = 2000  # MB of host memory that CUDA and pinned batches take: not measured, and rather too much
LONGEST = 10**7  # s: more than any chain of jobs takes
SAFETY, LEAST_MINUTES = 4, 10  # schedulers end what runs longer: leave room for slower machines, disks and neighbours
Counts = tuple[int, int]  # training and test images
ImageSize = tuple[int, int]  # px, width and height
UNKNOWN_SIZE = 1000, 1000


class Job(NamedTuple):
    """What tells a job from all others: its rule and its wildcards, of which those it does not have are empty."""

    rule: str
    dataset: str = ""
    category: str = ""
    name: str = ""  # of the stage, run or experiment

    @property
    def about(self) -> str:
        """The job's wildcards as messages show them."""
        return "/".join(filter(None, self[1:]))


def job_of(rule: str, wildcards: object) -> Job:
    """A rule and a job's wildcards -> the job as a plan names it."""
    dataset, category = (getattr(wildcards, key, "") for key in ("dataset", "category"))
    names = (getattr(wildcards, key, "") for key in ("stage", "run", "experiment"))
    return Job(rule, dataset, category, next(filter(None, names), ""))


class Need(NamedTuple):
    """What a job needs: memory, time, and the jobs whose files it reads."""

    memory: Memory
    time: Time
    after: frozenset[Job] = frozenset()
    gpu_mb: float = 0.0  # of a GPU's memory, where it uses one


@dataclass(frozen=True)
class Estimate:
    """Predicted needs of a plan."""

    features: dict[Job, int] = field(default_factory=dict)  # bytes of each set of features
    jobs: dict[Job, Need] = field(default_factory=dict)  # jobs whose needs follow from sizes
    asked: dict[Job, Need] = field(default_factory=dict)  # the same of jobs that run only if they are asked for

    def add(self, stage: Stage, job: Job, sizes: Sizes, after: frozenset[Job] = frozenset()) -> None:
        """Enter what a job of a stage needs, and the jobs whose files it reads."""
        gpu_mb = stage.gpu_mb(sizes) if stage.gpu_mb else 0.0
        jobs = self.asked if stage.name == "submission" else self.jobs
        jobs[job] = Need(stage.memory_of(sizes), stage.time_of(sizes), after, gpu_mb)

    @property
    def features_gb(self) -> float:
        """Disk that all features take together."""
        return sum(self.features.values()) / 1e9

    @property
    def largest_gb(self) -> float:
        """Disk of the largest set of features."""
        return max(self.features.values(), default=0) / 1e9

    def mb(self, job: Job) -> int:
        """Memory of a job in MB; of a job outside the plan, for instance on another category, the most of its rule."""
        stage = BY_RULE[job.rule]
        if stage.memory is None:
            return round(stage.base_mb)
        if need := self.jobs.get(job) or self.asked.get(job):
            return need.memory.mb
        return max(
            (need.memory.mb for known, need in self.jobs.items() if known.rule == job.rule), default=UNPLANNED_MB
        )

    def seconds(self, job: Job) -> float:
        """Wall time of a job with the threads of its rule; of a job outside the plan the longest of its rule."""
        stage = BY_RULE[job.rule]
        if stage.work is None:
            return stage.base_s
        if need := self.jobs.get(job) or self.asked.get(job):
            return need.time.wall(stage.threads)
        return max((self.seconds(known) for known in self.jobs if known.rule == job.rule), default=UNPLANNED_S)

    def on_gpus(self, config: Config) -> dict[str, tuple[float, float]]:
        """Rule that uses a GPU -> seconds for which all its jobs hold one, MB of the largest one's arrays there."""
        found: dict[str, tuple[float, float]] = {}
        for job, need in self.jobs.items():
            if uses_gpu(stage := BY_RULE[job.rule], config):
                seconds, mb = found.get(job.rule, (0.0, 0.0))
                found[job.rule] = seconds + need.time.on_gpu(stage.threads), max(mb, need.gpu_mb)
        return found

    def longest(self) -> dict[str, tuple[float, Job]]:
        """Rule -> seconds of one core that all its jobs take, and the longest of them."""
        totals: dict[str, tuple[float, Job]] = {}
        for job, need in self.jobs.items():
            total, most = totals.get(job.rule, (0.0, job))
            totals[job.rule] = total + need.time.cpu, max(most, job, key=self.seconds)
        return totals

    def largest(self) -> dict[str, tuple[int, Job]]:
        """Rule -> number of its jobs, and the one that needs most memory."""
        counts = Counter(job.rule for job in self.jobs)
        return {
            rule: (count, max((j for j in self.jobs if j.rule == rule), key=lambda j: self.jobs[j].memory.mb))
            for rule, count in counts.items()
        }

    @cached_property
    def remaining(self) -> dict[Job, float]:
        """Job -> seconds of the longest chain of jobs that begins with it, itself included."""
        readers: dict[Job, list[Job]] = defaultdict(list)
        for job, need in self.jobs.items():
            for before in need.after:
                readers[before].append(job)

        @cache
        def left(job: Job) -> float:
            return self.seconds(job) + max(map(left, readers[job]), default=0.0)

        return {job: left(job) for job in self.jobs}

    @property
    def chain(self) -> float:
        """Seconds of the longest chain of jobs: the plan takes as long whatever the number of cores."""
        return max(self.remaining.values(), default=0.0)

    def least_wall(self, cores: int) -> float:
        """Seconds that the plan takes at least on some cores: its longest chain of jobs, or its work shared evenly."""
        work = sum(need.time.cpu for need in self.jobs.values())
        return max(self.chain, work / cores)

    def priority(self, job: Job) -> float:
        """A job's priority for Snakemake: that of its stage, then the longest chain of jobs that waits for it."""
        left = self.remaining.get(job, self.seconds(job))
        return BY_RULE[job.rule].priority * LONGEST + min(left, LONGEST - 1)

    def threads(self, stage: Stage, cores: int) -> int:
        """Threads of a stage's jobs on some cores: one if the plan's work keeps all cores busy for longer than its
        longest chain takes; else cores wait for this chain anyway, and the stage takes as many as it can use.
        """
        return 1 if self.least_wall(cores) > self.chain else min(cores, stage.threads)


def image_counts(plan: Plan, dataset: str, category: str) -> Counts:
    """Images of a category for training and to be scored; those of the embedded sample are known before it is drawn."""
    data = plan.dataset(dataset)
    if data.layout == "sample":
        from reconpatch.data.sample import COUNTS, DEFECTS

        return COUNTS["train"], COUNTS["good"] + len(DEFECTS) * COUNTS["defect"]
    return count_images(data.layout, category_folder(data.layout, plan.root(dataset), category))


def unlabelled_count(plan: Plan, dataset: str, category: str) -> int:
    """Number of a category's test images whose truth only a server knows."""
    layout = plan.dataset(dataset).layout
    return len(unlabelled_images(layout, category_folder(layout, plan.root(dataset), category)))


def image_size(plan: Plan, dataset: str, category: str) -> ImageSize:
    """Size of a category's first training image, from the header of its file: the other images are as large."""
    data = plan.dataset(dataset)
    if data.layout == "sample":
        from reconpatch.data.sample import SIDE

        return SIDE, SIDE
    folder = category_folder(data.layout, plan.root(dataset), category)
    path = next((folder / item.path for item in list_items(data.layout, folder, []) if item.split == "train"), None)
    try:
        if path is None or not path.is_file():  # opening a pipe would never return
            return UNKNOWN_SIZE
        from PIL import Image

        from reconpatch.data.decoding import FORMATS, MAX_PIXELS

        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            return image.size if image.width * image.height <= MAX_PIXELS else UNKNOWN_SIZE
    except Exception:  # Pillow's parsers raise anything on damaged files; the index says what is wrong with them
        return UNKNOWN_SIZE


def elongation(run: Run, size: ImageSize) -> float:
    """A run, the size of an image -> the longer side of what the network sees of it over the shorter."""
    if run.aspect != "keep":
        return 1.0
    from reconpatch.data.images import view

    return max(view(*size, size=run.crop, aspect="keep").frame) / run.crop


def estimate(plan: Plan, networks: Mapping[str, Network]) -> Estimate:
    """Plan, network of each of its runs as `checks.check_backbones` gives them -> predicted disk, memory and time."""
    counted = cache(partial(image_counts, plan))
    sized = cache(partial(image_size, plan))
    withheld = cache(partial(unlabelled_count, plan))
    found, index, table = Estimate(), STAGES["index"], STAGES["table"]
    for experiment, targets in plan.targets.items():
        members = plan.members(experiment)
        for target in targets:
            counts, size = counted(*target), sized(*target)
            sizes = Sizes(train=counts[0], test=counts[1], pixels=math.prod(size), threads=index.threads)
            found.add(index, Job(index.rule, *target), sizes)
            for key in members:
                if key in plan.runs:
                    _add_features(found, plan, networks[key], key, target, sum(counts), size)
                    _add_run(found, plan, networks[key], key, target, counts, size, unlabelled=withheld(*target))
                else:
                    _add_ensemble(found, plan, networks, key, target, counts, size)
        if members and targets:
            results = frozenset(_result(plan, key, target) for target in targets for key in members)
            sizes = Sizes(test=max(counted(*target)[1] for target in targets), results=len(results))
            found.add(table, Job(table.rule, name=experiment), sizes, results)
            _add_pictures(found, plan, experiment, [sized(*target) for target in targets])
    return found


def _add_features(
    found: Estimate, plan: Plan, network: Network, key: str, target: Target, images: int, size: ImageSize
) -> None:
    """Enter the size of the files of a run's features, which runs share."""
    run = plan.runs[key]
    names = stage_names(run)
    for name in (names["features"], names[TRAINING_FEATURES]):
        job = Job(STAGES["features"].rule, *target, name)
        found.features[job] = features_bytes(run, network, images, elongation(run, size))


def _by_defect(plan: Plan, target: Target) -> bool:
    """Whether the data set marks every defect alone."""
    return bool(LAYOUTS[plan.dataset(target[0]).layout].saturations)


def _result(plan: Plan, key: str, target: Target) -> Job:
    return Job(STAGES["score" if key in plan.runs else "ensemble"].rule, *target, key)


def _after(plan: Plan, stage: Stage, key: str, target: Target) -> frozenset[Job]:
    """The jobs whose files a stage reads for a run."""
    made_by = sources(stage, plan.runs[key], key)
    return frozenset(
        Job(maker.rule, *target, name if maker.wildcards != ("dataset", "category") else "")
        for _, maker, name in made_by
    )


def _add_run(
    found: Estimate,
    plan: Plan,
    network: Network,
    key: str,
    target: Target,
    counts: Counts,
    size: ImageSize,
    wanted: tuple[str, ...] = (),
    unlabelled: int = 0,
) -> None:
    """Enter the jobs behind a run on a category: those made for every run of its method, or for `wanted` alone; and
    the one that scores its `unlabelled` images.
    """
    run = plan.runs[key]
    ratio = plan.ratios[*target, stage_names(run)["bank"]]
    sizes = sizes_of(
        run,
        network,
        counts,
        ratio=ratio,
        batch_images=plan.config.batch_images,
        pixels=math.prod(size),
        elongation=elongation(run, size),
    )
    sizes = replace(sizes, gpu_batch_images=plan.config.gpu_batch_images, by_defect=_by_defect(plan, target))
    for stage, name in stages_behind(run, key, wanted or ("run", run.method)):
        job = Job(stage.rule, *target, name)
        if job not in found.jobs:  # runs share stages
            found.add(stage, job, sizes, _after(plan, stage, key, target))
    if unlabelled:
        stage = STAGES["submission"]
        found.add(stage, Job(stage.rule, *target, key), replace(sizes, test=unlabelled))


def _add_ensemble(
    found: Estimate,
    plan: Plan,
    networks: Mapping[str, Network],
    key: str,
    target: Target,
    counts: Counts,
    size: ImageSize,
) -> None:
    """Enter the ensemble's own job, and those that score the training images for it."""
    combination, stage = plan.ensembles[key], STAGES["ensemble"]
    reads_training = combination.combine == "zscore"
    if reads_training:
        for member in combination.members:
            _add_run(found, plan, networks[member], member, target, counts, size, wanted=("zscore",))
    each = [
        sizes_of(plan.runs[member], networks[member], counts, ratio=1.0, batch_images=1)
        for member in combination.members
    ]
    sizes = Sizes(
        train=counts[0],
        test=counts[1],
        crop=max(s.crop for s in each),
        grid=max(s.grid for s in each),
        elongation=max(elongation(plan.runs[member], size) for member in combination.members),
        by_defect=_by_defect(plan, target),
        members=len(each),
        references=reads_training,
    )
    unread = () if reads_training else (STAGES["training_scores"].rule,)
    masks = Job(STAGES["masks"].rule, *target, stage_names(plan.runs[combination.members[0]])["masks"])
    after = frozenset(
        job
        for member in combination.members
        for job in _after(plan, stage, member, target)
        if job.rule not in unread and (job.rule != masks.rule or job == masks)
    )
    found.add(stage, Job(stage.rule, *target, key), sizes, after)


def _add_pictures(found: Estimate, plan: Plan, experiment: str, sizes_of_images: Sequence[ImageSize]) -> None:
    """Enter an experiment's figures whose needs follow from sizes: those of photographs, with a map below each."""
    targets = plan.targets[experiment]
    for figure in FIGURES.values():
        drawn = plan.drawn(experiment, figure.name)
        if figure.memory is None or not drawn:
            continue
        run = plan.runs[drawn[0]]
        if figure.draws == "categories":
            groups, drawn, panels = [targets], drawn[:1], 2 * len(targets)
        else:
            groups, panels = [[target] for target in targets], TYPICAL_PANELS
        longest = max(elongation(run, size) for size in sizes_of_images)
        sizes = Sizes(crop=run.crop, elongation=longest, panels=panels)
        for group in groups:
            where = group[0] if "category" in figure.wildcards else ("", "")
            after = frozenset(job for target in group for key in drawn for job in _after(plan, figure, key, target))
            found.add(figure, Job(figure.rule, *where, experiment), sizes, after)


def check_fits(jobs: Mapping[Job, Memory], limit_mb: float) -> None:
    """Raise ReconpatchError, with advice, if the job that holds most memory holds more than the limit.

    Mapped files do not count: the system takes their memory back, which costs time only.
    """
    if not jobs:
        return
    job = max(jobs, key=lambda j: jobs[j].held)
    if jobs[job].held > limit_mb:
        advice = BY_RULE[job.rule].advice
        raise ReconpatchError(
            f"needs about {jobs[job].held / 1000:.1f} GB of memory, there are {limit_mb / 1000:.1f} GB",
            where=f"{job.rule} of {job.about}",
            fix=f"{f'either {advice}, or use' if advice else 'use'} a machine with more, or a cluster. To try all the "
            "same, give the memory to count on: --config memory_gb=N",
        )


def uses_gpu(stage: Stage, config: Config) -> bool:
    """Whether jobs of a stage compute on a GPU, where there is one and `device` wants it."""
    return stage.gpu and (not stage.gpu_key or bool(getattr(config, stage.gpu_key)))


def cluster_mb(need_mb: int, attempt: int) -> int:
    """MB a job needs -> MB it asks a cluster for: it shares its memory with the two Snakemakes that run it, and asks
    for half as much again each time it is tried again.
    """
    return round((need_mb + AROUND_MB) * (1 + attempt) / 2)


def minutes(seconds: float) -> int:
    """Predicted seconds of a job -> minutes after which a scheduler may end it: several times as many, rounded up."""
    return max(LEAST_MINUTES, math.ceil(SAFETY * seconds / 60))
