"""What the workflow does before the first job of a call and after the last.

Snakemake runs the handlers of the file that it was called with, not those of a module. So the Snakefile of a study
calls these functions, too, and they take no more than what each Snakefile has: its configuration.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconpatch.errors import ReconpatchError
from reconpatch.experiments import resources
from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.config import read_config, with_defaults
from reconpatch.experiments.networks import Networks, known_networks
from reconpatch.experiments.place import SCRIPTS
from reconpatch.experiments.plan import Plan, make_plan
from reconpatch.records.provenance import stage_codes
from reconpatch.results.report import report_what_is_there, shows_a_failure

RESULTS = Path("results")
NAMED = 20  # results that are missing


def before_jobs(config: Mapping[str, Any], workflow: Any) -> None:
    """Snakemake's configuration and workflow -> None.

    Raises Snakemake's error if a job that is still to be run does not fit into this machine. Jobs that run elsewhere
    are not looked at.
    """
    if not workflow.local_exec:
        return
    plan, networks = _plan_of(config)
    needs = resources.estimate(plan, check_backbones(plan, networks)).jobs
    jobs = {resources.job_of(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()}
    try:
        resources.check_fits(
            {job: needs[job].memory for job in jobs & needs.keys()}, workflow.global_resources["mem_mb"].value
        )
    except ReconpatchError as error:
        from snakemake.exceptions import WorkflowError

        raise WorkflowError(str(error)) from None


def after_failure(config: Mapping[str, Any], scripts: Path = SCRIPTS) -> None:
    """Snakemake's configuration, folder of the stages' scripts -> None; what is missing is named on standard error.

    Tables and report are written without it.

    One failed run stops neither the others (keep-going in the profile) nor the tables.
    """
    lost = report_what_is_there(_plan_of(config)[0], RESULTS, stage_codes(scripts))
    print(f"{RESULTS}/report.html shows what is there. Missing:", file=sys.stderr)
    print("".join(f"    {line}\n" for line in lost[:NAMED]), end="", file=sys.stderr)


def after_success(config: Mapping[str, Any], scripts: Path = SCRIPTS) -> None:
    """Snakemake's configuration, folder of the stages' scripts -> None; prints where the results are.

    A report that was written after a failure is made anew.
    """
    if shows_a_failure(RESULTS):
        report_what_is_there(_plan_of(config)[0], RESULTS, stage_codes(scripts))
    print(
        f"Tables: {RESULTS}/tables/, figures: {RESULTS}/figures/. The targets `all` and `smoke` make "
        f"{RESULTS}/report.html."
    )


def _plan_of(config: Mapping[str, Any]) -> tuple[Plan, Networks]:
    networks = known_networks()
    return make_plan(read_config(with_defaults(config)), networks=networks), networks
