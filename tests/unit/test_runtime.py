import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy  # noqa: F401 loads the BLAS that is limited
import pytest
import threadpoolctl
from threadpoolctl import threadpool_info, threadpool_limits

from reconpatch.errors import ReconpatchError
from reconpatch.runtime import CLUSTERS, machine_mb, one_blas_thread, take_device, visible_devices

# Says which GPU it got and holds it until it is told to end, or is killed.
HOLDER = """
import sys
from pathlib import Path
from reconpatch.runtime import take_device
note = lambda text: print("note", text, flush=True)
print("got", take_device("auto", note, Path(sys.argv[1]), pause=0.05), flush=True)
sys.stdin.read()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a holder, with the variables given, on a machine whose driver numbers two GPUs; all that
    are left are killed in the end.
    """
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '0, GPU-1f-aa'; echo '1, GPU-2e-bb'\n")
    program.chmod(0o755)
    running = []

    def holder(**variables: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", *CLUSTERS)}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "locks")],
            env=kept | {"PATH": f"{program.parent}:{os.environ['PATH']}"} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield holder
    for process in running:
        process.kill()
        process.communicate()


THREE = {"CUDA_VISIBLE_DEVICES": "0,GPU-3f,MIG-a/7/0"}


def said(process: subprocess.Popen[str], word: str) -> str:
    """What the first line that begins with a word says further."""
    assert process.stdout is not None
    return next(line.split(" ", 1)[1].strip() for line in process.stdout if line.startswith(word))


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_who_finds_all_taken_waits_and_gets_what_a_process_that_ended_had(start: Start, end: int | None) -> None:
    holders = [start(**THREE) for _ in range(3)]
    devices = [said(process, "got") for process in holders]
    late = start(**THREE)
    assert said(late, "note").startswith("all 3 GPUs are taken")
    if end is None:
        holders[1].communicate("")  # it ends by itself
    else:
        holders[1].send_signal(end)
    assert said(late, "got") == devices[1]


def test_a_program_started_by_a_holder_does_not_keep_its_device(start: Start, tmp_path: Path) -> None:
    line = "import os; os.system('sleep 60 >/dev/null 2>&1 & echo child $!')"  # hands on what is not close-on-exec
    output = subprocess.run(
        [sys.executable, "-c", HOLDER.replace("sys.stdin.read()", line), str(tmp_path / "locks")],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    child = int(output.split()[-1])
    try:
        os.kill(child, 0)  # it still runs
        assert said(start(CUDA_VISIBLE_DEVICES="0,1"), "got") == "0"
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("named", "devices"),
    [("1, 0", ["1", "0"]), ("GPU-1f,2", ["GPU-1f", "2"]), ("", []), ("2,-1,0", ["2"])],
)
def test_devices_named_by_the_environment(named: str, devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_devices() == devices


@pytest.mark.parametrize(
    ("script", "devices"),
    [
        ("echo '0, GPU-1f'; echo '1, GPU-2e'", ["GPU-1f", "GPU-2e"]),
        ("echo 'Driver/library version mismatch'; exit 18", []),
    ],
)
def test_devices_named_by_the_driver(
    script: str, devices: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_devices() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert visible_devices() == devices


@pytest.mark.parametrize(("device", "visible"), [("cpu", "0,1"), ("auto", ""), ("cuda", "-1")])
def test_nothing_is_taken_where_there_is_no_gpu(
    device: str, visible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert take_device(device, pytest.fail, tmp_path / "locks") is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible and not (tmp_path / "locks").exists()


@pytest.mark.parametrize("first", ["0", "GPU-1f"])
def test_a_gpu_has_one_lock_whatever_it_is_called(first: str, start: Start) -> None:
    """Also where a process sees one alone: who sees all takes another."""
    assert said(start(CUDA_VISIBLE_DEVICES=first), "got") == first
    assert said(start(), "got") == "GPU-2e-bb"
    late = start(CUDA_VISIBLE_DEVICES="0,1")
    assert said(late, "note").startswith("all 2 GPUs are taken")


@pytest.mark.parametrize("variables", [{"CUDA_VISIBLE_DEVICES": "1"}, {"SLURM_JOB_ID": "7"}])
def test_nobody_waits_for_what_was_given_to_him_alone(variables: dict[str, str], start: Start) -> None:
    holders = [start(), start()]
    assert {said(process, "got") for process in holders} == {"GPU-1f-aa", "GPU-2e-bb"}
    assert said(start(**variables), "got") == variables.get("CUDA_VISIBLE_DEVICES", "GPU-1f-aa")


def test_the_device_taken_is_the_only_one_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    notes: list[str] = []
    assert take_device("cuda", notes.append, tmp_path / "locks") == "3"
    assert visible_devices() == ["3"] and notes == ["GPU 3"]
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_folder_of_locks_that_leads_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / "locks").symlink_to(tmp_path)
    with pytest.raises(ReconpatchError, match="another user") as error:
        take_device("auto", pytest.fail, tmp_path / "locks")
    assert error.value.where == str(tmp_path / "locks")


FAULTS = """
import resource
import numpy as np
from reconpatch.runtime import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
print(kept, first, faults())
"""


def test_freed_blocks_are_used_again() -> None:
    """The second block of 64 MB faults in no fresh pages; in a process of its own, as the setting cannot be undone."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, first, second = done.stdout.split()
    assert kept == str(platform.libc_ver()[0] == "glibc")
    assert kept == "False" or int(second) < int(first) / 4


MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def system(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """A root with control groups of a process and files of limits."""
    for name, content in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in limits.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "mb"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "300000000\n"}, 300),
        ("0::/a/b\n", {"a/b/memory.max": "300000000\n", "a/memory.max": "200000000\n"}, 200),
        ("0::/a\n", {"a/memory.max": f"{2**62}\n"}, MACHINE),
        ("0::/elsewhere\n", {"memory.max": "250000000\n"}, 250),  # in a container the path is the host's
        ("3:cpu:/\n4:memory,x:/job\n", {"memory/job/memory.limit_in_bytes": "100000000\n"}, 100),
        ("4:memory:/job\n0::/\n", {"memory/memory.limit_in_bytes": "90000000\n", "memory.max": "80000000"}, 80),
    ],
)
def test_the_lowest_limit_counts(groups, limits, mb, tmp_path) -> None:
    assert machine_mb(system(tmp_path, groups, limits)) == pytest.approx(mb)


def test_without_control_groups_the_machine_counts(tmp_path) -> None:
    assert machine_mb(tmp_path) == pytest.approx(MACHINE)
    assert 0 < machine_mb() <= MACHINE


HOLDS = """
import numpy as np
from reconpatch.runtime import peak_bytes, resident_bytes
before = resident_bytes()
block = np.ones(200_000_000, np.uint8)
held = resident_bytes()
del block
print(before, held, resident_bytes(), peak_bytes())
"""


def test_resident_memory_follows_what_is_held_and_the_peak_does_not() -> None:
    """In a process of its own, which has freed nothing before that it could use again."""
    said = subprocess.run([sys.executable, "-c", HOLDS], capture_output=True, text=True, check=True).stdout
    before, held, after, peak = map(int, said.split())
    assert held > before + 180_000_000
    assert after < before + 100_000_000 and peak > before + 180_000_000


def blas_threads() -> set[int]:
    """Of every BLAS whose number of threads is one of the process."""
    blas = [each for each in threadpool_info() if each["user_api"] == "blas"]
    return {each["num_threads"] for each in blas if each["threading_layer"] != "openmp"}


@pytest.mark.parametrize("leaves_first", ["main", "other"])
@pytest.mark.parametrize("enters_first", ["main", "other"])
def test_blas_has_one_thread_until_the_last_one_left(enters_first: str, leaves_first: str) -> None:
    entered, leave, seen = threading.Event(), threading.Event(), []

    def work() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait()
            seen.append(blas_threads())

    before, other = blas_threads(), threading.Thread(target=work)
    if before == {1}:
        pytest.fail("this machine's BLAS has one thread anyway")
    if enters_first == "other":
        other.start()
        entered.wait()
    with one_blas_thread():
        if enters_first == "main":
            other.start()
            entered.wait()
        if leaves_first == "other":
            leave.set()
            other.join()
        assert blas_threads() == {1}
    leave.set()
    other.join()
    assert seen == [{1}] and blas_threads() == before


def test_blas_has_one_thread_where_the_caller_had_chosen_another_number() -> None:
    with threadpool_limits(2, "blas"):
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


def test_a_blas_that_cannot_be_limited_is_an_error_and_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot be limited")

    monkeypatch.setattr(threadpoolctl, "threadpool_limits", refuse)
    with pytest.raises(RuntimeError, match="cannot be limited"), one_blas_thread():
        pass
    monkeypatch.undo()
    with one_blas_thread():
        assert blas_threads() == {1}


@pytest.mark.parametrize(("chosen", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_command_sleep_between_work_unless_the_user_chose(chosen: str | None, expected: str) -> None:
    """As libgomp itself says when PyTorch loads it."""
    code = "import sys\nfrom reconpatch.cli import main\nmain.run = lambda: __import__('torch') and 0\nmain.main()"
    variables = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    variables |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": chosen} if chosen else {})
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr
