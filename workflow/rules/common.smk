# The plan and the few look-ups rules need; what they compute is in the package, where the tests see it.
# `conda:` in the rules names the environment they expect. It is made and activated by hand, with the package installed
# into it (README); Snakemake's own deployment of it (--sdm conda) would lack the package.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from reconpatch.config import description, read_config
from reconpatch.data import category_folder, listing
from reconpatch.errors import ReconpatchError
from reconpatch.plan import check_backbones, gpu_present, make_plan, stage_name
from reconpatch.records import code_digest

try:
    PLAN = make_plan(read_config(config))
    GPUS = int(gpu_present(PLAN.config.device))
    check_backbones(PLAN, Path(".snakemake/reconpatch/backbones.json"))
except ReconpatchError as error:
    raise WorkflowError(str(error)) from None

SCRIPTS = Path(str(workflow.current_basedir)).parent / "scripts"
SAMPLE = next(
    (d.root for d in PLAN.config.datasets.values() if d.layout == "sample"),
    "results/sample",
)
AT_HAND = [name for name in PLAN.experiments if name not in PLAN.absent]


def kept(path):
    """Feature files stay, so that what is added later reruns only its own stage, unless disk is short."""
    return path if PLAN.config.keep_features else temp(path)


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


def below(stage, *files):
    """Paths of files of the features, training or bank that a stage or run builds on."""

    def paths(wildcards):
        run = (
            PLAN.runs[wildcards.run]
            if hasattr(wildcards, "run")
            else PLAN.stages[wildcards.stage]
        )
        if stage == "training" and run.method == "patchcore":
            return []
        base = f"results/{stage}/{wildcards.dataset}/{wildcards.category}/{stage_name(run, stage)}"
        return [f"{base}/{file}" for file in files]

    return paths


def weight_file(wildcards):
    """The file of the backbone's weights, if the user gives one."""
    return [str(f) for f in [PLAN.weight_file(PLAN.stages[wildcards.stage])] if f]


def fetched(wildcards):
    """Pretrained weights are downloaded by one job of their own."""
    run = PLAN.stages[wildcards.stage]
    return (
        [f"results/weights/{run.backbone}.json"] if run.weights == "pretrained" else []
    )


def records_of(experiment):
    """Records of an experiment; asked for without its data, an error that says which."""
    if experiment in PLAN.absent:
        raise WorkflowError(f"{experiment}: {PLAN.absent[experiment]}")
    return [
        f"results/runs/{dataset}/{category}/{run}/record.json"
        for dataset, category in PLAN.targets[experiment]
        for run in PLAN.members[experiment]
    ]


def outputs_of(*experiments):
    """Tables and figures of experiments."""
    files = []
    for name in filter(PLAN.experiments.get, experiments):
        files += [
            f"results/tables/{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")
        ]
        if PLAN.drawn(name):
            for dataset, category in PLAN.targets[name]:
                base = f"results/figures/{name}/{dataset}/{category}"
                files += [
                    f"{base}/qualitative.png",
                    f"{base}/histogram.svg",
                    f"{base}/umap.svg",
                ]
    return files


def drawn_runs(file):
    """Wildcards -> a file of each run an experiment draws."""
    return lambda w: [
        f"results/runs/{w.dataset}/{w.category}/{run}/{file}"
        for run in PLAN.drawn(w.experiment)
    ]


def drawn_stages(stage, file):
    """Wildcards -> a file of the features or banks behind the runs an experiment draws."""
    return lambda w: [
        f"results/{stage}/{w.dataset}/{w.category}/{stage_name(PLAN.runs[run], stage)}/{file}"
        for run in PLAN.drawn(w.experiment)
    ]


def sections(*experiments):
    """What the report shows of each experiment."""
    return [
        {
            "name": name,
            "title": PLAN.experiments[name].title,
            "table": f"results/tables/{name}.html",
            "figures": [
                f for f in outputs_of(name) if f.startswith("results/figures/")
            ],
        }
        for name in filter(PLAN.experiments.get, experiments)
    ]
