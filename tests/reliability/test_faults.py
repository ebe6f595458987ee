"""What the world does to a run: a full disk, missing files, two runs at once. Clear errors, and nothing is lost."""

import csv
import json
import os
import resource
import subprocess
import time
from pathlib import Path

from running import SNAKEMAKE, results, snakemake, tiny

REAL = ["--rerun-triggers", "mtime", "--configfile", "overlay.yaml", "--", "tiny"]  # for `real_checkout`


def test_a_full_disk_then_a_missing_image_then_two_runs_at_once(checkout: Path, mvtec: Path) -> None:
    """Each failure names its file, and the index that was there before is used to the end."""
    axes = {"method": ["patchcore"], "resize": [160], "crop": [128]}
    # by mtime alone, so that the removed image does not rerun the index, which would find it missing
    command = ["--cores", "2", "--rerun-triggers", "mtime", *tiny(checkout, "mvtec_ad", mvtec, axes), "tiny"]

    def limit() -> None:  # no file larger than 50 kB: features do not fit, which the system reports like a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [*SNAKEMAKE, *command], cwd=checkout, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "train.npy: cannot be written (File too large)" in printed and "GB are free there" in printed
    left = [file.name for file in (checkout / "results").rglob("*") if ".tmp" in file.name or file.name == "train.npy"]
    assert left == []
    manifest = checkout / "results/index/mine/nut.json"
    written = manifest.stat().st_mtime_ns

    image = mvtec / "nut/test/bent/001.png"
    content, dated = image.read_bytes(), image.stat()
    image.unlink()
    printed = snakemake(checkout, *command, ok=False)
    assert "bent/001.png" in printed and "Traceback" not in printed
    page = checkout / "results/report.html"
    assert "tiny: all 1" in page.read_text()
    image.write_bytes(content)
    os.utime(image, ns=(dated.st_atime_ns, dated.st_mtime_ns))

    with open(checkout / "output.txt", "wb") as output:
        first = subprocess.Popen([*SNAKEMAKE, *command], cwd=checkout, stdout=output, stderr=output)
    for _ in range(600):
        if first.poll() is not None or list((checkout / ".snakemake/locks").glob("*")):
            break
        time.sleep(0.1)
    assert "LockException" in snakemake(checkout, *command, ok=False)
    assert first.wait() == 0, (checkout / "output.txt").read_text()
    assert manifest.stat().st_mtime_ns == written and len(list((checkout / "results").rglob("record.json"))) == 1
    assert "smoke: all 8" in page.read_text() and "tiny: " not in page.read_text(), "the page still lists the failure"


def test_results_that_cannot_be_written_stop_the_run_at_once(checkout: Path) -> None:
    (checkout / "results").write_text("a file where a folder should be")
    printed = snakemake(checkout, "--cores", "2", "smoke", ok=False)
    assert "results: nothing can be written there" in printed and "Traceback" not in printed


def test_deleted_and_truncated_results_are_made_again(real_checkout: Path) -> None:
    """By the workflow, to the bytes that the steps made in one process."""
    folder = real_checkout / "results"
    snakemake(real_checkout, "--cores", "2", *REAL)
    expected = results(real_checkout)
    # Also where all that is made of it is there.
    for name in ("masks.npy", "defects.safetensors", "features.json", "bank.safetensors"):
        file = next(folder.rglob(f"**/bolt/**/{name}"))
        file.rename(real_checkout / "aside")
        assert str(file.relative_to(real_checkout)) in snakemake(real_checkout, "-n", *REAL), name
        (real_checkout / "aside").rename(file)
    for pattern in ("runs/mine/bolt/*/record.json", "masks/mine/bolt/*/masks.npy", "bank/mine/bolt/*/bank.safetensors"):
        next(folder.glob(pattern)).unlink()
    next(folder.rglob("bolt/**/training.json")).unlink()
    with (folder / "tables/tiny.csv").open(newline="") as table:  # a run that the target's table shows
        run = next(row["runs"] for row in csv.DictReader(table) if row["category"] == "nut").split()[0]
    scores = folder / f"runs/mine/nut/{run}/scores.safetensors"
    scores.write_bytes(scores.read_bytes()[:1000])
    printed = snakemake(real_checkout, "--cores", "2", *REAL, ok=False)
    assert f"{scores.name}: not a file of scores" in printed and "results/report.html shows what is there" in printed
    scores.unlink()
    snakemake(real_checkout, "--cores", "2", *REAL)
    assert results(real_checkout) == expected


def test_results_verify_until_they_are_edited(real_checkout: Path) -> None:
    def command(*words: str | Path) -> tuple[int, str]:
        call = [str(Path(SNAKEMAKE[0]).parent / "reconpatch"), *map(str, words)]
        done = subprocess.run(call, cwd=real_checkout, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    runs = real_checkout / "results/runs/mine/nut"
    status, printed = command("verify", "--configfile", "overlay.yaml")
    assert status == 0 and " 0 rounding, 0 DIFFERS, 0 cannot be checked; 5 tables: 5 ok" in printed, printed
    assert "than today's" not in printed
    first, second = sorted(runs.rglob("record.json"))[:2]
    status, printed = command("compare", first, second)
    assert "settings: " in printed.splitlines()[0], printed
    content = first.read_text()
    auroc = json.loads(content)["metrics"]["image_auroc"]
    first.write_text(content.replace(f'"image_auroc": {auroc}', '"image_auroc": 0.999'))
    next((real_checkout / "results/masks/mine/bolt").rglob("masks.npy")).unlink()
    status, printed = command("verify", "results/runs")
    assert status == 1 and " 0 rounding, 1 DIFFERS, " in printed and " 0 cannot be checked" not in printed, printed
    assert "masks.npy" in printed
    assert f"metrics.image_auroc: stored 0.999, recomputed {auroc}" in printed
