# The plan and the few look-ups rules need; what they compute is in the package, where the tests see it.
# `conda:` in the rules names the environment they expect. It is made and activated by hand, with the package installed
# into it (README); Snakemake's own deployment of it (--sdm conda) would lack the package.
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from reconpatch.experiments.outputs import (
    figures_of,
    kept_files,
    labels_of,
    paper_file,
    reasons,
    result_folder,
    sections,
    table_settings,
)
from reconpatch.experiments.checks import check_backbones, gpu_wanted, stray_weights
from reconpatch.experiments.config import read_config
from reconpatch.experiments.run import description, of_training
from reconpatch.data.layouts import category_folder
from reconpatch.data.manifest import listing
from reconpatch.errors import ReconpatchError
from reconpatch.files import check_writable
from reconpatch.runtime import machine_mb, visible_devices
from reconpatch.experiments.plan import make_plan, stage_name
from reconpatch.experiments.resources import (
    Job,
    check_fits,
    cluster_mb,
    estimate,
    minutes,
)
from reconpatch.experiments.stages import BY_RULE, STAGES
from reconpatch.records.provenance import code_digest, stage_codes
from reconpatch.results.report import report_what_is_there, shows_a_failure

# Whether jobs run on other machines than the one that was called, or this process is one of those jobs.
ELSEWHERE = workflow.resource_settings.nodes is not None or workflow.remote_exec

try:
    check_writable(Path("results"))
    PLAN = make_plan(read_config(config))
    GPUS = int(gpu_wanted(PLAN.config.device, ELSEWHERE))
    NETWORKS = check_backbones(
        PLAN,
        Path(".snakemake/reconpatch/backbones.json"),
        Path(str(workflow.current_basedir)).parent / "backbones.json",
    )
    if strays := stray_weights(PLAN, Path("results")):
        raise ReconpatchError("\n".join(strays))
except ReconpatchError as error:
    raise WorkflowError(str(error)) from None

SCRIPTS = Path(str(workflow.current_basedir)).parent / "scripts"
SAMPLE = next(
    (d.root for d in PLAN.config.datasets.values() if d.layout == "sample"),
    "results/sample",
)
AT_HAND = [name for name in PLAN.experiments if PLAN.at_hand(name)]
NEEDS = estimate(PLAN, NETWORKS)

# Jobs run at once as long as they fit into this machine's memory and each has a GPU of its own, if it wants one.
# --resources mem_mb=N gpu=N wins. Of other machines nothing is known here.
MEMORY_MB = workflow.global_resources.get("mem_mb").value or int(
    1000 * PLAN.config.memory_gb if PLAN.config.memory_gb else machine_mb()
)
if workflow.is_main_process and not ELSEWHERE:
    workflow.register_resource("mem_mb", MEMORY_MB)
    if GPUS and workflow.global_resources.get("gpu").value is None:
        workflow.register_resource("gpu", max(1, len(visible_devices())))


def job_of(rule, wildcards):
    """A rule and its wildcards as the estimate names a job."""
    where = (getattr(wildcards, key, "") for key in ("dataset", "category"))
    names = (getattr(wildcards, key, "") for key in ("stage", "run", "experiment"))
    return Job(rule, *where, next(filter(None, names), ""))


def memory(rule):
    """Wildcards -> a rule's predicted memory in MB; a job sent elsewhere asks for more, as a cluster needs it."""
    on_gpu = bool(GPUS) and BY_RULE[rule].gpu

    def mb(wildcards, attempt):
        need = NEEDS.mb(job_of(rule, wildcards))
        return cluster_mb(need, on_gpu, attempt) if ELSEWHERE else need

    return mb


def runtime(rule):
    """Wildcards -> minutes after which a scheduler may end a job of a rule, as much again each time it is tried again."""
    return lambda wildcards, attempt: attempt * minutes(
        NEEDS.seconds(job_of(rule, wildcards))
    )


def refuse_too_large():
    """Before the first job: what is still to be run must fit, if it runs here."""
    jobs = {job_of(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()}
    if workflow.local_exec:
        try:
            check_fits(
                {job: NEEDS.jobs[job].memory for job in jobs & NEEDS.jobs.keys()},
                MEMORY_MB,
            )
        except ReconpatchError as error:
            raise WorkflowError(str(error)) from None


def kept(path):
    """Feature files stay, so that what is added later reruns only its own stage, unless they would fill the disk."""
    return path if NEEDS.features_gb <= PLAN.config.features_gb else temp(path)


def code(script):
    """Digest of a stage's script and the modules it imports: Snakemake itself sees only the script."""
    return code_digest(SCRIPTS / f"{script}.py")


def folder(wildcards):
    """The category's folder."""
    data = PLAN.dataset(wildcards.dataset)
    return str(
        category_folder(data.layout, PLAN.root(wildcards.dataset), wildcards.category)
    )


def drawn(wildcards):
    """The embedded sample is drawn by a rule; other data sets are there."""
    return (
        folder(wildcards) if PLAN.dataset(wildcards.dataset).layout == "sample" else []
    )


def files_state(wildcards):
    """Changes when a file of the data set does."""
    data = PLAN.dataset(wildcards.dataset)
    if data.layout == "sample":
        return ""
    return listing(data.layout, PLAN.root(wildcards.dataset), wildcards.category)


def stage_of(name):
    """Wildcards -> description of the stage they name."""
    return lambda wildcards: description(PLAN.stages[wildcards.stage], name)


def run_of(wildcards):
    """The run, or one of the runs that share the stage, that a job is about."""
    return (
        PLAN.runs[wildcards.run]
        if hasattr(wildcards, "run")
        else PLAN.stages[wildcards.stage]
    )


def path_of(stage, run, wildcards, file):
    """A file of the test features, masks, training or bank behind a run."""
    side = run if stage in ("features", "masks") else of_training(run)
    base = f"results/{stage}/{wildcards.dataset}/{wildcards.category}"
    return f"{base}/{stage_name(side, stage)}/{file}"


def below(stage, *files):
    """Files of the test features, masks, training or bank that a stage or run builds on."""

    def paths(wildcards):
        run = run_of(wildcards)
        if stage == "training" and run.method == "patchcore":
            return []
        return [path_of(stage, run, wildcards, file) for file in files]

    return paths


def train_features(wildcards):
    """Features of the training images, which the augmentation of test images alone leaves as they are."""
    side = of_training(run_of(wildcards))
    return [path_of("features", side, wildcards, "train.npy")]


def train_facts(wildcards):
    """What the stage that made `train_features` says of itself."""
    side = of_training(run_of(wildcards))
    return [path_of("features", side, wildcards, "features.json")]


def weight_file(wildcards):
    """The file of the backbone's weights, if the user gives one."""
    return [str(f) for f in [PLAN.weight_file(PLAN.stages[wildcards.stage])] if f]


def fetched(wildcards):
    """Pretrained weights are downloaded by one job of their own."""
    run = PLAN.stages[wildcards.stage]
    return (
        [f"results/weights/{run.backbone}.json"] if run.weights == "pretrained" else []
    )


def scored(wildcards):
    """Everything a run's score is made from: one function, since Snakemake pays for every call."""
    run, where = PLAN.runs[wildcards.run], wildcards
    files = {
        "test": ("features", "test.npy"),
        "masks": ("masks", "masks.npy"),
        "features": ("features", "features.json"),
        "training": ("training", "training.json"),
        "bank": ("bank", "bank.safetensors"),
        "bank_facts": ("bank", "bank.json"),
    }
    found = {
        name: [path_of(stage, run, where, file)]
        for name, (stage, file) in files.items()
        if stage != "training" or run.method == "reconpatch"
    }
    manifest = f"results/index/{where.dataset}/{where.category}.json"
    return {"manifest": manifest, "training": []} | found


def results_of(experiment, file):
    """A file of every run of an experiment; asked for without its data, an error that says which."""
    if not PLAN.at_hand(experiment):
        raise WorkflowError(f"{experiment}: {PLAN.absent[experiment]}")
    return [
        f"results/{result_folder(PLAN, run, dataset, category)}/{file}"
        for dataset, category in PLAN.targets[experiment]
        for run in PLAN.members(experiment)
    ]


def member_files(file):
    """Wildcards of an ensemble -> a file of each of its members."""
    return lambda w: [
        f"results/runs/{w.dataset}/{w.category}/{run}/{file}"
        for run in PLAN.ensembles[w.run].members
    ]


def training_scores(wildcards):
    """z-scores refer to the training images, min-max scaling does not."""
    if PLAN.ensembles[wildcards.run].combine == "minmax":
        return []
    return member_files("training.safetensors")(wildcards)


def member_masks(wildcards):
    """Masks of the test images, the same for all members."""
    first = PLAN.runs[PLAN.ensembles[wildcards.run].members[0]]
    return [path_of("masks", first, wildcards, "masks.npy")]


def lost(*experiments):
    """Files behind experiments' tables that are gone: Snakemake itself asks for them only when it makes a table."""
    made = [n for n in experiments if Path(f"results/tables/{n}.csv").is_file()]
    files = {f"results/{f}" for name in made for f in kept_files(PLAN, name)}
    return sorted(file for file in files if not Path(file).is_file())


def outputs_of(*experiments):
    """Tables and figures of experiments."""
    files = []
    for name in filter(PLAN.experiments.get, experiments):
        files += [
            f"results/tables/{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")
        ]
        files += [f"results/{file}" for file in figures_of(PLAN, name)]
    return files


@cache
def everything():
    """Outputs of all that is at hand; what is not is named, once."""
    for why, names in reasons(PLAN.absent).items():
        print(f"Left out: {why} ({', '.join(names)})", file=sys.stderr)
    return outputs_of(*AT_HAND)


def drawn_runs(kind, file):
    """Wildcards -> a file of each run a figure draws."""
    return lambda w: [
        f"results/runs/{w.dataset}/{w.category}/{run}/{file}"
        for run in PLAN.drawn(w.experiment, kind)
    ]


def drawn_stages(kind, stage, file):
    """Wildcards -> a file of the features, masks, training or banks behind the runs a figure draws."""
    return lambda w: [
        path_of(stage, PLAN.runs[run], w, file)
        for run in PLAN.drawn(w.experiment, kind)
        if stage != "training" or PLAN.runs[run].method == "reconpatch"
    ]


def gallery_files(path):
    """Wildcards -> a file for every category of a figure over categories."""
    return lambda w: [
        path.format(dataset=d, category=c, run=PLAN.drawn(w.experiment, "gallery")[0])
        for d, c in PLAN.targets[w.experiment]
    ]
