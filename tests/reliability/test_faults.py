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


def leftovers(where: Path) -> list[Path]:
    return [file for file in (where / "results").rglob("*") if ".tmp" in file.name]


def test_full_disk_names_the_file_and_loses_nothing(checkout: Path, mvtec: Path) -> None:
    """No file may be larger than 50 kB, so features do not fit, which the system reports like a full disk."""
    axes = AXES | {"resize": [160], "crop": [128]}
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, axes), "tiny"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [*SNAKEMAKE, *command], cwd=checkout, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "train.npy: cannot be written (File too large)" in printed and "GB are free there" in printed
    assert leftovers(checkout) == [] and not list((checkout / "results").rglob("*.npy"))
    manifest = checkout / "results/index/mine/nut.json"
    before = manifest.stat().st_mtime_ns
    snakemake(checkout, *command)
    assert manifest.stat().st_mtime_ns == before and len(list((checkout / "results").rglob("record.json"))) == 2


def test_image_removed_half_way_is_named_and_the_run_goes_on_once_it_is_back(checkout: Path, mvtec: Path) -> None:
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES), "tiny"]
    snakemake(checkout, *command[:2], "--until", "index_category", *command[2:])
    image = mvtec / "nut/test/bent/001.png"
    content, dated = image.read_bytes(), image.stat()
    index = (checkout / "results/index/mine/nut.json").read_bytes()
    image.unlink()
    # asked for this stage alone, so that nobody looks at the list of files again
    command = [*command[:2], "--rerun-triggers", "mtime", *command[2:]]
    printed = snakemake(checkout, *command, ok=False)
    assert "bent/001.png" in printed and "Traceback" not in printed
    page = checkout / "results/report.html"
    assert "tiny: all 2" in page.read_text()
    image.write_bytes(content)
    os.utime(image, ns=(dated.st_atime_ns, dated.st_mtime_ns))
    snakemake(checkout, *command)
    assert (checkout / "results/index/mine/nut.json").read_bytes() == index
    assert "smoke: all 8" in page.read_text() and "tiny: " not in page.read_text(), (
        "the page tells of the failure still"
    )


def test_results_that_cannot_be_written_stop_the_run_at_once(checkout: Path, mvtec: Path) -> None:
    (checkout / "results").write_text("a file where a folder should be")
    printed = snakemake(checkout, "--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES), "tiny", ok=False)
    assert "results: nothing can be written there" in printed and "Traceback" not in printed


def test_second_run_in_the_same_folder_stops_and_the_first_goes_on(checkout: Path, mvtec: Path) -> None:
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES), "tiny"]
    with open(checkout / "output.txt", "wb") as output:
        first = subprocess.Popen([*SNAKEMAKE, *command], cwd=checkout, stdout=output, stderr=output)
    for _ in range(600):
        if first.poll() is not None or list((checkout / ".snakemake/locks").glob("*")):
            break
        time.sleep(0.1)
    printed = snakemake(checkout, *command, ok=False)
    assert "LockException" in printed
    assert first.wait() == 0, (checkout / "output.txt").read_text()


def test_same_bytes_on_one_core_and_two_and_wherever_the_data_lie(checkout: Path, mvtec: Path, tmp_path: Path) -> None:
    kinds = {kind: {} for kind in ("qualitative", "histogram", "umap")}
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", mvtec, AXES, figures=kinds), "tiny"]
    snakemake(checkout, *command)
    expected = results(checkout)
    assert sum(name.endswith("record.json") for name in expected) == 2 and len(expected) > 15
    files = sorted(file for file in mvtec.rglob("*") if file.is_file())
    for file in reversed(files):  # made in another order, listed in another order
        copy = tmp_path / "elsewhere" / file.relative_to(mvtec)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    shutil.rmtree(checkout / "results")
    command = ["--cores", "1", *tiny(checkout, "mvtec_ad", tmp_path / "elsewhere", AXES, figures=kinds), "tiny"]
    snakemake(checkout, *command)
    assert results(checkout) == expected


def test_deleted_and_truncated_results_are_made_again(checkout: Path, mvtec: Path) -> None:
    command = [*tiny(checkout, "mvtec_ad", mvtec, AXES), "tiny"]
    snakemake(checkout, "--cores", "2", *command)
    expected = results(checkout)
    gone = ("record.json", "masks.npy", "bank.safetensors", "training.json", "features.json", "tiny.md")
    for name in gone:
        file = next((checkout / "results").rglob(name))
        file.rename(checkout / "aside")
        printed = snakemake(checkout, "-n", *command)
        assert str(file.relative_to(checkout)) in printed, name
        (checkout / "aside").rename(file)
    assert "Nothing to be done" in snakemake(checkout, "-n", *command)
    for name in ("record.json", "masks.npy"):
        next((checkout / "results").rglob(name)).unlink()
    snakemake(checkout, "--cores", "2", *command)
    assert results(checkout) == expected
    scores = next((checkout / "results").rglob("scores.safetensors"))
    scores.write_bytes(scores.read_bytes()[:1000])
    printed = snakemake(checkout, "--cores", "2", *command, ok=False)
    assert f"{scores.name}: not a file of scores" in printed and "remove it and run again" in printed
    assert "results/report.html shows what is there" in printed
    scores.unlink()
    snakemake(checkout, "--cores", "2", *command)
    assert results(checkout) == expected


def test_results_of_the_workflow_verify_until_they_are_edited(checkout: Path, mvtec: Path) -> None:
    axes = AXES | {"backbone": ["resnet10t", "resnet14t"]}
    ensemble = {"over": "backbone", "combine": ["zscore", "minmax"]}
    arguments = tiny(checkout, "mvtec_ad", mvtec, axes, ensemble=ensemble)
    snakemake(checkout, "--cores", "2", *arguments, "tiny")

    def command(*words: str | Path) -> tuple[int, str]:
        call = [str(Path(SNAKEMAKE[0]).parent / "reconpatch"), *map(str, words)]
        done = subprocess.run(call, cwd=checkout, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    status, said = command("verify", "--configfile", "overlay.yaml")
    assert status == 0 and "8 records: 8 ok, 0 rounding, 0 DIFFERS, 0 cannot be checked; 1 table: 1 ok" in said, said
    assert "than today's" not in said
    records = sorted((checkout / "results/runs").rglob("record.json"))
    status, said = command("compare", records[0], records[0].parent)
    assert status == 0 and "identical" in said, said
    status, said = command("compare", records[0], records[1])
    assert "settings: " in said.splitlines()[0], said
    content = records[0].read_text()
    auroc = json.loads(content)["metrics"]["image_auroc"]
    records[0].write_text(content.replace(f'"image_auroc": {auroc}', '"image_auroc": 0.999'))
    masks = next((checkout / "results/masks").rglob("masks.npy"))
    status, said = command("verify", "results/runs")
    assert status == 1 and "3 ok, 0 rounding, 1 DIFFERS, 0 cannot be checked" in said, said
    assert f"metrics.image_auroc: stored 0.999, recomputed {auroc}" in said
    masks.unlink()
    status, said = command("verify", "results/runs")
    assert status == 1 and "masks.npy" in said and "4 records: 0 ok, 0 rounding, 1 DIFFERS, 3 cannot be" in said, said
