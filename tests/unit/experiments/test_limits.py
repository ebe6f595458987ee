import os
from pathlib import Path

import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.estimate import Job
from reconpatch.experiments.limits import check_fits
from reconpatch.experiments.needs import Need
from reconpatch.runtime import machine_mb

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
        ("0::/a\n", {"a/memory.max": "max\n"}, MACHINE),
        ("0::/a\n", {"a/memory.max": f"{2**62}\n"}, MACHINE),
        ("0::/elsewhere\n", {"memory.max": "250000000\n"}, 250),  # in a container the path is the host's
        ("3:cpu:/\n4:memory,x:/job\n", {"memory/job/memory.limit_in_bytes": "100000000\n"}, 100),
        ("4:memory:/job\n0::/\n", {"memory/memory.limit_in_bytes": "90000000\n", "memory.max": "80000000"}, 80),
        ("3:cpu:/x\n", {"cpu/x/memory.limit_in_bytes": "1\n"}, MACHINE),  # another controller's folder
        ("", {}, MACHINE),
    ],
)
def test_the_lowest_limit_counts(groups, limits, mb, tmp_path) -> None:
    assert machine_mb(system(tmp_path, groups, limits)) == pytest.approx(mb)


def test_without_control_groups_the_machine_counts(tmp_path) -> None:
    assert machine_mb(tmp_path) == pytest.approx(MACHINE)
    assert 0 < machine_mb() <= MACHINE


JOBS = {
    Job("extract_features", "mine", "nut", "net-1"): Need(3000, 0),
    Job("train_representation", "mine", "nut", "dim=8-2"): Need(900, 4000),
    Job("make_table", name="x"): Need(100),
}


def test_what_fits_passes() -> None:
    """Of the training only its own memory counts: the system takes back what is mapped."""
    check_fits(JOBS, 3000)
    check_fits({}, 1)


def test_what_does_not_fit_is_named_with_what_to_do() -> None:
    with pytest.raises(ReconpatchError) as raised:
        check_fits(JOBS, 2999)
    for part in ("extract_features of mine/nut/net-1", "about 3.0 GB", "batch_images", "cluster", "memory_gb=N"):
        assert part in str(raised.value)


def test_a_job_without_advice_of_its_own() -> None:
    with pytest.raises(ReconpatchError, match=r"make_table of x needs about 0\.1 GB .* Use a machine with more"):
        check_fits({Job("make_table", name="x"): Need(100)}, 10)
