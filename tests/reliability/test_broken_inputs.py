"""Everything a user may get wrong, in one table: the message names the file or key, the value and the fix, nothing
crashes, and nothing in a file is run.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from drawing import make_record, write_image, write_mask
from hostile import pickles, safetensors
from running import ROOT
from safetensors.torch import save_file

from reconpatch.cli.main import main
from reconpatch.data.index import index
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.config import read_config, read_experiment, read_yaml
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import load_plan, make_plan
from reconpatch.method.backbones import load_backbone, read_state
from reconpatch.method.memory_bank import MemoryBank, Representation
from reconpatch.records.record import read_record, write_record

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
SMALL = "resnet10t"
EXPERIMENT = {"title": "Nuts", "datasets": {"mine": "all"}, "set": {"backbone": SMALL, "weights": "random"}}


@dataclass(frozen=True)
class Case:
    """What is broken and how, what is called, and what its message must say."""

    name: str
    run: Callable[[Path], object]
    says: tuple[str, ...]


def case(name: str, run: Callable[[Path], object], *says: str) -> Case:
    return Case(name, run, says)


def config(name: str, key: str, value: object, *says: str) -> Case:
    """A value of the whole configuration."""
    return case(f"configuration: {name}", lambda _: read_config(DEFAULT | {key: value}), "configuration: ", *says)


def baseline(name: str, changes: dict[str, object], *says: str) -> Case:
    return config(name, "baseline", DEFAULT["baseline"] | changes, *says)


def yaml_text(name: str, text: str | bytes, *says: str) -> Case:
    """An experiment's file of this text."""

    def run(folder: Path) -> None:
        (folder / "e.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        read_experiment(folder / "e.yaml")

    return case(f"experiment's file: {name}", run, "e.yaml", *says)


def draw(folder: Path, images: int = 2, category: str = "nut") -> Path:
    """A data set with one category of 48 x 40 px; gives its root."""
    rng, place = np.random.default_rng(0), folder / "data" / category
    for i in range(images):
        write_image(place / f"train/good/{i}.png", rng)
        write_image(place / f"test/good/{i}.png", rng)
        write_image(place / f"test/bent/{i}.png", rng)
        write_mask(place / f"ground_truth/bent/{i}_mask.png")
    return folder / "data"


def planned(name: str, changes: dict[str, object], *says: str, category: str = "nut", **whole: object) -> Case:
    """An experiment on a drawn data set, planned and checked."""

    def run(folder: Path) -> None:
        data = {"mine": {"layout": "mvtec_ad", "root": str(draw(folder, category=category))}}
        (folder / "nuts.yaml").write_text(yaml.safe_dump(EXPERIMENT | changes))
        content = DEFAULT | {"datasets": data, "experiments": {"nuts": str(folder / "nuts.yaml")}} | whole
        networks = Networks(folder / "answers.json")
        check_backbones(make_plan(read_config(content), networks=networks), networks)

    return case(f"experiment: {name}", run, *says)


def sized(name: str, changes: dict[str, object], *says: str) -> Case:
    """Settings of a run on 2 images of 48 x 40 px, from which 32 px are cropped: 4 x 4 patches each, 32 in all."""
    small = {"resize": 40, "crop": 32, "level_dim": 32, "feature_dim": 32, "dim": 16, "coreset": 0.5, "batch": 32}
    settings = {"backbone": SMALL, "weights": "random"} | small | changes
    return planned(name, {"set": settings}, "experiment nuts", *says)


def overlay(name: str, text: str, *says: str) -> Case:
    """An overlay as `reconpatch plan --configfile` reads it."""

    def run(folder: Path) -> None:
        (folder / "overlay.yaml").write_text(text)
        load_plan([folder / "overlay.yaml"])

    return case(f"overlay: {name}", run, *says)


def weights(name: str, content: bytes, suffix: str) -> Case:
    def run(folder: Path) -> None:
        (folder / f"w{suffix}").write_bytes(content)
        read_state(folder / f"w{suffix}")

    return case(f"weights{suffix}: {name}", run, f"w{suffix}: ", "plain")


def state(
    name: str, change: Callable[[dict[str, torch.Tensor]], object], *says: str, pinned: str | tuple[str, ...] = ()
) -> Case:
    """A network's own weights, changed."""

    def run(folder: Path) -> None:
        torch.manual_seed(0)
        content = timm.create_model(SMALL).state_dict()
        change(content)
        save_file(content, folder / "w.safetensors")
        load_backbone(SMALL, [2, 3], "file", folder / "w.safetensors", pinned=pinned)

    return case(f"weights: {name}", run, SMALL, "w.safetensors", *says)


def set_nan(content: dict[str, torch.Tensor]) -> None:
    content["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan


def record(name: str, change: Callable[[str], str | bytes], *says: str) -> Case:
    def run(folder: Path) -> None:
        write_record(folder / "record.json", make_record())
        content = change((folder / "record.json").read_text())
        (folder / "record.json").write_bytes(content.encode() if isinstance(content, str) else content)
        read_record(folder / "record.json")

    return case(f"record: {name}", run, "record.json: ", *says)


def bank(name: str, changes: dict[str, Any], *says: str) -> Case:
    def run(folder: Path) -> None:
        whole = MemoryBank(np.ones((4, 2), np.float32), np.arange(4), Representation(2), 9)
        replace(whole, **changes).save(folder / "bank.safetensors")
        MemoryBank.load(folder / "bank.safetensors")

    return case(f"bank: {name}", run, "bank.safetensors: not a memory bank", *says)


def bytes_as_bank(folder: Path) -> None:
    (folder / "bank.safetensors").write_bytes(b"\x80\x04]")
    MemoryBank.load(folder / "bank.safetensors")


def images(name: str, change: Callable[[Path], object], *says: str) -> Case:
    """A category whose files are changed, indexed."""

    def run(folder: Path) -> None:
        root = draw(folder)
        change(root / "nut")
        index("mvtec_ad", root, "nut")

    return case(f"data: {name}", run, "nut", *says)


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


HEX = "0123456789abcdef" * 4
BTAD = DEFAULT["datasets"]["btad"]
CASES = [
    # configuration: names and paths
    *(
        config(f"data set called {name!r}"[:60], "datasets", {name: BTAD}, "datasets.", "names start with a letter")
        for name in ("../x", "/etc", "a\nb", "~", "a\x00b", "x" * 300, "p\u0430th", "a b", "")
    ),
    config("names that differ in case", "datasets", {"Nut": BTAD, "nut": BTAD}, "'Nut' and 'nut'", "rename one"),
    config("an experiment called as a rule", "experiments", {"score_run": "x"}, "experiments.score_run", "another"),
    config("categories twice", "datasets", {"a": BTAD | {"categories": ["01", "01"]}}, "'01' is there twice", "once"),
    config("a category that is a number", "datasets", {"a": BTAD | {"categories": [1]}}, "categories.0 = 1", "quotes"),
    config("a root that is no path", "datasets", {"a": BTAD | {"root": "a\x00"}}, r"datasets.a.root = 'a\x00'", "path"),
    config("two samples", "datasets", {n: BTAD | {"layout": "sample", "root": n} for n in "ab"}, "a and b", "one"),
    baseline("a network called as a path", {"backbone": "../../x"}, "baseline.backbone = '../../x'", "timm's names"),
    # configuration: numbers
    *(
        baseline(f"learning_rate {value!r}", {"learning_rate": value}, f"baseline.learning_rate = {value!r}", "finite")
        for value in (float("nan"), float("inf"), "1e400", "nan")
    ),
    baseline("true as a number", {"dim": True}, "baseline.dim = True", "give a number"),
    baseline("a crop beyond sense", {"crop": 10**9, "resize": 10**9}, "baseline.crop = 1000000000", "8192"),
    baseline("a number of 5,000 digits", {"epochs": 10**5000}, "baseline.epochs = (a number of thousands", "1000000"),
    baseline("text as a number", {"k": "five"}, "baseline.k = 'five'", "valid integer"),
    baseline("a seed that generators refuse", {"seed": 2**32}, "baseline.seed = 4294967296", "less than"),
    baseline("crop above resize", {"crop": 300}, "crop 300 is larger than resize 256", "lower crop or raise resize"),
    baseline("an even patch", {"patch_size": 4}, "baseline.patch_size = 4", "must be odd"),
    config("seeds twice", "seeds", [0, 1, 0], "seeds = [0, 1, 0]", "0 is there twice", "every value once"),
    config("no mapping", "baseline", [1], "baseline = [1]", "must be a section"),
    config("a misspelt key", "sedes", [1], "unknown key sedes", "check its spelling"),
    config("a pin that is no digest", "weight_digests", {SMALL: "abc"}, f"weight_digests.{SMALL} = 'abc'", "64"),
    config("a misspelt key of a stand-in", "stand_ins", {"a": {"dmi": 1}}, "stand_ins.a", "'dmi'", "spelling"),
    # experiments' files
    yaml_text("a key twice", "title: x\nset: {}\ntitle: y\n", "line 3", "'title' is there twice", "keep one"),
    yaml_text("a key twice, deep", "title: x\nset: {dim: 1, dim: 2}\n", "line 2", "'dim' is there twice"),
    yaml_text("a tab", "title: x\nset:\n\tdim: 1\n", "line 3: not valid YAML", "indent with spaces"),
    yaml_text("a Python tag", "title: !!python/object/apply:os.system ['touch ran']\n", "line 1: not valid YAML"),
    yaml_text("a date", "title: 2024-02-03\n", "title = datetime.date(2024, 2, 3)", "in quotes"),
    yaml_text("a key that is a number", "title: x\nvariants: {1: {}}\n", "variants.1", "in quotes"),
    yaml_text("an integer of 5,000 digits", f"title: {'9' * 5000}\n", "cannot be read", "5000 digits"),
    yaml_text("nested 2,000 deep", "title: " + "[" * 2000, "cannot be read", "recursion"),
    yaml_text("empty", "# nothing\n", "empty", "title and datasets"),
    yaml_text("a list", "- title: x\n", "(whole) = [{'title': 'x'}]", "must be a section"),
    yaml_text("two documents", "title: x\n---\ntitle: y\n", "line 2: not valid YAML", "single document"),
    yaml_text("UTF-16", "title: é\n".encode("utf-16"), "not UTF-8", "save it as UTF-8"),
    case("experiment's file: a folder", read_yaml, "a folder", "give the path of a YAML file"),
    case("experiment's file: a device", lambda _: read_yaml(Path("/dev/zero")), "/dev/zero: no regular file"),
    case("experiment's file: missing", lambda f: read_yaml(f / "absent.yaml"), "absent.yaml: no such file"),
    case("experiment's file: no path", lambda f: read_yaml(f / ("x" * 300)), "cannot be read", "File name too long"),
    # experiments
    planned("values twice", {"axes": {"coreset": [0.1, "1e-1"]}}, "nuts: axes: coreset: '1e-1' is there twice", "once"),
    planned("seeds twice", {"axes": {"seed": [1, 1.0]}}, "nuts: axes: seed: 1.0 is there twice"),
    planned("an axis of nothing", {"axes": {"dim": []}}, "axes: dim = []", "at least one value"),
    planned("an axis of no parameter", {"axes": {"dmi": [1]}}, "'dmi' is no parameter", "did you mean dim"),
    planned("an unknown parameter", {"set": {"dmi": 1}}, "experiment nuts", "'dmi' is no parameter", "mean dim"),
    planned("a figure of no value", {"axes": {"dim": [8]}, "figures": {"umap": {"dim": 9}}}, "dim = 9", "[8]"),
    planned(
        "more pooled than there is", {"set": {"feature_dim": 4096}}, "feature_dim 4096", "lower it or raise level_dim"
    ),
    planned("an epoch not kept", {"set": {"epoch": 7}}, "epoch = 7 is not among checkpoints", "add it"),
    planned("a share not kept", {"set": {"epoch": "3/7"}}, "epoch = 3/7 is not among checkpoints", "add it"),
    planned("more than the whole", {"set": {"dim": "3/2"}}, "experiment nuts: dim = '3/2'", "at most 1"),
    planned(
        "a width of words",
        {"set": {"level_dim": "wide"}},
        "experiment nuts: level_dim = 'wide'",
        "a whole number, or auto",
    ),
    planned("a reference of no row", {"axes": {"dim": [8]}, "reference": {"dim": 9}}, "dim = 9 is no row", "dim: 8"),
    planned("an oracle over no axis", {"axes": {"dim": [8]}, "oracle": "k"}, "oracle: 'k' is no axis", "name one"),
    planned(
        "a view of no axis", {"axes": {"dim": [8]}, "view": {"rows": ["dmi"]}}, "'dmi' is no part", "did you mean dim"
    ),
    planned(
        "a view twice of a metric", {"view": {"metrics": ["image_f1"] * 2}}, "image_f1 is there twice", "name it once"
    ),
    planned("a view of no metric", {"view": {"metrics": ["image_auc"]}}, "no metric 'image_auc'", "mean image_auroc"),
    case("an experiment that is not there", lambda f: load_plan([], ["table_mvtc"]), "table_mvtc", "mean table_mvtec"),
    planned("an unknown data set", {"datasets": {"yours": "all"}}, "data set 'yours' is not under datasets"),
    planned("an unknown category", {"datasets": {"mine": ["bolt"]}}, "category 'bolt' is not in data set mine", "nut"),
    planned("a category called mean", {}, "datasets.mine.root", "'mean'", "rename the folder", category="mean"),
    planned("an unknown network", {"set": {"backbone": "resnet10tt"}}, "backbone 'resnet10tt'", "similar: resnet10t"),
    planned("a level too many", {"set": {"backbone": SMALL, "levels": [2, 9]}}, "no level 9; its levels are"),
    planned("a pin of no network", {}, "weight_digests.resnet10", weight_digests={"resnet10": HEX}),
    sized("a patch larger than the grid", {"patch_size": 5}, "patch_size = 5", "4 x 4", "lower it or raise crop"),
    sized("more neighbours than the bank", {"neighbours": 17}, "neighbours = 17", "bank of 16", "lower neighbours"),
    sized("a ratio that keeps nothing", {"coreset": 0.01}, "coreset = 0.01 keeps none of 32", "raise it to 0.03125"),
    sized("more similar patches than there are", {"k": 40, "batch": 80}, "k = 40", "32 training patches", "add images"),
    # overlays
    overlay("a data set that is not there", "datasets: {btad: {root: /nowhere}}", "datasets.btad.root", "/nowhere"),
    overlay("~ of no one", "datasets: {btad: {root: ~nobody-of-this-name/x}}", "datasets.btad.root = '~nobody", "home"),
    overlay("a variable that is not set", "datasets: {btad: {root: $NOT_SET_X}}", "root = '$NOT_SET_X'", "set it"),
    overlay("changes of no experiment", "overrides: {table_mvtc: {}}", "overrides.table_mvtc", "mean table_mvtec"),
    overlay("changes of no variant", "overrides: {table_mvtec: {variants: {9 px: {}}}}", "'9 px'", "224 px"),
    overlay("no YAML", "datasets: {", "overlay.yaml", "not valid YAML"),
    case("overlay: missing", lambda f: load_plan([f / "absent.yaml"]), "absent.yaml: no such file"),
    # weights
    *(weights(name, content, ".pth") for name, content in pickles(Path("ran")).items()),
    *(weights(name, content, ".safetensors") for name, content in safetensors().items()),
    state("NaN", set_nan, "'layer1.0.conv1.weight' is not finite", "give another"),
    state("half precision", lambda s: s.update({k: v.half() for k, v in s.items()}), "another type", "torch.float16"),
    state("a missing tensor", lambda s: s.pop("conv1.0.weight"), "1 tensors missing, first 'conv1.0.weight'"),
    state("a surplus tensor", lambda s: s.update(x=torch.zeros(1)), "1 tensors unknown, first 'x'"),
    state("another shape", lambda s: s.update({"conv1.0.weight": torch.zeros(2)}), "another shape", "(2,) instead of"),
    state("others than pinned", lambda s: None, f"weight_digests.{SMALL} pins {HEX}", "SHA-256 is", pinned=HEX),
    # records and banks
    record("cut off", lambda text: text[:200], "not a record"),
    record("a list", lambda _: "[]", "not a record"),
    record("another type", lambda text: text.replace('"seed": 0', '"seed": "x"'), "seed"),
    record("NaN", lambda text: text.replace("0.5", "NaN"), "not a record"),
    bank("too few patches in all", {"training_patches": 3}, "4 rows of 3"),
    bank("rows that differ", {"patches": np.ones((3, 2), np.float32)}, "(3, 2), not finite"),
    bank("NaN", {"patches": np.full((4, 2), np.nan, np.float32)}, "not finite float32"),
    bank("double precision", {"patches": np.ones((4, 2))}, "float64"),
    bank("f without its bias", {"representation": Representation(2, *np.ones((2, 2, 1), np.float32))}, "f.bias"),
    case("bank: other bytes", bytes_as_bank, "bank.safetensors: not a memory bank"),
    # data
    images("text as an image", lambda f: (f / "train/good/0.png").write_text("no image"), "good/0.png"),
    images("an image cut off", lambda f: halve(f / "test/bent/1.png"), "bent/1.png"),
    images("an empty image", lambda f: (f / "test/good/0.png").write_bytes(b""), "test/good/0.png"),
    images("a missing mask", lambda f: (f / "ground_truth/bent/1_mask.png").unlink(), "bent/1.png", "no mask"),
    images("a mask too many", lambda f: write_mask(f / "ground_truth/bent/9_mask.png"), "9_mask.png", "mask without"),
    images("a mask of another size", lambda f: write_mask(f / "ground_truth/bent/0_mask.png", (40, 40)), "is 40x40 px"),
    images("an empty mask", lambda f: write_mask(f / "ground_truth/bent/0_mask.png", box=(0, 0, 0, 0)), "is empty"),
    images("no training images", lambda f: shutil.rmtree(f / "train/good"), "train/good: no images"),
    images("no category", shutil.rmtree, "no such folder"),
]


@pytest.mark.parametrize("broken", CASES, ids=lambda c: c.name)
def test_broken_input_is_explained(broken: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ReconpatchError) as error:
        broken.run(tmp_path)
    message = str(error.value)
    assert not [text for text in broken.says if text not in message], message
    assert "Traceback" not in message and len(message) < 5000
    assert all(line.isprintable() for line in message.split("\n")), message
    assert not (ROOT / "ran").exists() and not (tmp_path / "ran").exists(), "code in the file was run"


# What the command line is given: arguments, files beside it, and what its message must say.
OVERLAY = ["plan", "--configfile", "o.yaml"]
COMMANDS: dict[str, tuple[list[str], dict[str, str], tuple[str, ...]]] = {
    "no command": ([], {}, ("usage: reconpatch", "required")),
    "an unknown command": (["pln"], {}, ("invalid choice: 'pln'", "plan")),
    "a missing overlay": (["plan", "--configfile", "absent.yaml"], {}, ("absent.yaml: no such file",)),
    "a misspelt key": (OVERLAY, {"o.yaml": "sedes: [1]"}, ("unknown key sedes", "spelling")),
    "an experiment with a key twice": (
        OVERLAY,
        {"o.yaml": "experiments: {e: e.yaml}", "e.yaml": "title: x\ntitle: y\n"},
        ("e.yaml, line 2", "'title' is there twice", "keep one"),
    ),
    "a patch larger than the grid": (
        OVERLAY,
        {"o.yaml": "overrides: {smoke: {set: {patch_size: 29}}}"},
        ("experiment smoke: patch_size = 29", "28 x 28", "lower it or raise crop"),
    ),
    "weights that are a pickle": (
        ["check", "--configfile", "o.yaml"],
        {
            "o.yaml": f"{{overrides: {{smoke: {{set: {{backbone: {SMALL}, weights: file}}}}}}, "
            f"weight_files: {{{SMALL}: w.pth}}}}",
            "w.pth": "cos\nsystem\n(S'touch ran'\ntR.",
        },
        ("w.pth: cannot be read safely", "give safetensors"),
    ),
}


@pytest.mark.parametrize(("arguments", "files", "says"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_line_ends_with_one_message(arguments, files, says, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reconpatch", *arguments])
    for part in ("configs", "workflow"):
        (tmp_path / part).symlink_to(ROOT / part)
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().err + (end.value.code if isinstance(end.value.code, str) else "")
    assert end.value.code not in (0, None) and not (tmp_path / "ran").exists()
    message = re.sub(r"\s+", " ", printed)
    assert not [text for text in says if text not in message] and "Traceback" not in message, message
