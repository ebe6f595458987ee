"""The speed benchmark: every part of the project against its ceiling and its peers.

    python benchmarks/bench.py --anomalib PYTHON --patchcore SRC

Each measurement is a process of its own; those of a group alternate, and medians are compared. A peer that is not
given is "not installed" in the table. What was measured goes to benchmarks/measured.jsonl, the tables are printed and
written to benchmarks/RESULTS.md. Parts that are not measured anew keep what the first file holds of them; `--resume`
measures only what it does not hold yet.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from goals import lines
from inputs import copy_as_png, write_category
from machine import describe, output
from parts import EXTRA, Run, suite
from table import measurements, medians, ratios
from threadpoolctl import threadpool_info

HERE = Path(__file__).parent
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
NOTE = """A ratio above 1 is in our favour where a peer's time is compared with ours. "est.": the peer's cost per pick,
which is constant, times the picks. Networks have random weights: times are real, AUROCs say nothing. Patch features of
anomalib are 1,536 wide (its coreset is selected in 295 dimensions), ours and patchcore's 1,024 (128); its defaults
score the test images twice, so it is measured without that, too. A training step is compared with its matrix products
alone, by the same library: both layers, both projections, both whole distance matrices, the gradients; search with one
product of its size. Parts not listed were not measured. "commit" is that of the code that ran; "-dirty" where any file,
a text too, was edited."""


def environment(threads: int, path: Path | None) -> dict[str, str]:
    """Threads, what to import besides -> the variables of a process; compiled code may be kept.

    faiss's OpenBLAS may not know the processor: our code helps itself, a peer that runs with our faiss is helped here.
    """
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    kept["PYTHONPATH"] = str(path or HERE.parent)  # this checkout, whichever is installed
    if path:
        blas = [b["architecture"] for b in threadpool_info() if b["internal_api"] == "openblas"]
        kept |= {"OPENBLAS_CORETYPE": blas[0]} if blas else {}
    return kept | dict.fromkeys(COUNTS, str(threads))


def measure(run: Run, given: argparse.Namespace) -> dict[str, Any]:
    """Run -> its values, or why there are none."""
    peers = {"": sys.executable, "anomalib": given.anomalib, "patchcore": given.patchcore and sys.executable}
    python = peers[run.peer]
    if python is None:
        return {"missing": "not installed"}
    command = [str(python), "-W", "ignore", str(HERE / run.command[0]), *run.command[1:]]
    variables = environment(given.threads, given.patchcore if run.peer == "patchcore" else None)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    text = f"\n{done.stdout}"
    start = text.rfind("\n{")  # the last thing printed
    if done.returncode or start < 0:
        sys.stderr.write(done.stderr[-2000:])
        return {"missing": "failed"}
    values: dict[str, Any] = json.loads(text[start:])
    return values


def parse() -> argparse.Namespace:
    """The command line."""
    real = Path(os.environ["RECONPATCH_DATA"], "mvtec_ad") if "RECONPATCH_DATA" in os.environ else None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts to run; all but memory if not given")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each, of which medians are taken (3)")
    parser.add_argument("--threads", type=int, default=2, help="of every process (2)")
    parser.add_argument("--anomalib", type=Path, help="python of an environment that has anomalib")
    parser.add_argument("--patchcore", type=Path, help="src folder of patchcore-inspection")
    parser.add_argument("--data", type=Path, default=real, help="MVTec AD's root, for its bottle ($RECONPATCH_DATA's)")
    parser.add_argument("--scratch", type=Path, help="folder for inputs, kept; else one that is deleted")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--resume", action="store_true", help="keep what is there of the parts to measure, too")
    parser.add_argument("--results", type=Path, help="table to write (RESULTS.md; with --quick, quick.md)")
    given = parser.parse_args()
    given.results = given.results or HERE / ("quick.md" if given.quick else "RESULTS.md")
    if given.repeat < 1:
        parser.error(f"--repeat {given.repeat}: must be at least 1")
    return given


def write_inputs(folder: Path, quick: bool, real: Path | None) -> None:
    """Write the categories, unless they are there."""
    if not (folder / "data/synthetic").exists():
        train, test = (4, 4) if quick else (60, 40)
        write_category(folder / "data/synthetic", train, test, 256)
    if real is not None and not (folder / "data/bottle").exists():
        copy_as_png(real / "bottle", folder / "data/bottle", 4 if quick else None)


def main() -> int:
    """Measure, print and write the tables; 1 if a process failed."""
    given = parse()
    log = given.results.with_name("measured.quick.jsonl" if given.quick else "measured.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = given.scratch or Path(temporary)
        parts = suite(given.quick, scratch, given.data)
        wanted = given.only or [part for part in parts if part not in EXTRA]
        unknown = sorted(set(wanted) - set(parts))
        if unknown:
            raise SystemExit(f"--only {' '.join(unknown)}: no such part; the parts are {', '.join(parts)}")
        code = output("git", "-C", str(HERE), "describe", "--always", "--dirty")
        about = describe(given.threads, given.anomalib, given.patchcore)
        if "category" in wanted:
            write_inputs(scratch, given.quick, given.data)
        if wanted != ["overhead"]:  # compiled once, ahead of what is timed
            measure(Run("compile", ("coreset.py", "ours", "--points", "6000")), given)
        how = {"quick": given.quick, "threads": given.threads}  # other measurements cannot stand beside these
        again = set() if given.resume else {run.name for part in wanted for group in parts[part] for run in group}
        entries = [e for e in entries if "missing" not in e["values"] and e["how"] == how and e["run"] not in again]
        done = [entry["run"] for entry in entries]
        for group in (group for part in wanted for group in parts[part]):
            for number in range(given.repeat):
                for run in group:
                    if done.count(run.name) > number or (run.once and number):
                        continue
                    sys.stderr.write(f"{run.name} ({number + 1})\n")
                    values = measure(run, given)
                    entries.append({"run": run.name, "how": how, "code": code, "values": values})
                    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    results = medians(entries)
    table = ratios(lines(set(results)), results)
    sizes = "Tiny sizes: these numbers say nothing.\n\n" if given.quick else ""
    text = f"# Speed\n\n{sizes}{NOTE}\n\n{about}\n\n{table}\n\n## Measured\n\nMedians.\n\n{measurements(results)}\n"
    given.results.write_text(text)
    print(text)
    return int(any(values.get("missing") == "failed" for values in results.values()))


if __name__ == "__main__":
    sys.exit(main())
