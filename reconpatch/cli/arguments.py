"""The command line of fit, predict, evaluate, show and sample."""

import argparse
import math
from pathlib import Path
from typing import Any

import yaml

from reconpatch.cli import photographs as commands
from reconpatch.data.images import ASPECTS
from reconpatch.data.layouts import NORMAL, SAMPLE

EXAMPLES = {
    "fit": """\
examples:
  reconpatch fit photos/good --out model
  reconpatch fit photos/good --out model --backbone tf_efficientnet_lite0 --weights embedded --epochs 10
  reconpatch fit photos/good --out model --weight-file wide_resnet50.pth --size 320 --aspect pad
  reconpatch fit photos/good --out model --method patchcore --calibrate photos/good-of-another-day
""",
    "predict": """\
examples:
  reconpatch predict model photos/new --out found
  reconpatch predict model photos/new --out found --masks --false-alarms 0.01
  reconpatch predict model photos/new --out found --no-overlays --profile --json

exit status: 0 all were scored, 3 some could not be read and were left out, 1 nothing was done, 2 wrong usage.
""",
    "evaluate": """\
examples:
  reconpatch evaluate model photos/test                      folders good/ and one for every kind of defect
  reconpatch evaluate model photos/test --masks photos/ground_truth
  reconpatch evaluate model photos/all --labels labels.csv   columns image,label and perhaps mask
""",
    "show": "example:\n  reconpatch show model\n",
    "sample": "example:\n  reconpatch sample demo\n",
}


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE -> both, the value as YAML reads it; argparse's error for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as sigma=0.5")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r}: the value cannot be read") from None


def whole(text: str) -> int:
    """Text -> a whole number above 0; argparse's error for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def number(text: str) -> float:
    """Text -> a number that is neither infinite nor NaN; argparse's error for anything else."""
    if not math.isfinite(value := float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands to the parser of `reconpatch`."""
    shape = argparse.RawDescriptionHelpFormatter

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return subparsers.add_parser(
            name, help=does, description=does, epilog=EXAMPLES[name], formatter_class=shape, allow_abbrev=False
        )

    def machine(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU if there")
        parser.add_argument("--threads", type=whole, help="processor cores to use; all if not given")
        parser.add_argument(
            "--batch-images",
            type=whole,
            default=8,
            metavar="N",
            help="images a pass: memory and speed alone (8)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def cut(parser: argparse.ArgumentParser) -> None:
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--false-alarms", **rate)
        one.add_argument("--threshold", type=number, metavar="SCORE", help="image score above which one is anomalous")

    images: dict[str, Any] = {"type": Path, "nargs": "+", "metavar": "IMAGES"}
    rate: dict[str, Any] = {"type": number, "metavar": "RATE", "help": "threshold for this share of good images"}

    p = command("fit", "learn from photographs of good products alone; the defaults are the paper's")
    p.add_argument("images", **images, help="folders, looked through at any depth, or files; good products only")
    p.add_argument("--out", type=Path, required=True, metavar="MODEL", help="folder for the model")
    p.add_argument("--method", choices=["reconpatch", "patchcore"], help="reconpatch if not given")
    p.add_argument("--backbone", help="any network of timm with feature maps (wide_resnet50_2.tv_in1k)")
    p.add_argument("--weights", choices=["pretrained", "embedded", "random"], help="pretrained: downloaded by timm")
    p.add_argument("--weight-file", type=Path, metavar="FILE", help="weights from a .safetensors or .pth file instead")
    p.add_argument("--size", type=whole, help="px of the square the network sees (224)")
    p.add_argument("--resize", type=whole, help="px of the shorter side before the crop (256 at 224)")
    p.add_argument(
        "--aspect",
        choices=ASPECTS,
        help="crop: the centre, as the paper does; stretch: all, squeezed; pad: all, filled up at the edges (crop)",
    )
    p.add_argument("--dim", type=whole, help="dimensions of the representation (512)")
    p.add_argument("--coreset", type=number, help="share of the patches that is kept (0.01)")
    p.add_argument("--epochs", type=whole, help="of the training of reconpatch (120)")
    p.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="other keys of a run, as sigma=0.5",
    )
    p.add_argument("--hold-out", type=number, metavar="SHARE", help="of the images, for the threshold; 0: none (0.2)")
    p.add_argument(
        "--calibrate",
        type=Path,
        action="append",
        metavar="IMAGES",
        help="good images for the threshold (repeatable)",
    )
    p.add_argument(
        "--false-alarms",
        dest="false_alarm_rate",
        **rate | {"help": "of good images that may be called anomalous (0.05)"},
    )
    p.add_argument("--seed", type=int, help="of every random choice (0)")
    p.add_argument("--profile", action="store_true", help="print how long each step took")
    machine(p)
    p.set_defaults(call=commands.fit)

    p = command("predict", "score photographs: scores.csv, and overlays of where they look wrong")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("images", **images, help="folders, looked through at any depth, or files")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for scores.csv, overlays/ and masks/")
    p.add_argument("--masks", action="store_true", help="write masks of what is above the maps' threshold, too")
    p.add_argument("--no-overlays", action="store_true", help="write no overlays")
    cut(p)
    p.add_argument("--map-threshold", type=number, metavar="SCORE", help="the same of the maps, for masks and lines")
    p.add_argument("--profile", action="store_true", help="print throughput, its parts, and latency of single images")
    machine(p)
    p.set_defaults(call=commands.predict)

    p = command("evaluate", "compare scores with the truth: AUROC, false alarms and defects found at the threshold")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("images", **images, help="folders of folders named good and after defects")
    p.add_argument("--labels", type=Path, metavar="FILE", help="CSV with columns image,label[,mask] instead of folders")
    known = ", ".join(sorted(NORMAL))
    p.add_argument("--good", action="append", metavar="NAME", help=f"folders of normal images ({known}); repeatable")
    p.add_argument("--masks", type=Path, metavar="FOLDER", help="masks at the same places, <stem>.* or <stem>_mask.*")
    cut(p)
    p.add_argument("--out", type=Path, metavar="FILE", help="write the JSON there, too")
    machine(p)
    p.set_defaults(call=commands.evaluate)

    p = command("show", "check a saved model and say what it is and how it was made")
    p.add_argument("model", type=Path, metavar="MODEL")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    p.set_defaults(call=commands.show)

    p = command("sample", "draw photographs to try the other commands with: a wall with drawn defects")
    p.add_argument("out", type=Path, metavar="FOLDER", help="for <category>/train, test and ground_truth")
    p.add_argument("--category", choices=SAMPLE, default="brick", help="which texture (brick)")
    p.set_defaults(call=commands.sample)
