"""What the world does to a run: a full disk, missing files, two runs at once. Clear errors, and nothing is lost."""

import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

from running import SNAKEMAKE, results, snakemake, tiny

AXES = {"method": ["patchcore", "reconpatch"]}
REAL = ["--rerun-triggers", "mtime", "--configfile", "overlay.yaml", "--"]  # for `real_checkout`


def test_full_disk_names_the_file_and_loses_nothing(checkout: Path, mvtec: Path) -> None:
    """No file may be larger than 50 kB, so features do not fit, which the system reports like a full disk."""
    axes = {"method": ["patchcore"], "resize": [160], "crop": [128]}
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, axes), "tiny"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [*SNAKEMAKE, *command], cwd=checkout, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "train.npy: cannot be written (File too large)" in printed and "GB are free there" in printed
    left = [file.name for file in (checkout / "results").rglob("*") if ".tmp" in file.name or file.suffix == ".npy"]
    assert left == []
    manifest = checkout / "results/index/mine/nut.json"
    before = manifest.stat().st_mtime_ns
    snakemake(checkout, *command)
    assert manifest.stat().st_mtime_ns == before and len(list((checkout / "results").rglob("record.json"))) == 1


def test_an_image_that_is_removed_meanwhile_is_named(checkout: Path, mvtec: Path) -> None:
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES), "tiny"]
    snakemake(checkout, *command[:2], "--until", "index_category", *command[2:])
    image = mvtec / "nut/test/bent/001.png"
    content, dated = image.read_bytes(), image.stat()
    index = (checkout / "results/index/mine/nut.json").read_bytes()
    image.unlink()
    # by mtime alone, so that the removed image does not rerun the index, which would find it missing
    command = [*command[:2], "--rerun-triggers", "mtime", *command[2:]]
    printed = snakemake(checkout, *command, ok=False)
    assert "bent/001.png" in printed and "Traceback" not in printed
    page = checkout / "results/report.html"
    assert "tiny: all 2" in page.read_text()
    image.write_bytes(content)
    os.utime(image, ns=(dated.st_atime_ns, dated.st_mtime_ns))
    snakemake(checkout, *command)
    assert (checkout / "results/index/mine/nut.json").read_bytes() == index
    assert "smoke: all 8" in page.read_text() and "tiny: " not in page.read_text(), "the page still lists the failure"


def test_results_that_cannot_be_written_stop_the_run_at_once(checkout: Path) -> None:
    (checkout / "results").write_text("a file where a folder should be")
    printed = snakemake(checkout, "--cores", "2", "smoke", ok=False)
    assert "results: nothing can be written there" in printed and "Traceback" not in printed


def test_second_run_in_the_same_folder_stops_and_the_first_goes_on(checkout: Path, mvtec: Path) -> None:
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]}), "tiny"]
    with open(checkout / "output.txt", "wb") as output:
        first = subprocess.Popen([*SNAKEMAKE, *command], cwd=checkout, stdout=output, stderr=output)
    for _ in range(600):
        if first.poll() is not None or list((checkout / ".snakemake/locks").glob("*")):
            break
        time.sleep(0.1)
    assert "LockException" in snakemake(checkout, *command, ok=False)
    assert first.wait() == 0, (checkout / "output.txt").read_text()


def test_same_bytes_on_one_core_and_two_and_wherever_the_data_lie(checkout: Path, mvtec: Path, tmp_path: Path) -> None:
    figures = {kind: {} for kind in ("qualitative", "histogram", "umap")}
    snakemake(checkout, "--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES, figures=figures), "tiny")
    expected = results(checkout)
    assert sum(name.endswith("record.json") for name in expected) == 2 and len(expected) > 15
    for file in sorted((file for file in mvtec.rglob("*") if file.is_file()), reverse=True):  # listed in another order
        copy = tmp_path / "elsewhere" / file.relative_to(mvtec)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    shutil.rmtree(checkout / "results")
    elsewhere = tiny(checkout, "mvtec_ad", tmp_path / "elsewhere", AXES, figures=figures)
    snakemake(checkout, "--cores", "1", *elsewhere, "tiny")
    assert results(checkout) == expected


def test_deleted_and_truncated_results_are_made_again(real_checkout: Path) -> None:
    """By the workflow, to the bytes that the steps made in one process."""
    command, folder = [*REAL, "tiny"], real_checkout / "results"
    snakemake(real_checkout, "--cores", "2", *command)
    expected = results(real_checkout)
    for name in ("record.json", "masks.npy", "bank.safetensors", "training.json", "features.json", "tiny.md"):
        file = next(folder.rglob(f"**/bolt/**/{name}"), folder / "tables" / name)
        file.rename(real_checkout / "aside")
        assert str(file.relative_to(real_checkout)) in snakemake(real_checkout, "-n", *command), name
        (real_checkout / "aside").rename(file)
    for name in ("runs/mine/bolt/*/record.json", "masks/mine/bolt/*/masks.npy", "bank/mine/bolt/*/bank.safetensors"):
        next(folder.glob(name)).unlink()
    scores = next(folder.glob("runs/mine/nut/*/scores.safetensors"))
    scores.write_bytes(scores.read_bytes()[:1000])
    printed = snakemake(real_checkout, "--cores", "2", *command, ok=False)
    assert f"{scores.name}: not a file of scores" in printed and "results/report.html shows what is there" in printed
    scores.unlink()
    snakemake(real_checkout, "--cores", "2", *command)
    assert results(real_checkout) == expected


def test_results_verify_until_they_are_edited(real_checkout: Path) -> None:
    def command(*words: str | Path) -> tuple[int, str]:
        call = [str(Path(SNAKEMAKE[0]).parent / "reconpatch"), *map(str, words)]
        done = subprocess.run(call, cwd=real_checkout, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    runs = real_checkout / "results/runs/mine/nut"
    status, printed = command("verify", "--configfile", "overlay.yaml")
    assert status == 0 and " 0 rounding, 0 DIFFERS, 0 cannot be checked; 4 tables: 4 ok" in printed, printed
    assert "than today's" not in printed
    first, second = sorted(runs.rglob("record.json"))[:2]
    status, printed = command("compare", first, first.parent)
    assert status == 0 and "identical" in printed, printed
    status, printed = command("compare", first, second)
    assert "settings: " in printed.splitlines()[0], printed
    content = first.read_text()
    auroc = json.loads(content)["metrics"]["image_auroc"]
    first.write_text(content.replace(f'"image_auroc": {auroc}', '"image_auroc": 0.999'))
    status, printed = command("verify", "results/runs")
    assert status == 1 and " 0 rounding, 1 DIFFERS, 0 cannot be checked" in printed, printed
    assert f"metrics.image_auroc: stored 0.999, recomputed {auroc}" in printed
    next((real_checkout / "results/masks/mine/nut").rglob("masks.npy")).unlink()
    status, printed = command("verify", "results/runs")
    assert status == 1 and "masks.npy" in printed and " 0 cannot be checked" not in printed, printed
