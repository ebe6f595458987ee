"""What a plan would run and what that is predicted to need: as plain values, and as the text of `reconpatch plan`."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.checks import gpu_wanted
from reconpatch.experiments.costs import GPU_SPEED, Network
from reconpatch.experiments.outputs import reasons
from reconpatch.experiments.plan import Plan
from reconpatch.experiments.resources import Estimate, check_fits, estimate
from reconpatch.runtime import machine_mb

Facts = dict[str, Any]
SLOWEST = 1.5  # of a whole plan's time, times its least


def facts_of(plan: Plan, networks: Mapping[str, Network]) -> Facts:
    """Plan, network of each of its runs -> its experiments, what is left out, and predicted disk, memory and time.

    Sizes are in GB, times in seconds. `needs` is None if nothing would run, `gpus` if no GPU is asked for.
    """
    facts: Facts = {
        "experiments": [
            {
                "name": name,
                "title": experiment.title,
                "on": [f"{dataset}/{category}" for dataset, category in plan.targets[name]],
                "runs": plan.members(name),
            }
            for name, experiment in plan.experiments.items()
            if plan.at_hand(name)
        ],
        "left_out": reasons(plan.absent),
        "needs": None,
        "gpus": None,
    }
    if plan.runs:
        needs = estimate(plan, networks)
        facts["needs"] = {"runs": len(plan.runs), "ensembles": len(plan.ensembles)} | _needs(plan, needs)
        if plan.config.device == "cuda" or gpu_wanted(plan.config.device):
            facts["gpus"] = {
                rule: {"seconds": seconds, "largest_gb": mb / 1000}
                for rule, (seconds, mb) in needs.on_gpus(plan.config).items()
            }
    return facts


def _needs(plan: Plan, needs: Estimate) -> Facts:
    limit = 1000 * plan.config.memory_gb if plan.config.memory_gb else machine_mb()
    try:
        check_fits({job: need.memory for job, need in needs.jobs.items()}, limit)
        too_large = None
    except ReconpatchError as error:
        too_large = str(error)
    longest, cores = needs.longest(), os.cpu_count() or 1
    wall = needs.least_wall(cores)
    return {
        "features": {
            "all_gb": needs.features_gb,
            "largest_gb": needs.largest_gb,
            "limit_gb": plan.config.features_gb,
            "kept": needs.features_gb <= plan.config.features_gb,
        },
        "memory": {
            "limit_gb": limit / 1000,
            "too_large": too_large,
            "rules": {
                rule: {"jobs": count, "largest_gb": needs.mb(job) / 1000, "largest": job.about}
                for rule, (count, job) in needs.largest().items()
            },
        },
        "time": {
            "cores": cores,
            "core_seconds": sum(seconds for seconds, _ in longest.values()),
            "least_seconds": wall,
            "most_seconds": SLOWEST * wall,
            "rules": {
                rule: {"core_seconds": total, "longest_seconds": needs.seconds(job), "longest": job.about}
                for rule, (total, job) in longest.items()
            },
        },
    }


def text_of(facts: Facts) -> Iterator[str]:
    """Plain values of `facts_of` -> lines."""
    for experiment in facts["experiments"]:
        yield f"{experiment['name']}: {experiment['title']}"
        yield f"  {len(experiment['runs'])} runs on each of {', '.join(experiment['on'])}"
        yield from (f"    {run}" for run in experiment["runs"])
    for why, names in facts["left_out"].items():
        yield f"left out: {why} ({', '.join(names)})"
    if facts["needs"]:
        yield from _needs_text(facts["needs"])
    if facts["gpus"]:
        yield f"with GPUs, if one does the work of {GPU_SPEED:g} cores, which was assumed and not measured:"
        for rule, gpu in facts["gpus"].items():
            arrays = f"arrays of the largest job {gpu['largest_gb']:.1f} GB there"
            yield f"  {rule}: GPUs held for {_time(gpu['seconds'])}, {arrays}"
        yield f"in all {_time(sum(gpu['seconds'] for gpu in facts['gpus'].values()))}"
    if facts["needs"] and facts["needs"]["memory"]["too_large"]:
        yield f"too large for this machine: {facts['needs']['memory']['too_large']}"


def _needs_text(needs: Facts) -> Iterator[str]:
    features, memory, time = needs["features"], needs["memory"], needs["time"]
    above = f"above features_gb = {features['limit_gb']:g}, so each set is deleted after its use"
    fate = "kept" if features["kept"] else above
    disk = f"{features['all_gb']:.1f} GB, largest set {features['largest_gb']:.1f} GB"
    yield f"{needs['runs']} different runs and {needs['ensembles']} ensembles in all"
    yield f"predicted disk of features: {disk}; {fate}"
    yield f"predicted memory of the largest job of every rule; jobs at once share {memory['limit_gb']:.1f} GB:"
    for rule, of in memory["rules"].items():
        yield f"  {rule}, {of['jobs']} times: at most {of['largest_gb']:.1f} GB ({of['largest']})"
    yield "predicted work without a GPU, from rates of one machine (docs/scaling.md); another may take half or twice:"
    for rule, of in time["rules"].items():
        longest = f"longest job {_time(of['longest_seconds'])} ({of['longest']})"
        yield f"  {rule}: {_time(of['core_seconds'])} of one core, {longest}"
    least, most = _time(time["least_seconds"]), _time(time["most_seconds"])
    yield f"in all {_time(time['core_seconds'])} of one core; on {time['cores']} cores {least} to {most}"


def _time(seconds: float) -> str:
    """Seconds -> text in the unit that suits their size."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
