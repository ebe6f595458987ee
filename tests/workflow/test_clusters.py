"""Profiles for clusters, where there is none: what would be submitted. `make cluster` runs on one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, snakemake, tiny

ON_GPU = {"extract_features", "train_representation", "score_run"}
SENT = ON_GPU | {"draw_sample", "index_category", "read_masks", "select_coreset"}


def asked(printed: str) -> dict[str, dict[str, str]]:
    """What a dry run prints -> by rule the resources of its last job."""
    found = {}
    for block in re.split(r"\n *rule ", printed)[1:]:
        line = re.search(r"resources: (.*)", block)
        assert line is not None
        found[block.split(":")[0]] = dict(item.split("=") for item in line[1].split(", ") if "=" in item)
    return found


def test_slurm_jobs_ask_for_a_gpu_where_the_configuration_says_so(checkout: Path) -> None:
    jobs = asked(snakemake(checkout, "-n", "--profile", "profiles/slurm", "--config", "device=cuda", "--", "smoke"))
    assert {rule for rule in SENT if jobs[rule].get("gpu", "0") == "1"} == ON_GPU
    assert all(int(jobs[rule]["mem_mb"]) > 400 and int(jobs[rule]["runtime"]) > 0 for rule in SENT)


@pytest.fixture
def driver(tmp_path: Path) -> str:
    """PATH of a machine that looks as if it had GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


def gpu_limit(printed: str) -> int:
    match = re.search(r'Provided resources: .*gpu=(?:Resource\("gpu", )?(\d+)\b', printed)
    assert match, printed
    return int(match[1])


@pytest.mark.parametrize(("visible", "given", "limit"), [("", [], 1), ("0,1", ["--resources", "gpu=5"], 5)])
def test_as_many_gpu_jobs_run_here_as_there_are_gpus(
    visible: str, given: list[str], limit: int, checkout: Path, mvtec: Path, driver: str
) -> None:
    target = [*tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]}), "results/index/mine/nut.json"]
    variables = {"PATH": driver, "CUDA_VISIBLE_DEVICES": visible}
    assert gpu_limit(snakemake(checkout, "--cores", "1", *given, *target, **variables)) == limit


def test_every_gpu_job_takes_a_device(checkout: Path, mvtec: Path, driver: str, tmp_path: Path) -> None:
    """There are none, so that jobs compute on the CPU after they have agreed who has which."""
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"seed": [0]})
    variables = {"PATH": driver, "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}
    assert gpu_limit(snakemake(checkout, "--cores", "2", *arguments, "tiny", **variables)) == 2
    taken = {
        rule: [re.findall(r" GPU (.*)", log.read_text()) for log in (checkout / "logs" / rule).rglob("*.log")]
        for rule in (*ON_GPU, "select_coreset")
    }
    assert all(device in (["0"], ["1"]) for rule in ON_GPU for device in taken[rule])
    assert {len(logs) for logs in taken.values()} == {1}
    assert taken["select_coreset"] == [[]]


@pytest.fixture
def apptainer(tmp_path: Path) -> Path:
    """A folder with a stand-in that notes the image it is given, in `images`, and calls the command without one."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(
        """#!/bin/bash
        [ "$1" = --version ] && echo "apptainer version 1.4.0" && exit
        while [ "$1" != bash ]; do image="$1"; shift; done
        echo "$image" >> "$(dirname "$0")/images"
        exec "$@"
        """
    )
    program.chmod(0o755)
    return program.parent


def test_jobs_run_in_an_image_only_where_snakemake_is_told_to(checkout: Path, mvtec: Path, apptainer: Path) -> None:
    target = [*tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]}), "results/index/mine/nut.json"]
    variables = {"PATH": f"{apptainer}:{Path(sys.executable).parent}:/usr/bin:/bin"}
    image = str(apptainer / "apptainer")  # a file, whatever is in it
    snakemake(checkout, "--cores", "1", *target, **variables)
    with_image = ["--cores", "1", "--config", f"container={image}", *target]
    assert "Nothing to be done" in snakemake(checkout, *with_image, **variables)
    assert not (apptainer / "images").exists()
    snakemake(checkout, "--software-deployment-method", "apptainer", *with_image, **variables)
    assert (apptainer / "images").read_text().split() == [image]


def test_an_image_is_no_command(checkout: Path) -> None:
    said = snakemake(checkout, "-n", "--config", "container=a.sif; ls", "--", "smoke", ok=False)
    assert "container = 'a.sif; ls': must be a file or an address of an image" in said


def test_the_option_without_an_image_is_refused(checkout: Path) -> None:
    """Snakemake would run the jobs outside of any image, and not say so."""
    said = snakemake(checkout, "-n", "--software-deployment-method", "apptainer", "--", "smoke", ok=False)
    assert "container: null: no image for --software-deployment-method apptainer" in said


def kubernetes(checkout: Path, device: str) -> dict[str, dict]:
    """The Kubernetes jobs of the smoke run by rule."""
    command = [sys.executable, str(ROOT / "tests/cluster/kubernetes_jobs.py"), device]
    return json.loads(subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE).stdout)


def test_kubernetes_jobs_ask_for_what_is_predicted(checkout: Path) -> None:
    jobs = kubernetes(checkout, "cuda")
    assert set(jobs) == SENT
    for rule, job in jobs.items():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests["memory"] == limits["memory"] == f"{job['asked']['mem_mb']}M"
        assert limits["cpu"] == f"{1000 * job['asked']['threads']}m"
        # Kubernetes refuses a GPU that is requested and not limited, or the two unequal.
        gpus = {kind.get("nvidia.com/gpu", "0") for kind in (requests, limits)}
        assert gpus == ({"1"} if rule in ON_GPU else {"0"}), rule
        assert pod["restartPolicy"] == "Never" and job["spec"]["backoffLimit"] == 0  # Snakemake tries again, with more
        assert container["image"] == "registry/reconpatch:1" and rule in container["args"][1]


def test_kubernetes_jobs_without_gpus_can_be_submitted(checkout: Path) -> None:
    for job in kubernetes(checkout, "auto").values():
        resources = job["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert {kind.get("nvidia.com/gpu", "0") for kind in resources.values()} == {"0"}
