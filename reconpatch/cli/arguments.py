"""The command line: one function per command. Each command's parser sets `call`, a function of the parsed arguments."""

import argparse
import math
from pathlib import Path
from typing import Any

import shtab
import yaml

from reconpatch.cli import doctor, evaluation, photographs, replication, study
from reconpatch.data.images import ASPECTS
from reconpatch.data.layouts import NORMAL, SAMPLE
from reconpatch.data.sources import PUBLISHED
from reconpatch.detector.settings import (
    ALL_VALUES,
    AUTO,
    BATCH_IMAGES,
    FALSE_ALARM_RATE,
    FEWEST_ROWS,
    FOLDS,
    HOLD_OUT,
    MANY_IMAGES,
    PRESETS,
)
from reconpatch.detector.truth import LEAST_GREY
from reconpatch.experiments.run import DEFAULTS, RunSettings
from reconpatch.version import VERSION

Subparsers = argparse._SubParsersAction  # has no public name

DESCRIPTION = (
    "Find defects on your own photographs (fit, predict, evaluate, show, export, sample), or plan and check the "
    "replication of the paper (init, plan, check, download, miniature, compare, verify), whose tables are made by "
    "snakemake. doctor says what is installed. `reconpatch COMMAND --help` says more."
)

EXAMPLES = {
    "fit": """\
examples:
  reconpatch fit photos/good --out model
  reconpatch fit photos/good --out model --fast
  reconpatch fit photos/good --out model --backbone tf_efficientnet_lite0 --weights embedded --epochs 10
  reconpatch fit photos/good --out model --weight-file wide_resnet50.pth --size 320 --aspect pad
  reconpatch fit photos/good --out model --method patchcore --calibrate photos/good-of-another-day
""",
    "predict": """\
examples:
  reconpatch predict model photos/new --out found
  reconpatch predict model photos/new --out found --masks --false-alarms 0.01
  reconpatch predict model photos/new --out found --no-overlays --profile --json

exit status: 0 all images were scored, 3 some could not be read and were left out, 1 an error, 2 wrong usage.
""",
    "evaluate": """\
examples:
  reconpatch evaluate model photos/test                      folders good/ and one for each type of defect
  reconpatch evaluate model photos/test --masks photos/ground_truth
  reconpatch evaluate model --labels labels.csv              columns image,label and, if you like, mask
  reconpatch evaluate model photos/test --report page.html   with curves, histograms and the worst images
  reconpatch evaluate found/scores.csv                       what predict wrote, without scoring again
  reconpatch evaluate model other-model photos/test          compare two, also two scores.csv
""",
    "show": "example:\n  reconpatch show model\n",
    "export": """\
examples:
  reconpatch export model --out model.onnx
  reconpatch export model --out model.onnx --check photos/test
  reconpatch export model --format openvino --out model.xml --photograph 1600x1200
""",
    "init": """\
example:
  reconpatch init study --data mvtec_ad=/data/mvtec_ad
""",
    "sample": "example:\n  reconpatch sample demo\n",
    "miniature": """\
examples:
  reconpatch miniature mvtec_loco made_up/loco
  reconpatch miniature visa made_up/visa --category candle pcb1 --seed 3
""",
}


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE -> (key, value as YAML reads it); argparse's error for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, for example sigma=0.5")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r}: the value cannot be read") from None


def named_path(text: str) -> tuple[str, Path]:
    """NAME=PATH -> (name, path); argparse's error for anything else."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER, for example mvtec_ad=/data/mvtec_ad")
    return name, Path(path)


def whole_number(text: str) -> int:
    """Text -> an integer above 0; argparse's error for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def count(text: str) -> int:
    """Text -> an integer of at least 0; argparse's error for anything else."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def mask_rule(text: str) -> int:
    """any, half, or a number from 1 to 255 -> the grey value from which on masks mark a defect; argparse's error for
    anything else.
    """
    if text in LEAST_GREY:
        return LEAST_GREY[text]
    if not text.isdecimal() or not 1 <= int(text) <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEAST_GREY)} and no number from 1 to 255")
    return int(text)


def two_sides(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT -> both in px; argparse's error for anything else."""
    width, _, height = text.partition("x")
    try:
        return whole_number(width), whole_number(height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in px, for example 1600x1200") from None


def number(text: str) -> float:
    """Text -> a finite number; argparse's error for anything else."""
    if not math.isfinite(value := float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="reconpatch", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_fit, add_predict, add_evaluate, add_show, add_export, add_sample):
        add(commands)
    for add in (add_init, add_plan, add_check, add_download, add_miniature):
        add(commands)
    for add in (add_compare, add_verify, add_doctor, add_schemas):
        add(commands)
    _add_completion(parser, commands)
    return parser


def _add_completion(parser: argparse.ArgumentParser, commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """What shells complete: commands, options, choices, and files where an argument is a path."""
    shtab.add_argument_to(
        parser,
        ["--print-completion"],
        help="print the script with which a shell completes commands, options and files",
    )
    for command in commands.choices.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]


# Your own photographs


def add_fit(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch fit`."""
    p = _command(commands, "fit", "learn from photographs of good products")
    p.set_defaults(call=photographs.fit)
    _add_images(p, "folders, searched at any depth, or files; good products only")
    p.add_argument("--out", type=Path, required=True, metavar="MODEL", help="folder for the model")
    presets = p.add_mutually_exclusive_group()
    presets.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="fast: PatchCore with the embedded network, no training; paper: the paper's settings exactly. Options "
        "given beside it win",
    )
    presets.add_argument("--fast", dest="preset", action="store_const", const="fast", help="as --preset fast")
    p.add_argument(
        "--method",
        choices=["reconpatch", "patchcore"],
        help="reconpatch trains what it compares; patchcore compares patch features as they are, without a training "
        f"(default: {DEFAULTS.method})",
    )
    p.add_argument("--backbone", help=_meaning("backbone"))
    p.add_argument(
        "--weights",
        choices=["pretrained", "embedded", "random"],
        help="pretrained: downloaded by timm; embedded: those of tf_efficientnet_lite0, which are installed; random: "
        f"for tests only (default: {DEFAULTS.weights})",
    )
    p.add_argument(
        "--weight-file", type=Path, metavar="FILE", help="weights from a file instead, of safetensors or a .pth"
    )
    p.add_argument("--size", type=whole_number, help=_meaning("crop"))
    p.add_argument(
        "--resize",
        type=whole_number,
        help="px of the shorter side before the crop, only for --aspect crop (default: in the ratio of "
        f"{DEFAULTS.resize} to {DEFAULTS.crop})",
    )
    p.add_argument(
        "--aspect",
        choices=[AUTO, *ASPECTS],
        help="keep: everything, in the photograph's own shape; crop: the square at the centre, as in the paper; "
        "stretch: everything, squeezed to a square; pad: everything, with the edges repeated to fill a square; auto: "
        f"keep, but crop where all photographs are square (default: {AUTO})",
    )
    p.add_argument("--dim", help=f"{_meaning('dim')}; of patchcore {ALL_VALUES}")
    p.add_argument(
        "--coreset",
        type=number,
        help=f"{_meaning('coreset')}; if it is not given, at least {FEWEST_ROWS} patches",
    )
    p.add_argument("--epochs", type=whole_number, help=_meaning("epochs"))
    p.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another parameter from docs/configuration.md, for example sigma=0.5 (repeatable)",
    )
    _add_threshold_of_fit(p)
    p.add_argument("--seed", type=int, help=_meaning("seed"))
    p.add_argument("--profile", action="store_true", help="print how long each step took")
    _add_machine(p)


def _meaning(parameter: str) -> str:
    """A parameter of a run -> its meaning and its default, for `--help`."""
    text = f"{RunSettings.model_fields[parameter].description} (default: {getattr(DEFAULTS, parameter)})"
    return text.replace("%", "%%")


def _add_threshold_of_fit(p: argparse.ArgumentParser) -> None:
    """From which images the threshold follows."""
    p.add_argument(
        "--hold-out",
        type=number,
        metavar="SHARE",
        help="share of the images that is kept out of the memory bank for the threshold; 0: no threshold (default: "
        f"{HOLD_OUT:g} from {MANY_IMAGES} images on, --folds {FOLDS} below)",
    )
    p.add_argument(
        "--folds",
        type=whole_number,
        metavar="K",
        help="take the threshold from all images instead, each left out of a memory bank once in K folds",
    )
    p.add_argument(
        "--group",
        metavar="folder|FILE.csv|REGEX",
        help="images that belong together, as those of a day or lot, and are left out together: those of a folder, "
        "those with the same group in a file with the columns image,group, or those in whose names the first bracket "
        "of a regular expression finds the same",
    )
    p.add_argument(
        "--calibrate",
        type=Path,
        action="append",
        metavar="IMAGES",
        help="other good images for the threshold, instead of --hold-out and --folds (repeatable)",
    )
    p.add_argument(
        "--false-alarms",
        dest="false_alarm_rate",
        type=number,
        metavar="RATE",
        help=f"share of good images that may be called anomalous (default: {FALSE_ALARM_RATE:g})",
    )


def add_predict(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch predict`."""
    p = _command(commands, "predict", "score photographs and draw overlays that show where they look wrong")
    p.set_defaults(call=photographs.predict)
    p.add_argument("model", type=Path, metavar="MODEL")
    _add_images(p, "folders, searched at any depth, or files")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for scores.csv, overlays/ and masks/")
    p.add_argument("--masks", action="store_true", help="also write masks of what is above the threshold of maps")
    p.add_argument("--no-overlays", action="store_true", help="write no overlays")
    _add_threshold(p)
    p.add_argument("--map-threshold", type=number, metavar="SCORE", help="threshold of maps, for masks and outlines")
    p.add_argument(
        "--profile", action="store_true", help="print throughput, where the time went, and latency of single images"
    )
    _add_machine(p)


def add_evaluate(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch evaluate`."""
    does = "compare scores with the truth: metrics, and false alarms and detected defects at the threshold"
    p = _command(commands, "evaluate", does)
    p.set_defaults(call=evaluation.evaluate)
    p.add_argument("model", type=Path, metavar="MODEL", help="folder of a model, or a scores.csv that predict wrote")
    p.add_argument(
        "images",
        type=Path,
        nargs="*",
        metavar="IMAGES",
        help="folders that hold a folder good and one for each type of defect; the first may be a second MODEL, which "
        "is compared with the other",
    )
    p.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="CSV with columns image,label[,mask] instead of folders; without IMAGES it also says which images there "
        "are, by paths from its folder",
    )
    p.add_argument(
        "--good",
        action="append",
        metavar="NAME",
        help=f"folder of normal images (default: {', '.join(sorted(NORMAL))}; repeatable)",
    )
    p.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="masks in the same folders, called <image>.* or <image>_mask.* (also _gt, _label; any case)",
    )
    p.add_argument(
        "--mask-rule",
        type=mask_rule,
        default=LEAST_GREY["any"],
        metavar="RULE",
        help="which grey values of a mask mark the defect: any (above 0, the default), half (128 and above), or a "
        "number from which on they do",
    )
    _add_threshold(p)
    p.add_argument(
        "--threshold-of", type=Path, metavar="MODEL", help="for a scores.csv: judge by the threshold of this model"
    )
    p.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to this file")
    p.add_argument(
        "--report", type=Path, metavar="FILE", help="also write one HTML page, with figures and the worst images"
    )
    _add_machine(p)


def add_show(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch show`."""
    p = _command(commands, "show", "check a saved model and print what it is and how it was made")
    p.set_defaults(call=photographs.show)
    p.add_argument("model", type=Path, metavar="MODEL")
    _add_json(p)


def add_export(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch export`."""
    does = "write a saved model as one file for other programs, which do not need this package"
    p = _command(commands, "export", does)
    p.set_defaults(call=photographs.export)
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file: .onnx, .xml or .pt")
    p.add_argument(
        "--format",
        choices=["onnx", "openvino", "torchscript"],
        default="onnx",
        help="onnx: an .onnx file; openvino: an .xml file and a .bin file beside it; torchscript: a .pt file, which "
        "needs PyTorch (default: onnx)",
    )
    p.add_argument(
        "--photograph",
        type=two_sides,
        metavar="WIDTHxHEIGHT",
        help="px of the photographs that the file is for; only where the aspect keeps their shape or pads",
    )
    p.add_argument(
        "--check",
        type=Path,
        action="append",
        metavar="IMAGES",
        help="photographs whose results are compared with those of predict (default: made-up images; repeatable)",
    )
    _add_threshold(p)
    _add_threads(p)
    _add_json(p)


def add_sample(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch sample`."""
    p = _command(commands, "sample", "write photographs with drawn defects, to try the other commands with")
    p.set_defaults(call=photographs.sample)
    p.add_argument("out", type=Path, metavar="FOLDER", help="for <category>/train, test and ground_truth")
    p.add_argument("--category", choices=SAMPLE, default="brick", help="texture (default: brick)")


def _command(
    commands: "Subparsers[argparse.ArgumentParser]", name: str, does: str, **options: Any
) -> argparse.ArgumentParser:
    """A command with its examples."""
    return commands.add_parser(
        name,
        help=does,
        description=does,
        epilog=EXAMPLES.get(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **options,
    )


def _add_images(p: argparse.ArgumentParser, help_text: str) -> None:
    p.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help=help_text)


def _add_machine(p: argparse.ArgumentParser) -> None:
    """Options that change speed and output, not results."""
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there is one")
    _add_threads(p)
    p.add_argument(
        "--batch-images",
        type=whole_number,
        default=BATCH_IMAGES,
        metavar="N",
        help=f"images per pass; more need more memory (default: {BATCH_IMAGES})",
    )
    _add_json(p)


def _add_threads(p: argparse.ArgumentParser) -> None:
    p.add_argument("--threads", type=whole_number, help="processor cores to use (default: OMP_NUM_THREADS, or all)")


def _add_json(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_threshold(p: argparse.ArgumentParser) -> None:
    """A threshold in the place of the model's own."""
    group = p.add_mutually_exclusive_group()
    group.add_argument(
        "--false-alarms", type=number, metavar="RATE", help="use the threshold for this share of good images"
    )
    group.add_argument(
        "--threshold", type=number, metavar="SCORE", help="call images with a higher score than this anomalous"
    )


# The replication


def add_init(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch init`."""
    p = _command(commands, "init", "write a folder from which snakemake makes the paper's tables, without a clone")
    p.set_defaults(call=study.init)
    p.add_argument("folder", type=Path, metavar="FOLDER", help="new folder of the study")
    p.add_argument(
        "--data",
        type=named_path,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="where a data set is, for example mvtec_ad=/data/mvtec_ad (repeatable)",
    )


def add_plan(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch plan`."""
    p = _command(commands, "plan", "print what would run, and the memory, disk and time it is predicted to need")
    p.set_defaults(call=replication.show_plan)
    _add_json(p)
    _add_experiments(p)


def add_check(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch check`."""
    p = _command(commands, "check", "check data sets, weights and networks before anything runs")
    p.set_defaults(call=replication.check_inputs)
    _add_json(p)
    _add_experiments(p)


def add_download(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch download`."""
    p = _command(commands, "download", "download, check and unpack a published data set after you accept its licence")
    p.set_defaults(call=replication.download_dataset)
    p.add_argument("name", help=", ".join(name for name, each in PUBLISHED.items() if each.urls))
    p.add_argument("folder", type=Path, help="for the archive and the images")
    p.add_argument("--yes", action="store_true", help="accept the licence without being asked")


def add_miniature(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch miniature`."""
    does = "write a few drawn images in the layout of a published data set, to try the layout without the data"
    p = _command(commands, "miniature", does)
    p.set_defaults(call=replication.miniature)
    p.add_argument("layout", choices=[*PUBLISHED, "all"], metavar="LAYOUT", help=f"{', '.join(PUBLISHED)}; or all")
    p.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="new folder: the root of the data set, of all the one that holds them",
    )
    p.add_argument(
        "--category",
        action="extend",
        nargs="+",
        metavar="NAME",
        help="categories (default: all of the data set); put this option last",
    )
    p.add_argument("--seed", type=count, default=0, metavar="N", help="other images for another N (default: 0)")


def add_compare(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch compare`."""
    p = _command(commands, "compare", "say why two records differ; exit status 1 if their metrics differ")
    p.set_defaults(call=replication.compare_records)
    p.add_argument("records", type=Path, nargs=2, metavar="RECORD", help="record.json, or its folder")
    _add_json(p)


def add_verify(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch verify`."""
    p = _command(commands, "verify", "check that results follow from the saved files; exit status 1 if one does not")
    p.set_defaults(call=replication.verify_results)
    _add_json(p)
    _add_overlays(p)
    p.add_argument(
        "results",
        type=Path,
        nargs="?",
        default=replication.RESULTS,
        help="results, or a folder or file in it",
    )


def add_doctor(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch doctor`."""
    p = _command(commands, "doctor", "say what is installed and found here, a line each: for questions and reports")
    p.set_defaults(call=doctor.doctor)
    _add_json(p)
    _add_overlays(p)


def add_schemas(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """`reconpatch schemas`."""
    does = "for developers: write configs/default.yaml, docs/configuration.md, schemas and timm's answers from the code"
    p = _command(commands, "schemas", does)
    p.set_defaults(call=replication.write_generated)
    p.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is out of date")


def _add_experiments(p: argparse.ArgumentParser) -> None:
    _add_overlays(p)
    p.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="only these; all if none is named")


def _add_overlays(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--configfile",
        type=Path,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files whose values replace those of configs/default.yaml, later files win; put this option last",
    )
