"""Every example in the documents is carried out, in the order of its document, in one folder as a new user has it.

A block of a document is known by its language:

    none, bash   commands, one a line: each stands in RUN, PLANNED or ELSEWHERE, as does `snakemake ...` in the prose
    yaml         a file; its first line is a comment with its name. It must be an overlay or an experiment
    python       a script
    diff         a change of the package, applied to a copy of it, hunk by hunk, by its text
    text         output or a picture; nothing is done

A new example without an entry fails here, and so does an entry without its example.
"""

import csv
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from drawing import write_image, write_mask
from running import PARTS, ROOT
from safetensors.torch import save_file

from reconpatch.cli import main as cli
from reconpatch.data.miniatures import write_miniature
from reconpatch.experiments.config import read_experiment, read_yaml
from reconpatch.experiments.plan import load_plan

# --- what stands for what, as plain data -----------------------------------------------------------------------------

# Commands that are carried out: what they must print, among other things.
RUN = {
    "reconpatch plan table_coreset --configfile data.yaml": "9 runs on each of mvtec_ad/bottle, mvtec_ad/pill",
    "snakemake --cores 2 --configfile mine.yaml -- my_screws": "Complete log",
    "snakemake --report results.zip --configfile mine.yaml -- my_screws": "Report created",
    "snakemake --unlock": "Unlocked",
    "reconpatch verify": "0 DIFFERS",
    "reconpatch compare RECORD RECORD": "method",
    "reconpatch check my_networks --configfile networks.yaml": "resnet18.tv_in1k, levels (2, 3): file weights fit",
    "snakemake --cores 2 --configfile networks.yaml -- my_networks": "Complete log",
    "reconpatch check my_caps --configfile caps.yaml": "3 training, 2 normal and 2 anomalous test images, 2 masks",
    "reconpatch plan ablation_blur --configfile blur.yaml": "4 runs on each of screws/screws",
    "snakemake --cores 2 --configfile blur.yaml -- ablation_blur": "Complete log",
    "reconpatch miniature all data/miniatures": "visa: {layout: visa, root:",
    "reconpatch fit photos/good --out model": "saved in model",
    "reconpatch predict model photos/new --out found": "found/scores.csv",
    "reconpatch evaluate model photos/test": "image AUROC",
    "reconpatch show model": "threshold",
    "reconpatch sample demo": "demo/brick: train/good",
    "reconpatch fit demo/brick/train/good --out demo/model --backbone tf_efficientnet_lite0 --weights embedded "
    "--size 160 --aspect stretch --epochs 10": "saved in demo/model",
    "reconpatch show demo/model": "threshold",
    "reconpatch predict demo/model demo/brick/test --out demo/found --masks": "demo/found/scores.csv",
    "reconpatch evaluate demo/model demo/brick/test --masks demo/brick/ground_truth --report demo/page.html": "AUPRO",
    "reconpatch evaluate demo/found/scores.csv": "of the column anomalous",
    "reconpatch fit demo/brick/train/good --out demo/patchcore --method patchcore --backbone tf_efficientnet_lite0 "
    "--weights embedded --size 160 --aspect stretch": "saved in demo/patchcore",
    "reconpatch evaluate demo/patchcore demo/model demo/brick/test --masks demo/brick/ground_truth": "McNemar",
    "reconpatch export demo/model --out demo/model.onnx": "saved in demo/model.onnx",
    "reconpatch doctor": "computes",
    "reconpatch sample first": "first/brick: train/good",
    "reconpatch fit first/brick/train/good --out first/model --fast --size 160 --aspect stretch": "saved in first",
    "reconpatch predict first/model first/brick/test --out first/found": "first/found/scores.csv",
    "reconpatch evaluate first/model first/brick/test --masks first/brick/ground_truth": "AUPRO",
    "reconpatch init study": "study: config.yaml says where data are",
}
# Snakemake commands that take long: they are planned, to the last job's settings, but not run.
PLANNED = {
    "snakemake --cores 8 --configfile data.yaml -- all",
    "snakemake --cores 16 --configfile data.yaml -- all",
    "snakemake --profile profiles/slurm --configfile data.yaml --default-resources mem_mb=2000 runtime=120 "
    "slurm_account=ACCOUNT slurm_partition=PARTITION -- all",
    "snakemake --profile profiles/kubernetes --configfile data.yaml --container-image REGISTRY/IMAGE "
    "--default-storage-provider s3 --default-storage-prefix s3://BUCKET/reconpatch "
    "--kubernetes-persistent-volumes VOLUME:/data -- all",
    "snakemake --cores 8 --configfile data.yaml -- table_coreset",
    'snakemake --software-deployment-method apptainer --apptainer-args "--nv --bind /data" --cores 8 '
    "--configfile data.yaml container.yaml -- table_coreset",
    "snakemake --cores 2 --configfile configs/real_small.yaml -- table_dimension table_selection",
    "snakemake --cores 8 --configfile configs/real_small.yaml configs/real_long.yaml "
    "-- table_dimension table_selection",
    "snakemake --cores 2 --configfile configs/real_small.yaml -- table_sensitivity",
    "snakemake --cores 2 --configfile configs/real_small.yaml -- table_augmentation",
    *(
        f"snakemake --cores 8 --configfile data.yaml -- table_{name}"
        for name in ("official", "selection", "dimension", "mvtec", "sensitivity")
    ),
    "snakemake --cores 2 smoke",
    "snakemake --cores 2 --configfile one.yaml -- table_selection",
    "snakemake --cores 2 --configfile configs/real_small.yaml -- table_precision",
    "snakemake --cores 2 --configfile configs/full_size.yaml -- table_cost",
    "snakemake --cores 2 --configfile configs/real_small.yaml configs/controls.yaml -- widths official_states",
    "snakemake --cores 2 --configfile configs/miniatures.yaml -- table_loco",
    "snakemake --cores 2 --configfile configs/real_small.yaml -- table_nature",
}
# Commands that are carried out elsewhere, or nowhere, and why.
STUDY = 'docker run --rm --user "$(id -u):$(id -g)" --volume'
ELSEWHERE = {
    "docker build --tag reconpatch .": "needs Docker; docs/containers.md says what was tried",
    "docker build --tag reconpatch:cpu --build-arg TORCH_BACKEND=cpu .": "needs Docker; make image does so",
    "docker run --rm reconpatch reconpatch doctor": "needs Docker; make image does so",
    f'{STUDY} "$PWD:/study" reconpatch reconpatch init paper --data mvtec_ad=/data/mvtec_ad': "needs Docker",
    f'{STUDY} "$PWD/paper:/study" --volume /data:/data:ro reconpatch snakemake --cores 2 smoke': "needs Docker",
    'docker run --rm --init --gpus all --user "$(id -u):$(id -g)" --volume "$PWD/paper:/study" --volume /data:/data:ro '
    "--env HF_HOME=/study/weights reconpatch snakemake --cores 8 table_coreset": "needs Docker, a GPU and data",
    "apptainer build reconpatch.sif apptainer.def": "needs Apptainer",
    "apptainer exec --nv --bind /data reconpatch.sif snakemake --cores 8 table_coreset": "needs Apptainer",
    "reconpatch download visa /data --yes": "transfers 2 GB; test_download.py downloads from a server of its own",
    "reconpatch check table_visa --configfile visa.yaml": "needs the data; test_miniatures.py checks drawn ones",
    **{
        f"snakemake --cores 8 --configfile {name}.yaml -- {target}": "needs the data; the dry run stands for it"
        for name, target in (("visa", "table_visa"), ("data", "table_nature"), ("ad2", "submission_ad2"))
    },
    "python benchmarks/authors.py LOCO_FOLDER MVTEC_AD_FOLDER": "needs the authors' code, which may not be passed on",
    "python benchmarks/gpu/wheels.py": "downloads wheels; its result is in docs/scaling.md",
    "bash benchmarks/gpu/run.sh OUT": "needs a GPU; test_gpu_script.py rehearses it",
    "make smoke": "CI runs it",
    "make test": "CI runs it",
    ". .venv/bin/activate": "the environment of the tests is active",
    "python benchmarks/scaling.py --configfile data.yaml --figure docs/scaling.svg": "plans the paper for minutes",
    "python benchmarks/scaling.py --measured FOLDER --measured FOLDER smoke": "compares finished runs of others",
    "snakemake ... results/runs/<data set>/<category>/<run>/false_alarms.csv": "carried out with its stage",
    "snakemake <name>": "any experiment's name: see the others",
    "snakemake -n": "other tests call it",
    "make install": "make smoke does so first",
    "mkdir -p ~/.local/share/bash-completion/completions": "changes the home of whoever runs the tests",
    "reconpatch --print-completion bash > ~/.local/share/bash-completion/completions/reconpatch": "test_arguments.py "
    "asks bash for completions",
    "pip install dist/*.whl": "make wheel does so",
    'pip install "$(echo dist/*.whl)[workflow,export]"': "make wheel does so",
    "cd study": "here each command is called by itself",
    "reconpatch verify --configfile config.yaml": "docs/notebooks/table2.ipynb verifies a study, as make wheel does",
}
STATUS = {"reconpatch compare RECORD RECORD": 1}  # exit statuses other than 0
INSTEAD = {  # what is put in the place of names that stand for a user's own, and of what takes long
    "RECORD RECORD": "$(ls -d results/runs/screws/screws/* | head -n 2)",
    "--epochs 10": "--epochs 1",
    "epochs=10": "epochs=1",
    "--size 160": "--size 64",
    "size=160": "size=64",
    "--out model": "--out model --backbone tf_efficientnet_lite0 --weights embedded --size 64 --epochs 1",
    'weights="embedded").fit': 'weights="embedded", size=64, epochs=1).fit',
}
QUICKER = {  # an overlay more for every `snakemake --configfile` of RUN
    "baseline": {"resize": 64, "crop": 64, "epochs": 1, "batch": 64, "coreset": 0.1},
    "resamples": 100,
}
OTHER_YAML: dict[str, str] = {}  # files that are not for reconpatch, and what looks at them
SCRIPTS_ELSEWHERE: dict[str, str] = {}  # Python snippets that are not run, by their first line, and why
# What lies below /data in the documents: {folder: images in it}, masks where the folder says so.
IMAGES = {
    **{f"mvtec_ad/{c}/{f}": 3 for c in ("bottle", "pill") for f in ("train/good", "test/good", "test/bad")},
    **{f"mvtec_ad/{c}/ground_truth/bad": 3 for c in ("bottle", "pill")},
    **{f"btad/BTech_Dataset_transformed/01/{f}": 3 for f in ("train/ok", "test/ok", "test/ko", "ground_truth/ko")},
    **{f"screws/{f}": 4 for f in ("train", "test/good", "test/bent")},
    **{f"caps/{f}": n for f, n in {"photos/whole": 5, "photos/broken": 2, "labels": 2}.items()},
    **{f"photos/{f}": 8 for f in ("good", "new", "test/good", "test/bent")},
    **{f"parts/bolt/{f}": 3 for f in ("normal/train", "inspected/good", "inspected/dent", "labels/dent")},
}
WEIGHTS = {  # untrained, as files of these names below /data/weights
    "resnet18.pth": "resnet18",
    "resnet18.tv_in1k.to_layer3.safetensors": "resnet18",
    "tf_efficientnet_lite2.in1k.safetensors": "tf_efficientnet_lite2",
}

# --- reading the documents -------------------------------------------------------------------------------------------

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "results/README.md"]
LANGUAGES = {"": "command", "bash": "command", "yaml": "yaml", "python": "python", "diff": "diff", "text": "text"}


@dataclass(frozen=True)
class Example:
    """A block of a document, or one command in it."""

    where: str  # file and line
    kind: str
    text: str


def commands(text: str) -> list[str]:
    """Lines of a shell -> its commands, without comments, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(c.split()) for line in lines if (c := re.sub(r"(^|\s+)# .*", "", line).strip())]


def examples(document: Path) -> list[Example]:
    """Everything in a document that a reader might carry out, in its order."""
    found, block, language = [], None, ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{os.path.relpath(document, ROOT)}:{number}"
        if line.strip().startswith("```"):
            if block is None:
                block, language = [], line.strip().removeprefix("```")
                continue
            assert language in LANGUAGES, f"{where}: a block of {language!r}; give one of {', '.join(LANGUAGES)}"
            kind, text = LANGUAGES[language], "\n".join(block) + "\n"
            texts = commands(text) if kind == "command" else [text]
            found += [Example(where, kind, text) for text in texts]
            block = None
        elif block is not None:
            block.append(line)
        else:
            found += [Example(where, "command", span) for span in re.findall(r"`(snakemake [^`]+)`", line)]
    assert block is None, f"{document}: a block is not closed"
    return found


ALL = [example for document in DOCUMENTS for example in examples(document)]


def name_of(example: Example) -> str:
    """The file that a block of YAML is."""
    match = re.match(r"# (\S+\.yaml)\n", example.text)
    assert match, f"{example.where}: the first line of the block must be a comment with the file's name"
    return match[1]


# --- what every example must be --------------------------------------------------------------------------------------


def test_every_command_has_an_entry_and_every_entry_a_command() -> None:
    documented = {example.text for example in ALL if example.kind == "command"}
    entries = [*RUN, *PLANNED, *ELSEWHERE]
    assert len(entries) == len(set(entries)) and all(RUN.values())
    lacking = [f"{e.where}: {e.text}" for e in ALL if e.kind == "command" and e.text not in entries]
    assert not lacking, "give them an entry in RUN, PLANNED or ELSEWHERE of this file"
    assert not set(entries) - documented and not set(STATUS) - set(RUN)
    assert all(len(reason) > 5 for reason in [*ELSEWHERE.values(), *SCRIPTS_ELSEWHERE.values(), *OTHER_YAML.values()])
    text = "\n".join(example.text for example in ALL)
    assert not [given for given in [*INSTEAD, *SCRIPTS_ELSEWHERE, *OTHER_YAML] if given not in text]


def test_mentioned_subcommands_and_targets_exist() -> None:
    """Also where prose mentions a command without carrying it out, as `reconpatch check`."""
    makefile = (ROOT / "Makefile").read_text()
    _, usage = call("reconpatch --help", ROOT)
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for program, word in re.findall(r"(?:^|`)(reconpatch|make) ([a-z-]+)", text, re.MULTILINE):
            pattern, known = (rf"^{word}:", makefile) if program == "make" else (rf"^ +{word}\b", usage)
            assert re.search(pattern, known, re.MULTILINE), f"{document}: {program} {word}"


def test_a_file_has_one_content() -> None:
    files: dict[str, str] = {}
    for example in ALL:
        if example.kind == "yaml":
            assert files.setdefault(name_of(example), example.text) == example.text, example.where
            assert len(example.text.splitlines()) < 20, f"{example.where}: longer than a reader would copy"


# --- carrying them out -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow with the documents' files in it, and what they call /data."""
    where = tmp_path_factory.mktemp("documents") / "checkout"
    where.mkdir()
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, where / part)
    rng = np.random.default_rng(0)
    for folder, count in IMAGES.items():
        masks = re.search("ground_truth|labels", folder)
        for i in range(count):
            file = where / "data" / folder / f"{i:03}.png"
            write_mask(file) if masks else write_image(file, rng)
    rows = [f"red,{'train' if i < 3 else 'test'},,photos/whole/{i:03}.png," for i in range(5)]
    rows += [f"red,test,crack,photos/broken/{i:03}.png,labels/{i:03}.png" for i in range(2)]
    table = "\n".join(["colour,split,defect,photo,mask", *rows])
    (where / "data/caps/inspected.csv").write_text(table + "\n")
    write_miniature("visa", where / "data/visa", categories=["candle"])
    (where / "data/weights").mkdir()
    for file, name in WEIGHTS.items():
        state = timm.create_model(name).state_dict()
        save = torch.save if file.endswith(".pth") else save_file
        save(state, where / "data/weights" / file)
    for example in ALL:
        if example.kind == "yaml":
            (where / name_of(example)).write_text(adapted(example.text, where))
    (where / "photos").symlink_to("data/photos")
    (where / "quicker.yaml").write_text(yaml.safe_dump(QUICKER))
    return where


def adapted(text: str, place: Path) -> str:
    """An example as it is carried out."""
    for documented, ours in INSTEAD.items():
        text = text.replace(documented, ours)
    return text.replace("/data/", f"{place}/data/")


def call(command: str, place: Path) -> tuple[int, str]:
    """A shell's command -> its exit status and what it printed. `reconpatch` needs no process, which saves seconds."""
    if re.fullmatch(r"reconpatch [^$|&;<>]*", command):
        return call_here(lambda: cli.main(), shlex.split(command))
    programs = Path(sys.executable).parent
    env = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")}
    env |= {"PATH": f"{programs}:{env['PATH']}", "RECONPATCH_DATA": str(place / "data")}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=place, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def call_here(main: Callable[[], object], words: list[str]) -> tuple[int, str]:
    """The same for a program in this process, where the working directory is the workspace's."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as stop:
            text = f"{stop.code}" if isinstance(stop.code, str) else ""
            return (1 if text else int(stop.code or 0)), said.getvalue() + text
    return 0, said.getvalue()


def run(example: Example, place: Path) -> None:
    """Carry out a command of RUN."""
    command = adapted(example.text, place)
    if command.startswith("snakemake"):
        command = re.sub(r"(--configfile( [\w./-]+\.yaml)+)", r"\1 quicker.yaml", command)
    status, said = call(command, place)
    assert status == STATUS.get(example.text, 0), f"{example.where}: {example.text}\n{said[-6000:]}"
    assert RUN[example.text] in said, f"{example.where}: {example.text}\n{said[-6000:]}"


def plan(example: Example) -> None:
    """Plan what a Snakemake command of PLANNED asks for: every target it names has runs, or, of `all`, some have."""
    words = shlex.split(example.text)[1:]
    for name in re.findall(r"--profile (\S+)", example.text):
        assert list(Path(name).glob("*.yaml")), f"{example.where}: {name}"
    files = [Path(word) for word in words if word.endswith(".yaml")]
    targets = words[words.index("--") + 1 :] if "--" in words else words[-1:]
    planned = load_plan(files, [target for target in targets if target != "all"])
    at_hand = [name for name in planned.experiments if planned.at_hand(name) and planned.members(name)]
    assert at_hand and set(targets) <= {*at_hand, "all"}, f"{example.where}: {example.text}: {planned.absent}"


def overlay_or_experiment(example: Example) -> None:
    """Read a file as what it is, and plan it."""
    name = name_of(example)
    if name in OTHER_YAML:
        return
    content = read_yaml(Path(name))
    if "title" in content:
        read_experiment(Path(name))
        assert any(name in str(yaml.safe_load(e.text)) for e in ALL if e.kind == "yaml" and name_of(e) != name), name
    else:
        load_plan([Path(name)])


def script(example: Example, place: Path) -> None:
    first = example.text.splitlines()[0]
    if first not in SCRIPTS_ELSEWHERE:
        (place / "snippet.py").write_text(adapted(example.text, place))
        status, said = call_here(lambda: runpy.run_path("snippet.py", run_name="__main__"), ["snippet.py"])
        assert status == 0, f"{example.where}:\n{said[-6000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.relative_to(ROOT).as_posix())
def test_examples_of(document: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RECONPATCH_DATA", str(place / "data"))
    does: dict[str, Callable[[Example], object]] = {
        "command": lambda e: run(e, place) if e.text in RUN else plan(e) if e.text in PLANNED else None,
        "yaml": overlay_or_experiment,
        "python": lambda e: script(e, place),
    }
    for example in examples(document):
        does.get(example.kind, lambda _: None)(example)


# --- the changes of docs/extending.md ---------------------------------------------------------------------------------


def applied(example: Example, root: Path) -> None:
    """Apply a diff of one file or several, new ones too, to a copy of the repository: every hunk stands there once."""
    for part in example.text.split("--- ")[1:]:
        match = re.match(r"(\S+)\n\+\+\+ b/(\S+)\n", part)
        assert match, f"{example.where}: not the head of a diff"
        file, new_file = root / match[2], match[1] == "/dev/null"
        text = "" if new_file else file.read_text()
        for hunk in part.split("@@\n")[1:]:
            lines = hunk.splitlines()
            old, new = ("".join(f"{x[1:]}\n" for x in lines if (x or " ")[0] in kept) for kept in (" -", " +"))
            assert new_file or text.count(old) == 1, f"{example.where}: {old}"
            text = new if new_file else text.replace(old, new)
        file.write_text(text)


@pytest.fixture(scope="module")
def extended(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow and of the package with every diff of the documents, and an experiment that uses them."""
    folder = tmp_path_factory.mktemp("extended") / "checkout"
    shutil.copytree(place, folder, symlinks=True, ignore=shutil.ignore_patterns("results", ".snakemake", "logs"))
    for part in ("reconpatch", "tests"):
        shutil.copytree(ROOT / part, folder / part)  # with the compiled loops
    for example in ALL:
        if example.kind == "diff":
            applied(example, folder)
    data = {"screws": {"layout": "folder", "root": str(place / "data/screws")}}
    data["parts"] = {"layout": "parts", "root": str(place / "data/parts")}
    chosen = {"backbone": "tf_efficientnet_lite0", "weights": "embedded", "method": "patchcore"}
    files = {
        "extended.yaml": {"datasets": data, "experiments": {"extended": "e.yaml", "my_parts": "parts_experiment.yaml"}},
        "e.yaml": {"title": "E", "datasets": {"screws": "all"}, "set": chosen, "figures": {"ranking": {}}},
        "parts_experiment.yaml": {"title": "Parts", "datasets": {"parts": "all"}, "set": {"weights": "random"}},
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    return folder


def call_extended(command: str, extended: Path) -> tuple[int, str]:
    """Run a command with the changed package."""
    return call(f"PYTHONPATH={shlex.quote(str(extended))} {command}", extended)


def test_the_layout_of_the_documents_finds_its_images(extended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of docs/extending.md are all that a layout needs; without them there is none."""
    command = "reconpatch check my_parts --configfile extended.yaml"
    status, said = call_extended(command, extended)
    assert status == 0 and "parts/bolt: 3 training, 3 normal and 3 anomalous test images, 3 masks" in said, said
    monkeypatch.chdir(extended)
    status, said = call(command, extended)
    assert status == 1 and "datasets.parts.layout = 'parts'" in said, said


NAMES = """
from pathlib import Path
from reconpatch.experiments.plan import load_plan, stage_names
from reconpatch.experiments.run import BASELINE, vary
from reconpatch.method.training_settings import TrainingSettings

changed = vary(BASELINE, {"final_rate": "0.1"}, "x")
assert TrainingSettings.of(changed.model_dump()).final_rate == 0.1
before, after = stage_names(BASELINE), stage_names(changed)
print(*sorted(stage for stage in before if before[stage] != after[stage]))
print(*load_plan([Path("extended.yaml"), Path("quicker.yaml")], ["extended"]).members("extended"))
"""


def test_the_stage_the_figure_the_metric_and_the_parameter_of_the_documents_work(extended: Path) -> None:
    """What docs/extending.md shows is all that they need. Another value of the parameter renames the stages that use it
    and later ones; the metric stands in records, and with its interval in tables.
    """
    (extended / "names.py").write_text(NAMES)
    status, said = call_extended("python names.py", extended)
    assert status == 0, said
    stages, run = said.splitlines()
    assert stages == "bank training", stages
    status, said = call_extended("reconpatch schemas --check", extended)
    assert status == 1 and "configs/default.yaml, docs/configuration.md" in said, said
    test = "tests/unit/method/test_training.py -k final_share"
    status, said = call_extended(f"python -m pytest -q -c /dev/null --rootdir . -o pythonpath=tests {test}", extended)
    assert status == 0 and "1 passed" in said, said

    results = extended / "results"
    listed = results / "runs/screws/screws" / run / "false_alarms.csv"
    files = "extended.yaml quicker.yaml"
    wanted = shlex.quote(str(listed.relative_to(extended)))
    status, said = call_extended(f"snakemake --cores 2 --configfile {files} -- extended {wanted}", extended)
    assert status == 0, said[-6000:]
    assert listed.read_text().startswith("image,score\n")
    assert list((results / "figures/extended").rglob("ranking.svg"))
    with (results / "tables/extended.csv").open(newline="") as stream:
        (cell,) = (row for row in csv.DictReader(stream) if row["metric"] == "image_fpr_95")
    record = json.loads((results / cell["links"]).read_text())
    assert record["metrics"]["image_fpr_95"] == float(cell["value"])
    assert float(cell["low"]) <= float(cell["value"]) <= float(cell["high"])
    table = (results / "tables/extended.md").read_text()
    assert "image FPR at 95 % TPR" in table and "Lower is better" in table


def test_no_placeholder_is_left() -> None:
    for file in DOCUMENTS:
        assert not re.findall(r"@[A-Z]+@|\b(?:TODO|TBD|FIXME)\b", file.read_text(encoding="utf-8")), file
