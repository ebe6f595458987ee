"""Submissions to the server of MVTec AD 2, on a miniature of it, against maps computed by other code."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from miniature_results import UNPACKED, make_miniature_results, settings_of, submission_files, submit
from PIL import Image
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.plan import Plan
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import stream_features
from reconpatch.pipeline import submission
from reconpatch.records.record import content_digest, read_record, write_record

CATEGORIES = ("can", "sheet_metal")
SPLITS = {"test_private": "regular", "test_private_mixed": "mixed"}
IMAGES = 3  # of each split of a miniature
KINDS = {"anomaly_images": ".tiff", "anomaly_images_thresholded": ".png"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> tuple[Path, Plan]:
    """Folder and plan of PatchCore and ReConPatch on both categories."""
    folder = tmp_path_factory.mktemp("ad2")
    axes = {"axes": {"method": ["patchcore", "reconpatch"], "seed": [0]}}
    plan = make_miniature_results(folder, {"mvtec_ad_2": CATEGORIES}, {"two": axes})
    with chdir(folder):
        for name in plan.members("two"):
            for category in CATEGORIES:
                submit(submission_files(plan, name, category), settings_of(plan, name), category)
    return folder, plan


def run_of(plan: Plan, method: str = "patchcore") -> str:
    (name,) = (name for name, run in plan.runs.items() if run.method == method)
    return name


@pytest.fixture
def fresh(scored, tmp_path) -> Iterator[tuple[Plan, str]]:
    """A copy of the results without submissions, as the current folder; the plan and PatchCore's run."""
    folder, plan = scored
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("submissions"))
    with chdir(copy):
        yield plan, run_of(plan)


def part(name: str) -> Path:
    """Folder that the archives of a run are unpacked into, from where the workflow is called."""
    return Path("results/submissions/mvtec_ad_2") / name / UNPACKED


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_files_are_what_the_publishers_checker_takes(scored) -> None:
    """Its rules, written down again: two folders, in each the categories, in each the splits, in each every image by
    its name, as a map or as a mask of the image's size; and nothing else.
    """
    folder, plan = scored
    for name in plan.members("two"):
        whole = folder / part(name)
        assert {path.name for path in whole.iterdir()} == {*KINDS}
        for kind, suffix in KINDS.items():
            assert {path.name for path in (whole / kind).iterdir()} == {*CATEGORIES}
            for category in CATEGORIES:
                assert {path.name for path in (whole / kind / category).iterdir()} == {*SPLITS}
                for split, light in SPLITS.items():
                    made = sorted(path.name for path in (whole / kind / category / split).iterdir())
                    assert made == [f"{n:03}_{light}{suffix}" for n in range(IMAGES)]
                    assert all(re.fullmatch(r"\d{3}_(regular|mixed)\.(tiff|png)", each) for each in made)
                    for each in made:
                        size = size_of(folder / "data/mvtec_ad_2" / category / split / each)
                        check_file(whole / kind / category / split / each, size)


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file.with_suffix(".png")) as image:
        return image.size


def check_file(file: Path, size: tuple[int, int]) -> None:
    """One page of uncompressed half floats, or a grey image of 0 and 255."""
    if file.suffix == ".tiff":
        with tifffile.TiffFile(file) as content:
            (page,) = content.pages
            tags = {name: page.tags[name].value for name in ("BitsPerSample", "SampleFormat", "Compression")}
            array = page.asarray()
        assert tags == {"BitsPerSample": 16, "SampleFormat": 3, "Compression": 1}
        assert array.dtype == np.float16 and np.isfinite(array).all() and (array >= 0).all()
    else:
        with Image.open(file) as image:
            assert image.mode == "L" and image.format == "PNG"
            array = np.asarray(image)
        assert array.dtype == np.uint8 and {*np.unique(array)} <= {0, 255}
    assert array.ndim == 2 and array.shape == size[::-1]


def by_hand(folder: Path, plan: Plan, category: str, method: str, coreset: float = 0.1) -> dict[str, np.ndarray]:
    """Images without truth -> their maps: distances to the nearest row of the bank by a whole matrix, enlarged and
    blurred at the size of the crop, and enlarged again to the image by PyTorch.
    """
    name = run_of(plan, method)
    run = plan.runs[name]
    with chdir(folder):
        files = submission_files(plan, name, category)
        tensors, offered = load_file(files.bank), read_record(files.record).bank.of
    backbone = load_backbone(run.backbone, run.levels, run.weights)
    maps = {}
    for split in SPLITS:
        for file in sorted((folder / "data/mvtec_ad_2" / category / split).glob("*.png")):
            image = Image.open(file).convert("RGB")
            small = np.asarray(image.resize((run.crop, run.crop), Image.Resampling.BILINEAR))
            options = {"patch_size": run.patch_size, "level_dim": run.level_dim, "dim": run.feature_dim}
            (features,) = stream_features([small], lambda array: array, backbone, batch=1, threads=1, **options)
            patches = features.reshape(-1, features.shape[-1]).astype(np.float64)
            if method == "reconpatch":
                represented = patches @ tensors["f.weight"].T.astype(float) + tensors["f.bias"]
            else:
                represented = patches.reshape(len(patches), run.dim, -1).mean(2)
            bank = tensors["memory_bank"][: int(coreset * offered)].astype(float)
            distances = np.linalg.norm(represented[:, None] - bank[None], axis=2).min(1)
            grid = torch.from_numpy(distances.reshape(1, 1, *features.shape[:2]))
            large = F.interpolate(grid, size=(run.crop, run.crop), mode="bilinear", align_corners=False)[0, 0].numpy()
            blurred = torch.from_numpy(gaussian_filter(large, run.blur))[None, None]
            whole = F.interpolate(blurred, size=image.size[::-1], mode="bilinear", align_corners=False)[0, 0]
            maps[f"{category}/{split}/{file.stem}"] = whole.numpy()
    return maps


@pytest.mark.parametrize("method", ["patchcore", "reconpatch"])
@pytest.mark.parametrize("category", CATEGORIES)
def test_maps_and_masks_are_those_computed_by_hand(category, method, scored) -> None:
    """Within what half floats leave open; a mask may differ where the map is that near to the threshold."""
    folder, plan = scored
    name = run_of(plan, method)
    record = read_record(folder / f"results/runs/mvtec_ad_2/{category}/{name}/record.json")
    threshold = record.metrics["pixel_f1_normal_threshold"]
    assert threshold is not None
    maps = by_hand(folder, plan, category, method)
    assert len(maps) == 2 * IMAGES
    above = []
    for place, expected in maps.items():
        got = tifffile.imread(folder / part(name) / "anomaly_images" / f"{place}.tiff")
        near = 2e-3 * expected.max()
        np.testing.assert_allclose(got.astype(float), expected, rtol=0, atol=near)
        mask = np.asarray(Image.open(folder / part(name) / "anomaly_images_thresholded" / f"{place}.png"))
        clear = abs(expected - threshold) > near
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(mask[clear] == 255, expected[clear] > threshold)
        above.append((mask == 255).mean())
    assert 0 < np.mean(above) < 1  # some pixels are above, some below


def test_facts_tell_the_record_the_threshold_and_the_digest_of_every_file(scored) -> None:
    folder, plan = scored
    for name in plan.members("two"):
        every: list[str] = []
        for category in CATEGORIES:
            facts = json.loads((folder / f"results/submissions/mvtec_ad_2/{name}/{category}.json").read_text())
            record = read_record(folder / f"results/runs/mvtec_ad_2/{category}/{name}/record.json")
            assert facts["record"] == record.digest
            assert facts["threshold"] == record.metrics["pixel_f1_normal_threshold"]
            assert facts["stage"]["folder"] == category and facts["stage"]["batch_images"] == 2
            assert len(facts["images"]) == 2 * IMAGES
            for image, digests in facts["images"].items():
                original = (folder / "data/mvtec_ad_2" / category / image).read_bytes()
                assert hashlib.sha256(original).hexdigest() == digests.pop("image"), image
                for file, digest in digests.items():
                    content = (folder / part(name) / file).read_bytes()
                    assert hashlib.sha256(content).hexdigest() == digest, file
                    assert file.split("/")[1] == category
                every += digests
        assert sorted(every) == files_below(folder / part(name))


def test_a_second_run_gives_the_same_bytes(scored, fresh) -> None:
    """In place of the first, too: nothing of it is left beside. The archive has no times in it."""
    plan, name = fresh
    files = submission_files(plan, name, "can")
    first = scored[0] / part(name)
    left = files.part.with_name(f".can.{2**22 + 1}.tmp.tar")  # by a killed process
    left.parent.mkdir(parents=True)
    left.touch()
    for _ in range(2):
        submit(files, settings_of(plan, name), "can")
        made = files_below(part(name))
        assert made == [file for file in files_below(first) if "/can/" in file]
        assert all((part(name) / file).read_bytes() == (first / file).read_bytes() for file in made)
        assert files.part.read_bytes() == (scored[0] / files.part).read_bytes() and not left.exists()


def test_a_smaller_coreset_is_the_beginning_of_the_bank(fresh) -> None:
    """Runs share the bank of the largest ratio."""
    plan, name = fresh
    submit(submission_files(plan, name, "can"), settings_of(plan, name, coreset=0.02), "can")
    smaller, larger = (by_hand(Path(), plan, "can", "patchcore", coreset) for coreset in (0.02, 0.1))
    for place, expected in smaller.items():
        got = tifffile.imread(part(name) / "anomaly_images" / f"{place}.tiff").astype(float)
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3 * expected.max())
        assert abs(got - larger[place]).max() > 0.1 * expected.max()


@pytest.mark.parametrize("broken", ["image", "disk"])
def test_a_failure_leaves_nothing(broken, fresh, damage, monkeypatch) -> None:
    """Neither of an image that cannot be read after others were written, nor of a disk that fills up."""
    plan, name = fresh
    files = submission_files(plan, name, "can")
    if broken == "image":
        damage(files.folder / "test_private_mixed/002_mixed.png")
        with pytest.raises(ReconpatchError, match=r"002_mixed\.png"):
            submit(files, settings_of(plan, name), "can")
    else:
        written = []

        def write(stream: BinaryIO, *_: object, **__: object) -> None:
            written.append(stream)
            stream.write(b"half")
            if len(written) == 4:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(submission.tifffile, "imwrite", write)
        with pytest.raises(ReconpatchError, match="No space left"):
            submit(files, settings_of(plan, name), "can")
        assert len(written) == 4
    assert files_below(Path("results/submissions")) == []
    assert not any(path.name.startswith(".") for path in Path("results/submissions").rglob("*"))


def test_a_failure_keeps_what_an_earlier_run_wrote(fresh, damage) -> None:
    plan, name = fresh
    files = submission_files(plan, name, "can")
    submit(files, settings_of(plan, name), "can")
    before = files.part.read_bytes(), files.facts.read_bytes()
    damage(files.folder / "test_private_mixed/002_mixed.png")
    with pytest.raises(ReconpatchError):
        submit(files, settings_of(plan, name), "can")
    assert (files.part.read_bytes(), files.facts.read_bytes()) == before


@pytest.mark.parametrize("aspect", [{"aspect": "crop", "resize": 72}, {"resize": 72}])
def test_images_that_are_not_seen_whole_are_refused(aspect, fresh) -> None:
    """Settings without an aspect mean crop."""
    plan, name = fresh
    settings = {key: value for key, value in settings_of(plan, name).items() if key != "aspect"} | aspect
    with pytest.raises(ReconpatchError, match="not seen") as caught:
        submit(submission_files(plan, name, "can"), settings, "can")
    assert "stretch" in caught.value.fix and files_below(Path("results/submissions")) == []


def test_other_weights_are_refused(fresh) -> None:
    plan, name = fresh
    files = submission_files(plan, name, "can")
    record = read_record(files.record)
    other = record.weights.model_copy(update={"sha256": "0" * 64})
    changed = record.model_copy(update={"weights": other, "digest": ""})
    files.record.unlink()
    write_record(files.record, changed.model_copy(update={"digest": content_digest(changed)}))
    with pytest.raises(ReconpatchError, match="made with 0000"):
        submit(files, settings_of(plan, name), "can")
    assert files_below(Path("results/submissions")) == []


def test_no_private_images_or_no_threshold_is_said(fresh) -> None:
    plan, name = fresh
    files = submission_files(plan, name, "can")
    record = read_record(files.record)
    metrics = {key: value for key, value in record.metrics.items() if "normal" not in key}
    changed = record.model_copy(update={"metrics": metrics, "digest": ""})
    changed = changed.model_copy(update={"digest": content_digest(changed)})
    files.record.unlink()
    write_record(files.record, changed)
    with pytest.raises(ReconpatchError, match="no threshold of validation images"):
        submit(files, settings_of(plan, name), "can")
    for split in SPLITS:
        shutil.rmtree(files.folder / split)
    with pytest.raises(ReconpatchError, match="no test images without truth") as caught:
        submit(files, settings_of(plan, name), "can")
    assert "can" in caught.value.where and not Path("results/submissions").exists()


def test_images_seen_in_another_shape_are_named(fresh) -> None:
    """With aspect keep, an image of another ratio has another grid of patches."""
    plan, name = fresh
    files = submission_files(plan, name, "sheet_metal")
    file = files.folder / "test_private/001_regular.png"
    image = Image.open(file)
    image.resize((image.height, image.height)).save(file)
    with pytest.raises(ReconpatchError, match="another shape") as caught:
        submit(files, settings_of(plan, name, aspect="keep"), "sheet_metal")
    assert "001_regular.png" in caught.value.where and files_below(Path("results/submissions")) == []


def test_whole_rectangles_are_taken_too(fresh) -> None:
    """With aspect keep maps are rectangles; those of the images are as large as ever."""
    plan, name = fresh
    files = submission_files(plan, name, "sheet_metal")
    submit(files, settings_of(plan, name, aspect="keep"), "sheet_metal")
    for split, light in SPLITS.items():
        made = tifffile.imread(part(name) / f"anomaly_images/sheet_metal/{split}/000_{light}.tiff")
        assert made.shape == size_of(files.folder / split / f"000_{light}.png")[::-1]
