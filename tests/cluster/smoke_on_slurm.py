"""`make cluster`: the smoke run on a SLURM cluster of one node made for it, one job cancelled while it runs, one killed
for its memory, and every result compared with a local run of the same checkout. Minutes, as root on Debian. Prints a
log; the exit status is 0 if all was as expected.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from cluster.one_node import cluster, installed, slurm
from running import PARTS, ROOT, SNAKEMAKE, results

LIMIT = 900  # s for everything
# Status is asked for of squeue: sacct needs a data base. GPUs are made up, so that jobs that ask for one compute on the
# CPU: `device: auto`, and what `device: cuda` would ask for.
OPTIONS = ["--profile", "profiles/slurm", "--slurm-status-command", "squeue"]
OPTIONS += ["--slurm-init-seconds-before-status-checks", "3"]
GPUS = [f"{rule}:gpu=1" for rule in ("extract_features", "train_representation", "score_run")]
# The cancelled job, and one that asks for so little that it is killed for its memory until it asks for more.
VICTIM, STARVED = "rule_train_representation", "rule_draw_sample"
FIRST_MB = 200
# By rule, or by group and its rules. The rest takes seconds and runs where Snakemake was called.
SUBMITTED = {"draw_sample", "inputs_index_category_read_masks", "extract_features", "train_representation"}
SUBMITTED |= {"select_coreset", "score_run"}
COLUMNS = "JobID:6,State:11,TimeUsed:6,TimeLimit:9,MinMemory:7,NumCPUs:5,tres-per-job:13,Comment:90"


def main() -> int:
    installed()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError(f"not done after {LIMIT} s")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.alarm(LIMIT)
    here = Path(tempfile.mkdtemp(prefix="cluster-"))
    here.chmod(0o755)
    try:
        with cluster(here / "slurm"):
            problems = on_slurm(copy(here / "on slurm"), here / "slurm.txt")
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


def on_slurm(where: Path, log: Path) -> list[str]:
    """Run the smoke as jobs, cancel a training that runs -> what was not as expected."""
    command = [*SNAKEMAKE, *OPTIONS, "--set-resources", *GPUS, f"draw_sample:mem_mb={FIRST_MB}*attempt", "--", "smoke"]
    cancelled = None
    with log.open("wb") as output:
        run = subprocess.Popen(command, cwd=where, stdout=output, stderr=output)
        try:
            while run.poll() is None:
                cancelled = cancelled or cancel(where)
                time.sleep(1)
        finally:
            run.kill()
    table = slurm("squeue", "--states=all", "--sort=i", f"--Format={COLUMNS}")
    said = log.read_text()
    print("\n".join(line.rstrip() for line in table.splitlines()), end="\n\n")
    print("\n".join(line for line in said.splitlines() if "SLURM-job" in line or "Trying to restart" in line))
    print(next((line for line in reversed(said.splitlines()) if "steps" in line), "no step was done"))
    problems = [f"Snakemake ended with {run.returncode}:\n{said[-3000:]}"] if run.returncode else []
    problems += check(table.splitlines()[1:], cancelled)
    again = subprocess.run([*SNAKEMAKE, *OPTIONS, "-n", "--", "smoke"], cwd=where, text=True, capture_output=True)
    return problems + (
        [] if "Nothing to be done" in again.stdout + again.stderr else ["a second call finds work to do"]
    )


def cancel(where: Path) -> str | None:
    """Cancel a training whose script is at work -> its id."""
    for line in slurm("squeue", "--states=RUNNING", "--noheader", "--format=%i %k").splitlines():
        job, comment = line.split(" ", 1)
        if comment.startswith(VICTIM) and any((where / "logs/train_representation").rglob("*.log")):
            slurm("scancel", job)
            print(f"scancel {job}  # {comment}")
            return job
    return None


def check(jobs: list[str], cancelled: str | None) -> list[str]:
    """Lines of squeue, the id cancelled -> what was not as expected of states, retry, memory and GPUs."""
    rows = [
        dict(zip(("id", "state", "used", "limit", "mb", "cpus", "got", "what"), j.split(), strict=True)) for j in jobs
    ]
    first = next((row for row in rows if row["id"] == cancelled), None)
    if first is None:
        return ["no training was cancelled"]
    starved = [row for row in rows if row["what"].startswith(STARVED)]
    killed = [first, *starved[:-1]]
    problems = [f"job {r['id']} is {r['state']}" for r in rows if r not in killed and r["state"] != "COMPLETED"]
    if len(starved) < 2 or any(row["state"] == "COMPLETED" for row in starved[:-1]):
        problems.append(f"{STARVED} asked for {FIRST_MB} MB and was not killed")
    sent = {row["what"].removeprefix("rule_").split("_wildcards_")[0] for row in rows}
    if sent != SUBMITTED:
        problems.append(f"submitted were {sorted(sent)}")
    again = [row for row in rows if row["what"] == first["what"] and row is not first]
    if first["state"] != "CANCELLED" or len(again) != 1:
        problems.append(f"job {cancelled} is {first['state']}, and was tried again {len(again)} times instead of once")
    for row in again:
        if abs(int(row["mb"].rstrip("M")) - 1.5 * int(first["mb"].rstrip("M"))) > 1:
            problems.append(f"tried again with {row['mb']} after {first['mb']}, not half as much again")
    for row in rows:
        wanted = any(row["what"].startswith(f"rule_{rule.split(':')[0]}_") for rule in GPUS)
        if wanted != ("gpu:1" in row["got"]):
            problems.append(f"job {row['id']}, {row['what']}, got {row['got']}")
    return problems


def compare(ours: dict[str, bytes], local: dict[str, bytes]) -> list[str]:
    """Results of both runs -> what differs."""
    differ = sorted(name for name in ours.keys() | local.keys() if ours.get(name) != local.get(name))
    print(f"{len(ours)} result files from SLURM, {len(local)} from the local run, {len(differ)} differ")
    return [f"differs: {name}" for name in differ] + ([] if local else ["there are no results"])


if __name__ == "__main__":
    sys.exit(main())
