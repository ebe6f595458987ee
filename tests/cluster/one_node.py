"""A SLURM cluster of one node on this very machine, in a folder of its own and nowhere else, gone when it is left.

Daemons of Debian's SLURM (22.05), as root. The node has two processors, this machine's memory and two made-up GPUs:
files, which SLURM counts and hands out though no program can compute on them. Control groups are not used, since
containers have none to give.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={d}
SlurmUser=root
AuthInfo=socket={here}/munge.socket
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/slurmd.pid
SlurmctldLogFile={here}/slurmctld.log
SlurmdLogFile={here}/slurmd.log
PlugStackConfig={here}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Without control groups SLURM itself looks, every second, and kills what holds more than it asked for.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=2,sched_min_interval=0
AccountingStorageType=accounting_storage/none
# Jobs stay in squeue's answers for long, as sacct has no data base to ask.
MinJobAge=3600
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = {"munge": ["munged"], "slurm-wlm": ["slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel"]}


def installed() -> None:
    """Install what is missing with apt-get; ends the program, saying why, where that cannot be."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        raise SystemExit("SLURM's daemons start jobs for other users, so this runs as root only")
    missing = [package for package, names in PROGRAMS.items() if not all(map(shutil.which, names))]
    if missing:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        try:
            subprocess.run(command, check=True, timeout=300, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        except (OSError, subprocess.SubprocessError) as error:
            raise SystemExit(
                f"{', '.join(missing)}: not installed, and `{' '.join(command)}` failed: {error}"
            ) from None


def slurm(*command: str) -> str:
    """What a SLURM command prints."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=60).stdout


@contextmanager
def cluster(here: Path) -> Iterator[None]:
    """A folder, to be made -> a cluster that commands of this process find. It ends with all its jobs."""
    for folder in (here, here / "state", here / "spool", here / "bin"):
        folder.mkdir(mode=0o755)
    (here / "munge.key").write_bytes(os.urandom(1024))
    (here / "munge.key").chmod(0o600)
    (here / "plugstack.conf").touch()
    # Snakemake's plugin takes every SLURM_* out of a job's environment, SLURM_CONF, too, before it calls srun.
    (here / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={here}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    (here / "bin/srun").chmod(0o755)
    devices = [here / f"gpu{n}" for n in range(2)]
    for device in devices:
        device.touch()
    (here / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    memory = psutil.virtual_memory().total // 2**20 * 9 // 10
    host = socket.gethostname().split(".")[0]
    ctld, d = _free_ports()
    (here / "slurm.conf").write_text(CONFIG.format(here=here, host=host, ctld=ctld, d=d, memory=memory))
    before = {key: os.environ.get(key) for key in ("SLURM_CONF", "PATH")}
    os.environ |= {"SLURM_CONF": f"{here}/slurm.conf", "PATH": f"{here}/bin:{os.environ['PATH']}"}
    munge = ["munged", "--foreground", "--force", f"--key-file={here}/munge.key", f"--socket={here}/munge.socket"]
    munge += [f"--{name}={here}/munge.{name[:-5]}" for name in ("pid-file", "log-file", "seed-file")]
    daemons = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            output = (here / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
            time.sleep(1)
            if daemons[-1].poll() is not None:
                raise RuntimeError(f"{command[0]} ended: {Path(output.name).read_text()[-500:]}")
        _await("idle", lambda: slurm("sinfo", "--noheader", "--format=%T").strip(), 60)
        yield
    finally:
        with suppress(subprocess.SubprocessError, TimeoutError):
            subprocess.run(["scancel", "--user=root"], timeout=30, check=False)
            _await("", lambda: slurm("squeue", "--noheader"), 30)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for process in _left(here):
            process.kill()
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for s in (one, other):
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in (one, other)]


def _await(wanted: str, ask: Callable[[], str], seconds: float) -> None:
    """Ask until the answer is the one wanted; TimeoutError after so many seconds."""
    answer, end = None, time.monotonic() + seconds
    while answer != wanted:
        if time.monotonic() > end:
            raise TimeoutError(f"{answer!r} instead of {wanted!r} after {seconds:.0f} s")
        with suppress(subprocess.SubprocessError):
            answer = ask()
        time.sleep(0.5)


def _left(here: Path) -> list[psutil.Process]:
    """Processes of this cluster's jobs that still run: they have its folder in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            path = process.environ().get("PATH", "")
            found += [process] if f"{here}/bin" in path and process.pid != os.getpid() else []
    return found
