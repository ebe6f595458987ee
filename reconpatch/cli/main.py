"""The `reconpatch` command: its parser, and what the exit status says."""

import argparse
import sys
from pathlib import Path

from reconpatch.cli import replication
from reconpatch.cli.arguments import add_commands
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.plan import load_plan

WHAT = (
    "Find defects on your own photographs (fit, predict, evaluate, show, sample), or prepare and check the replication "
    "of the paper, whose tables snakemake makes (plan, check, download, compare, verify). COMMAND --help says more."
)


def _plan(given: argparse.Namespace) -> None:
    replication.show_plan(load_plan(given.configfile, given.experiments))


def _check(given: argparse.Namespace) -> None:
    if problems := replication.check(load_plan(given.configfile, given.experiments)):
        raise ReconpatchError("\n".join(problems))
    print("no problems found")


def parser() -> argparse.ArgumentParser:
    """The command line. `call` of what it parses is the command: a function of the parsed arguments."""
    top = argparse.ArgumentParser(prog="reconpatch", description=WHAT)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_commands(commands)
    overlays = argparse.ArgumentParser(add_help=False)
    help_ = "overlays on configs/default.yaml, the later winning; they come last on the line"
    overlays.add_argument("--configfile", type=Path, action="extend", nargs="+", default=[], metavar="FILE", help=help_)
    for name, does, call in (
        ("plan", "what would run", _plan),
        ("check", "whether data, weights and networks are sound", _check),
    ):
        some = commands.add_parser(name, help=does, description=does, parents=[overlays])
        some.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="these alone; all if none is named")
        some.set_defaults(call=call)
    does = "download, check and unpack a published data set, once its licence is accepted"
    get = commands.add_parser("download", help=does, description=does)
    get.add_argument("name", help="mvtec_ad or btad")
    get.add_argument("folder", type=Path, help="where archive and images go")
    get.add_argument("--yes", action="store_true", help="do not ask whether the licence is accepted")
    get.set_defaults(call=lambda given: replication.fetch_dataset(given.name, given.folder, given.yes))
    does = "why two records differ; exit status 1 where their metrics do"
    two = commands.add_parser("compare", help=does, description=does)
    two.add_argument("records", type=Path, nargs=2, metavar="RECORD", help="record.json, or its folder")
    two.set_defaults(call=lambda given: replication.compare_records(*given.records))
    does = "whether results follow from what is saved; exit status 1 where one does not"
    saved = commands.add_parser("verify", help=does, description=does, parents=[overlays])
    saved.add_argument(
        "results",
        type=Path,
        nargs="?",
        default=replication.RESULTS,
        help="results, or a folder or file in it",
    )
    saved.set_defaults(call=lambda given: replication.verify_results(given.results, load_plan(given.configfile)))
    does = "write the files that follow from the code: configs/default.yaml, docs/configuration.md, schemas, backbones"
    files = commands.add_parser("schemas", help=does, description=does)
    files.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a file is not current")
    files.set_defaults(call=lambda given: replication.write_generated(given.check))
    return top


def main() -> None:
    """Entry point of the `reconpatch` command."""
    given = parser().parse_args()
    try:
        sys.exit(given.call(given))
    except ReconpatchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
