"""`make cluster`: the smoke run on a SLURM cluster of one node made for it, Snakemake killed in between, one job
cancelled, one killed for its memory, and every result compared with a local run of the same checkout. Minutes, as root
on Debian. Prints a log; the exit status is 0 if all was as expected.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from cluster.one_node import cluster, installed, slurm
from running import PARTS, ROOT, SNAKEMAKE, results

LIMIT = 900  # s for everything
# The GPUs are made up, so that jobs that ask for one compute on the CPU: `device: auto`, and what cuda would ask for.
ON_GPU = ("extract_features", "train_representation", "score_run")
# The cancelled job, and one that asks for so little that it is killed for its memory until it asks for more.
VICTIM, STARVED = "rule_train_representation", "rule_draw_sample"
FIRST_MB = 200
OPTIONS = ["--profile", "profiles/slurm", "--slurm-status-command", "squeue"]  # sacct needs a data base
OPTIONS += ["--slurm-init-seconds-before-status-checks", "3"]
OPTIONS += ["--set-resources", *(f"{rule}:gpu=1" for rule in ON_GPU), f"draw_sample:mem_mb={FIRST_MB}*attempt"]
# By rule, or by group and its rules. The rest takes seconds and runs where Snakemake was called.
SUBMITTED = {"draw_sample", "inputs_index_category_read_masks", "extract_features", "train_representation"}
SUBMITTED |= {"select_coreset", "score_run"}
COLUMNS = "JobID:6,State:11,TimeUsed:6,TimeLimit:11,MinMemory:11,NumCPUs:5,tres-per-job:13,Comment:90"


def main() -> int:
    installed()
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done after {LIMIT} s"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.alarm(LIMIT)
    here = Path(tempfile.mkdtemp(prefix="cluster-"))
    here.chmod(0o755)
    try:
        with cluster(here / "slurm"):
            problems = on_slurm(copy(here / "on slurm"), here)
        done = subprocess.run([*SNAKEMAKE, "--cores", "2", "smoke"], cwd=copy(here / "local"), capture_output=True)
        problems += [f"the local run failed:\n{done.stderr.decode()[-3000:]}"] if done.returncode else []
        problems += compare(results(here / "on slurm"), results(here / "local"))
    except BaseException:
        print(f"logs: {here}")
        raise
    print("\n".join(problems) or "all as expected")
    if problems:
        print(f"logs: {here}")
        return 1
    shutil.rmtree(here)
    return 0


def copy(target: Path) -> Path:
    """A copy of the workflow without results."""
    target.mkdir()
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, target / part)
    return target


def on_slurm(where: Path, logs: Path) -> list[str]:
    """Run the smoke as jobs; kill the scheduler in between, go on, cancel a training -> what was not as expected."""
    log, orphans, cancelled = logs / "snakemake.txt", [], ""
    with snakemake(where, log) as run:
        while run.poll() is None and not orphans:
            time.sleep(0.5)
            orphans = [job for job, what in running() if what.startswith("rule_extract_features")]
    print("Snakemake killed; then scancel, --unlock, and the same command again")
    end(*orphans)
    subprocess.run([*SNAKEMAKE, *OPTIONS, "--unlock"], cwd=where, check=True, capture_output=True)
    with snakemake(where, log) as run:
        while run.poll() is None:
            time.sleep(0.5)
            victims = [job for job, what in running() if what.startswith(VICTIM)]
            # Only when its script is at work.
            if victims and not cancelled and any((where / "logs/train_representation").rglob("*.log")):
                cancelled = victims[0]
                end(cancelled)
    table = slurm("squeue", "--states=all", "--sort=i", f"--Format={COLUMNS}").splitlines()
    said = log.read_text()
    print("\n".join(line.rstrip() for line in table), end="\n\n")
    killed = (logs / "slurm/slurmd.log").read_text().splitlines()
    print(*{line.split("error: ")[-1] for line in killed if "exceeded memory limit" in line}, sep="\n")
    retried = [line for line in said.splitlines() if "SLURM-job" in line or "Trying to restart" in line]
    print("\n".join(line.split("Detailed")[0].strip() for line in retried))
    print(next((line for line in reversed(said.splitlines()) if "steps" in line), "no step was done"))
    problems = [f"Snakemake ended with {run.returncode}:\n{said[-3000:]}"] if run.returncode else []
    problems += check(table[1:], cancelled, orphans)
    again = subprocess.run([*SNAKEMAKE, *OPTIONS, "-n", "--", "smoke"], cwd=where, text=True, capture_output=True)
    return problems + ([] if "Nothing to be done" in again.stdout + again.stderr else ["a later call finds work to do"])


@contextmanager
def snakemake(where: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The smoke run as jobs, killed when it is left."""
    with log.open("ab") as output:
        run = subprocess.Popen([*SNAKEMAKE, *OPTIONS, "--", "smoke"], cwd=where, stdout=output, stderr=output)
        try:
            yield run
        finally:
            run.kill()
            run.wait()


def running() -> list[tuple[str, str]]:
    """Jobs that run: id, and rule with wildcards."""
    lines = slurm("squeue", "--states=RUNNING", "--noheader", "--format=%i %k").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def end(*jobs: str) -> None:
    """Cancel jobs and wait until they are gone."""
    print("scancel", *jobs)
    slurm("scancel", *jobs)
    while {job for job, _ in running()} & set(jobs) or slurm("squeue", "--states=COMPLETING", "--noheader"):
        time.sleep(0.5)


def check(jobs: list[str], cancelled: str, orphans: list[str]) -> list[str]:
    """Lines of squeue, the id cancelled, those of the killed call -> what was not as expected."""
    rows = [
        dict(zip(("id", "state", "used", "limit", "mb", "cpus", "got", "what"), j.split(), strict=True)) for j in jobs
    ]
    first = next((row for row in rows if row["id"] == cancelled), None)
    if first is None:
        return ["no training was cancelled"]
    starved = [row for row in rows if row["what"].startswith(STARVED)]
    ended = {cancelled, *orphans, *(row["id"] for row in starved[:-1])}
    problems = [
        f"job {row['id']} is {row['state']}" for row in rows if (row["id"] in ended) == (row["state"] == "COMPLETED")
    ]
    if len(starved) < 2:
        problems.append(f"{STARVED} asked for {FIRST_MB} MB and was not killed")
    sent = {row["what"].removeprefix("rule_").split("_wildcards_")[0] for row in rows}
    if sent != SUBMITTED:
        problems.append(f"submitted were {sorted(sent)}")
    again = [row for row in rows if row["what"] == first["what"] and row is not first]
    if len(again) != 1:
        problems.append(f"job {cancelled} was tried again {len(again)} times instead of once")
    for row in again:
        if abs(int(row["mb"].rstrip("M")) - 1.5 * int(first["mb"].rstrip("M"))) > 1:
            problems.append(f"tried again with {row['mb']} after {first['mb']}, not half as much again")
    for row in rows:
        if (row["got"] == "gres:gpu:1") != any(row["what"].startswith(f"rule_{rule}_") for rule in ON_GPU):
            problems.append(f"job {row['id']}, {row['what']}, got {row['got']}")
    return problems


def compare(ours: dict[str, bytes], local: dict[str, bytes]) -> list[str]:
    """Results of both runs -> what differs."""
    differ = sorted(name for name in ours.keys() | local.keys() if ours.get(name) != local.get(name))
    print(f"{len(ours)} result files from SLURM, {len(local)} from the local run, {len(differ)} differ")
    return [f"differs: {name}" for name in differ] + ([] if local else ["there are no results"])


if __name__ == "__main__":
    sys.exit(main())
