"""The commands of the replication: plan, check, download, miniature, compare, verify and schemas."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from reconpatch.cli.checked import check
from reconpatch.cli.photographs import check_free
from reconpatch.cli.planned import facts_of, text_of
from reconpatch.cli.study import overlays_of
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.generated import generated_files
from reconpatch.experiments.networks import SHIPPED, Networks, known_networks
from reconpatch.experiments.place import SCRIPTS
from reconpatch.experiments.plan import load_plan
from reconpatch.files import replacing, write_text

RESULTS = Path("results")


def show_plan(given: argparse.Namespace) -> None:
    """`reconpatch plan`: print what would run and what it is predicted to need."""
    networks = known_networks()
    plan = load_plan(overlays_of(given), given.experiments, networks)
    facts = facts_of(plan, check_backbones(plan, networks))
    print(json.dumps(facts, indent=1) if given.json else "\n".join(text_of(facts)))


def check_inputs(given: argparse.Namespace) -> None:
    """`reconpatch check`: print what is found of data sets, weights and networks.

    Raises one ReconpatchError with every problem.
    """
    networks = known_networks()
    plan = load_plan(overlays_of(given), given.experiments, networks)
    found = check(plan, networks, RESULTS, tell=(lambda line: None) if given.json else print)
    if given.json:
        print(json.dumps(asdict(found), indent=1))
    if found.problems:
        raise ReconpatchError("\n".join(found.problems))
    if not given.json:
        print("no problems found")


def download_dataset(given: argparse.Namespace) -> None:
    """`reconpatch download`: show where a data set is from and its licence, ask, download it, say how to use it."""
    from reconpatch.data.download import describe, download

    print(describe(given.name, given.folder))
    if not given.yes:
        if not sys.stdin.isatty():
            raise ReconpatchError("nothing downloaded", fix="read the licence above and call again with --yes")
        if input("Download it under this licence? [y/N] ").strip().lower() not in ("y", "yes"):
            raise ReconpatchError("nothing downloaded")
    root = download(given.name, given.folder, report=lambda line: print(line, flush=True))
    print("downloaded; write this into a file of your own and give the file with --configfile:")
    print(f"datasets:\n  {given.name}: {{root: {json.dumps(str(root))}}}")


def miniature(given: argparse.Namespace) -> None:
    """`reconpatch miniature`: write made-up images in the layout of a published data set, say how to use them."""
    check_free(given.folder, "give another folder, or remove it")
    from reconpatch.data.miniatures import PLANS, write_miniature

    several = given.layout == "all"
    if several and given.category:
        raise ReconpatchError("of which data set?", where="--category", fix="name one, or leave the categories out")
    layouts = list(PLANS) if several else [given.layout]
    with replacing(given.folder) as temporary:
        for layout in layouts:
            root = temporary / layout if several else temporary
            write_miniature(layout, root, categories=given.category, seed=given.seed)
    print("made-up images; write this into a file of your own and give the file with --configfile:\ndatasets:")
    for layout in layouts:
        place = (given.folder / layout if several else given.folder).absolute()
        print(f"  {layout}: {{layout: {layout}, root: {json.dumps(str(place), ensure_ascii=False)}}}")


def compare_records(given: argparse.Namespace) -> int:
    """`reconpatch compare`: say field by field why two records differ -> exit status, 1 if their metrics differ."""
    from reconpatch.records.compare import explain

    lines, same = explain(*given.records)
    if given.json:
        differences = [dict(zip(("group", "difference"), line.split(": ", 1), strict=True)) for line in lines[:-1]]
        print(json.dumps({"same_metrics": same, "verdict": lines[-1], "differences": differences}, indent=1))
    else:
        print("\n".join(lines))
    return int(not same)


def verify_results(given: argparse.Namespace) -> None:
    """`reconpatch verify`: print for every record and table whether it follows from the saved files.

    Raises ReconpatchError if one does not.
    """
    from threadpoolctl import threadpool_limits

    from reconpatch.cli.verify_tables import check_table
    from reconpatch.experiments.outputs import result_folder
    from reconpatch.records.provenance import stage_codes
    from reconpatch.records.verify import summary, verify

    plan = load_plan(overlays_of(given), networks=known_networks())
    planned = {
        result_folder(plan, run, *target)
        for name, targets in plan.targets.items()
        for target in targets
        for run in plan.members(name)
    }
    verdicts = []
    with threadpool_limits(1):  # as the jobs that computed the scores: other numbers of threads round differently
        for verdict in verify(given.results, codes=stage_codes(SCRIPTS), planned=planned, check_table=check_table):
            verdicts.append(verdict)
            if not given.json:
                print(verdict, flush=True)
    problems = sum(verdict.is_problem for verdict in verdicts)
    if given.json:
        print(json.dumps({"problems": problems, "results": [asdict(verdict) for verdict in verdicts]}, indent=1))
    else:
        print(summary(verdicts))
    if problems:
        raise ReconpatchError(
            f"{problems} of them differ or cannot be checked", fix="remove what differs and run again"
        )


def write_generated(given: argparse.Namespace) -> None:
    """`reconpatch schemas`: write the files that follow from the code; with --check raise ReconpatchError that names
    the ones that are out of date.
    """
    files = generated_files()
    if not given.check:
        for file, text in files.items():
            write_text(file, text)
        return write_backbones(SHIPPED)
    stale = [str(file) for file, text in files.items() if not file.is_file() or file.read_text("utf-8") != text]
    stale += [] if knows_backbones(SHIPPED) else [str(SHIPPED)]
    if stale:
        raise ReconpatchError("does not follow from the code", where=", ".join(stale), fix="run `reconpatch schemas`")


def write_backbones(file: Path) -> None:
    """Ask timm about every network of the default plan, and write its answers for later checks."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    _plan_and_check(Networks(draft))
    draft.replace(file)


def knows_backbones(file: Path) -> bool:
    """Whether a file answers all that would be asked of timm for the default plan."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.json"
        _plan_and_check(Networks(asked, file))
        return not asked.exists()


def _plan_and_check(networks: Networks) -> None:
    check_backbones(load_plan([], networks=networks), networks)
