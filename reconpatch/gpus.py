"""One GPU a job. Snakemake counts GPUs but does not say which one a job got: jobs agree on that by locks, which the
system releases when a process ends, however that ends.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reconpatch.errors import ReconpatchError

# Set in the jobs of clusters, which see what is theirs: SLURM, Kubernetes, PBS, LSF.
CLUSTERS = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "PBS_JOBID", "LSB_JOBID")


def visible_devices() -> list[str]:
    """-> the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them, or by UUID where that is not set.

    UUIDs, since CUDA numbers the fastest first and nvidia-smi does not. Imports no library: those cost seconds.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        devices = [name.strip() for name in named.split(",")]
        end = next((i for i, name in enumerate(devices) if name in ("", "-1")), len(devices))
        return devices[:end]  # CUDA, too, sees nothing from the first that is none
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], text=True, capture_output=True, check=False
    )
    return asked.stdout.split() if asked.returncode == 0 else []


def _names() -> dict[str, str]:
    """-> what CUDA_VISIBLE_DEVICES may call a GPU, its number in the order of the bus or its UUID -> its UUID.

    Empty where nvidia-smi is not there or fails.
    """
    if shutil.which("nvidia-smi") is None:
        return {}
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"], text=True, capture_output=True, check=False
    )
    lines = [line.split(",") for line in asked.stdout.splitlines()] if asked.returncode == 0 else []
    pairs = [(line[0].strip(), line[1].strip()) for line in lines if len(line) == 2]
    return dict(pairs) | {uuid: uuid for _, uuid in pairs}


def _identity(device: str, names: dict[str, str]) -> str:
    """A GPU as CUDA_VISIBLE_DEVICES names it -> its UUID, also from the beginning of one, or the name where unknown."""
    if device in names:
        return names[device]
    whole = {uuid for uuid in names.values() if device.startswith("GPU-") and uuid.startswith(device)}
    return whole.pop() if len(whole) == 1 else device


def take_device(wanted: str, note: Callable[[str], None], folder: Path | None = None, pause: float = 2.0) -> str | None:
    """auto, cpu or cuda -> the GPU that is this process's own until it ends, which is then the only one it sees.

    To be called before CUDA starts, which then numbers GPUs as nvidia-smi does. None where no GPU is wanted or visible.
    While all are taken it waits, looks again every `pause` seconds, and says so once through `note`; but where one
    alone is visible, or a cluster hands them out, the first is used all the same: a wait would gain nothing. Locks are
    files named after UUIDs in `folder`, by default one of this user's in the machine's temporary folder. Raises
    ReconpatchError if that folder is another user's.
    """
    devices = visible_devices() if wanted != "cpu" else []
    if not devices:
        return None
    names, handed_out = _names(), any(key in os.environ for key in CLUSTERS)
    locks = _own(folder or Path(tempfile.gettempdir()) / f"reconpatch-gpus-{os.getuid()}")
    waiting = False
    while True:
        for device in devices:
            if _lock(locks / _identity(device, names).replace("/", "_")):
                return _use(device, note)
        if handed_out or len(devices) == 1:
            return _use(devices[0], note)
        if not waiting:
            note(f"all {len(devices)} GPUs are taken by other jobs of this user; waiting for one (locks in {locks})")
        waiting = True
        time.sleep(pause)


def _use(device: str, note: Callable[[str], None]) -> str:
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # else CUDA's 0 is the fastest GPU, not that whose lock was taken
    note(f"GPU {device}")
    return device


def _own(folder: Path) -> Path:
    """Make the folder, for this user alone; in a temporary folder anybody may have made it before."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ReconpatchError(f"{folder}: belongs to another user; remove it, or set TMPDIR to a folder of your own")
    return folder


def _lock(file: Path) -> bool:
    """Lock a file until this process ends, unless another has it. The descriptor stays open; children do not get it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
