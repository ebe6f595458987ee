# The plan, and the look-ups of the rules: closures over it that Snakemake calls with wildcards. What they look up is
# computed in reconpatch.experiments (stages, outputs, resources), where mypy and the tests see it.
# `conda:` in the rules names the environment they expect. It is made and activated by hand, with the package installed
# into it (README); Snakemake's own deployment of it (--sdm conda) would lack the package.
import sys
from functools import cache
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from reconpatch.data.layouts import category_folder
from reconpatch.data.manifest import listing
from reconpatch.errors import ReconpatchError
from reconpatch.experiments import outputs, resources
from reconpatch.experiments.checks import (
    check_backbones,
    check_targets,
    gpu_wanted,
    stray_weights,
)
from reconpatch.experiments.config import read_config, with_defaults
from reconpatch.experiments.networks import known_networks
from reconpatch.experiments.place import SCRIPTS as SUITE_SCRIPTS
from reconpatch.experiments.place import paper_file
from reconpatch.experiments.plan import make_plan
from reconpatch.experiments.stages import BY_RULE, FIGURES, STAGES, description
from reconpatch.files import check_writable
from reconpatch.records.provenance import code_digest, stage_codes
from reconpatch.results.report import report_what_is_there, shows_a_failure
from reconpatch.runtime import machine_mb, sleep_between_work, visible_devices

# Beside this file. Where Snakemake fetched it from a repository that is no folder, and the package has the same.
SCRIPTS = Path(str(workflow.current_basedir)).parent / "scripts"
SCRIPTS = SCRIPTS if SCRIPTS.is_dir() else SUITE_SCRIPTS

sleep_between_work()  # jobs inherit it

# Whether jobs run on other machines than the one that was called, or this process is one of those jobs.
ELSEWHERE = workflow.resource_settings.nodes is not None or workflow.remote_exec

try:
    check_writable(Path("results"))
    KNOWN = known_networks()
    # Of a study that uses this as a module, `config` holds only what it changes. Scripts read it, too.
    config.update(with_defaults(config))
    PLAN = make_plan(read_config(config), networks=KNOWN)
    GPUS = int(gpu_wanted(PLAN.config.device, ELSEWHERE))
    NETWORKS = check_backbones(PLAN, KNOWN)
    if (
        PLAN.config.container is None
        and DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
    ):
        raise ReconpatchError(
            "no image for --software-deployment-method apptainer",
            where="container: null",
            fix="give its file or its address, see docs/containers.md",
        )
    if strays := stray_weights(PLAN, Path("results")):
        raise ReconpatchError("\n".join(strays))
except ReconpatchError as error:
    raise WorkflowError(str(error)) from None

SAMPLE = next(
    (d.root for d in PLAN.config.datasets.values() if d.layout == "sample"),
    "results/sample",
)
AT_HAND = [name for name in PLAN.experiments if PLAN.at_hand(name)]
NEEDS = resources.estimate(PLAN, NETWORKS)

# Jobs run at once as long as they fit into this machine's memory and each has a GPU of its own, if it wants one.
# --resources mem_mb=N gpu=N wins. Of other machines nothing is known here.
MEMORY_MB = workflow.global_resources.get("mem_mb").value or int(
    1000 * PLAN.config.memory_gb if PLAN.config.memory_gb else machine_mb()
)
if workflow.is_main_process and not ELSEWHERE:
    workflow.register_resource("mem_mb", MEMORY_MB)
    if GPUS and workflow.global_resources.get("gpu").value is None:
        workflow.register_resource("gpu", max(1, len(visible_devices())))


# --- what a stage's row says, as the rule's directives take it ---


def path(stage, file):
    """A file of a stage, with its wildcards; features stay on the disk unless they would fill it."""
    row = STAGES[stage]
    pattern = f"results/{row.files[file]}"
    fill = file in row.temporary and NEEDS.features_gb > PLAN.config.features_gb
    return temp(pattern) if fill else pattern


def shown(stage, file, label):
    """A table's or figure's file of a stage, marked for Snakemake's own report under its experiment."""
    row = STAGES[stage]
    where = {
        name.replace("dataset", "data set"): f"{{{name}}}"
        for name in row.wildcards
        if name != "experiment"
    }
    is_figure = stage in FIGURES
    return report(
        path(stage, file),
        caption=f"../report/{'figure' if is_figure else 'table'}.rst",
        category="{experiment}",
        subcategory="figures" if is_figure else "tables",
        labels={"shows": label, **where},
    )


def priority(stage):
    """Wildcards -> a job's priority: the longest chain of jobs first, but extraction after all else that is ready."""
    row = STAGES[stage]
    return lambda w: NEEDS.priority(resources.job_of(row.rule, w))


def threads(stage):
    """Threads of a stage's jobs. Of other machines nothing is known, and a GPU waits for the processor."""
    row, cores = STAGES[stage], workflow.resource_settings.cores
    if cores is None or ELSEWHERE or gpus(stage):
        return row.threads
    return NEEDS.threads(row, cores)


def gpus(stage):
    """GPUs that a job of a stage asks for: one where it uses one, 0 elsewhere."""
    return GPUS if resources.uses_gpu(STAGES[stage], PLAN.config) else 0


def memory(stage):
    """Wildcards -> predicted memory in MB; a job sent elsewhere asks for more, as a cluster needs it."""
    row = STAGES[stage]

    def mb(wildcards, attempt):
        need = NEEDS.mb(resources.job_of(row.rule, wildcards))
        need += resources.CUDA_MB if gpus(stage) else 0
        return resources.cluster_mb(need, attempt) if ELSEWHERE else need

    return mb


def runtime(stage):
    """Wildcards -> minutes after which a scheduler may end a job, as much again each time it is tried again."""
    row = STAGES[stage]

    def limit(wildcards, attempt):
        job = resources.job_of(row.rule, wildcards)
        return attempt * resources.minutes(NEEDS.seconds(job))

    return limit


def code(stage):
    """Digest of a stage's script and the modules it imports: Snakemake itself sees only the script."""
    return code_digest(SCRIPTS / f"{STAGES[stage].script}.py")


def reads(stage):
    """Wildcards -> what a job of a stage of runs reads, by the names of the rule's inputs."""
    return lambda w: outputs.files_of_run(PLAN, STAGES[stage], w)


def settings(stage):
    """Wildcards -> the parameters of a run that the stage of runs they name depends on."""
    return lambda w: description(PLAN.stages[w.stage], stage)


# --- data and weights ---


def folder_of(dataset, category):
    """The folder of a category."""
    layout = PLAN.dataset(dataset).layout
    return str(category_folder(layout, PLAN.root(dataset), category))


def folder(wildcards):
    """Wildcards -> the folder of their category."""
    return folder_of(wildcards.dataset, wildcards.category)


def drawn(wildcards):
    """Wildcards -> the folder of their category if a rule draws it, as that of the sample; other data sets are there."""
    sample = PLAN.dataset(wildcards.dataset).layout == "sample"
    return folder(wildcards) if sample else []


def files_state(wildcards):
    """Changes when a file of the data set does."""
    data = PLAN.dataset(wildcards.dataset)
    if data.layout == "sample":
        return ""
    return listing(data.layout, PLAN.root(wildcards.dataset), wildcards.category)


def weights_of(run):
    """The file of a run's weights, if the user gives one."""
    file = PLAN.weight_file(run)
    return [] if file is None else [str(file)]


def weight_file(wildcards):
    """The same for the wildcard of a stage."""
    return weights_of(PLAN.stages[wildcards.stage])


def fetched(wildcards):
    """The same as `fetched_for` for the wildcard of a stage."""
    return fetched_for(PLAN.stages[wildcards.stage])


def fetched_for(run):
    """Pretrained weights are downloaded by a job of their own."""
    if run.weights != "pretrained":
        return []
    return [STAGES["weights"].file("weights", backbone=run.backbone)]


# --- figures ---


def figure_files(figure):
    """Wildcards -> what a figure reads."""
    return lambda w: outputs.files_of_figure(PLAN, figure, w)


def figure_photographs(figure):
    """Wildcards -> the folder that must be drawn before a figure opens photographs of one category."""
    one = figure.photographs and figure.draws == "category"
    return drawn if one else (lambda w: [])


def figure_folders(figure):
    """Wildcards -> the folders of the photographs that a figure shows, in the order of its categories."""
    if not figure.photographs:
        return []
    return lambda w: [
        folder_of(*target) for target in outputs.targets_of_figure(PLAN, figure, w)
    ]


def figure_labels(figure):
    """Wildcards -> what labels the cells of the table, if the figure shows all of them."""
    if figure.draws != "results":
        return []
    return lambda w: outputs.labels_of(PLAN, w.experiment)


def figure_departures(figure):
    """Wildcards -> settings other than the paper's of the runs that a figure shows."""
    return lambda w: outputs.departures_of(
        PLAN, [w.experiment], outputs.runs_of_figure(PLAN, figure, w.experiment)
    )


# --- experiments ---


def results_of(experiment, file):
    """A file of every result of an experiment; asked for without its data, an error that says which are missing."""
    if not PLAN.at_hand(experiment):
        raise WorkflowError(f"{experiment}: {'; '.join(PLAN.absent[experiment])}")
    return outputs.results_of(PLAN, experiment, file)


def submissions(experiment):
    """The facts of the submissions of every run of an experiment, on categories that have images without truth."""
    return outputs.submissions_of(PLAN, experiment)


@cache
def everything():
    """Outputs of all that is at hand; what is not is named, once."""
    for why, names in outputs.reasons(PLAN.absent).items():
        print(f"Left out: {why} ({', '.join(names)})", file=sys.stderr)
    return outputs.outputs_of(PLAN, AT_HAND)


def lost(*experiments):
    """Files behind experiments' tables that are gone: Snakemake itself asks for them only when it makes a table."""
    return outputs.lost_files(PLAN, experiments)


def refuse_unknown_targets():
    """Snakemake says of a mistyped target that no rule produces it, not which there are. It knows its targets only when
    all rules are read, so they are taken from the command line.
    """
    if not workflow.is_main_process or Path(sys.argv[0]).name != "snakemake":
        return
    targets = get_argument_parser().parse_args(sys.argv[1:]).targets
    try:
        check_targets(targets, (rule.name for rule in workflow.rules))
    except ReconpatchError as error:
        raise WorkflowError(str(error)) from None


def refuse_too_large():
    """Before the first job: what is still to be run must fit, if it runs here."""
    if not workflow.local_exec:
        return
    jobs = {
        resources.job_of(job.rule.name, job.wildcards)
        for job in workflow.dag.needrun_jobs()
    }
    known = NEEDS.jobs | NEEDS.asked
    needs = {job: known[job].memory for job in jobs & known.keys()}
    try:
        resources.check_fits(needs, MEMORY_MB)
    except ReconpatchError as error:
        raise WorkflowError(str(error)) from None
