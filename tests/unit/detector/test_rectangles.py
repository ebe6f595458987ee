"""Photographs that are not square: seen whole, in their own shape."""

import re

import numpy as np
import pytest
from drawing import write_mask
from products import SETTINGS, SIZE, SMALL, detector, fit, product, small_run, write_products
from sklearn.metrics import roc_auc_score

from reconpatch.detector.detector import pixels
from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.evaluate import evaluate, seen_mask, whole_mask
from reconpatch.detector.photographs import find_photographs
from reconpatch.detector.settings import FitOptions, checked, choose_aspect, detector_run
from reconpatch.detector.truth import truth_from_folders
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.costs import ACTIVATIONS
from reconpatch.experiments.networks import Networks
from reconpatch.method.features import features_of

SIZES = [(96, 40), (40, 40), (40, 96), (90, 40), (60, 40), (200, 40)]  # seen in 4 shapes


def mixed(count: int, start: int = 0) -> list:
    return [product(start + n, size=SIZES[n % len(SIZES)]) for n in range(count)]


@pytest.fixture(scope="module")
def kept() -> ReConPatch:
    return detector(aspect="keep", false_alarm_rate=0.2, coreset=0.2).fit(mixed(18))


def test_photographs_of_several_shapes_are_scored_in_order_as_one_by_one(kept) -> None:
    photographs = mixed(11, start=50)
    together = kept.detect(photographs)
    assert [each.number for each in together] == list(range(11))
    for photograph, one in zip(photographs, together, strict=True):
        (alone,) = kept.detect([photograph])
        assert one.score == alone.score and np.array_equal(one.map, alone.map)
        assert one.map.shape == one.view.shape and one.view.seen() == 1
        assert one.view.back(one.map).shape == (photograph.height, photograph.width)
    assert len({each.map.shape for each in together}) == 4


def test_the_memory_bank_holds_the_patches_of_all_shapes() -> None:
    """With a coreset of everything, its rows are the patches of the photographs, found one by one."""
    photographs = mixed(6)
    found = fit(photographs, run=small_run("keep", coreset=1.0), aspect="keep", hold_out=0).detector
    patches = []
    for photograph in photographs:
        image, seen, _ = pixels(photograph, found.run)
        assert image.shape == (*seen.shape, 3)
        patches.append(features_of([image], found.backbone, found.run.patch_size, 32, 32)[0].reshape(-1, 32))
    rows = found.bank.representation(np.concatenate(patches))[found.bank.order]
    assert len(found.bank.patches) == len(rows)
    np.testing.assert_allclose(found.bank.patches, rows, rtol=1e-2, atol=1e-4)


def test_maps_of_several_shapes_make_no_array(kept) -> None:
    assert kept.anomaly_maps([product(1, size=(96, 40))] * 2).shape == (2, 32, 64)
    with pytest.raises(ReconpatchError, match=r"seen in 2 shapes.*detect\(images\)"):
        kept.anomaly_maps(mixed(2))
    assert kept.anomaly_scores(mixed(2)).shape == (2,)


def test_a_defect_at_the_far_end_is_found_where_the_whole_photograph_is_seen(tmp_path) -> None:
    """Of a strip; its centre, which a crop sees, is as good as the others."""
    folder = write_products(tmp_path / "good", 12, size=(160, 40))
    strip = product(50, size=(160, 40))
    bad = np.asarray(strip).copy()
    bad[10:26, 138:154] = 250
    for aspect, sees in (("keep", True), ("crop", False)):
        model = detector(aspect=aspect, hold_out=0, method="patchcore", coreset=0.5).fit(folder)
        good, defect = model.detect([strip, bad])
        assert (defect.score > 1.5 * good.score) == sees
        assert sees or defect.score == good.score
        if sees:
            x, y = defect.peak()
            assert 130 <= x < 160 and 5 <= y < 31


def test_a_saved_model_sees_the_same_shapes(kept, tmp_path) -> None:
    card, photographs = kept.save(tmp_path / "model"), mixed(4, start=70)
    loaded = ReConPatch.load(tmp_path / "model", device="cpu", threads=1)
    assert card.run.aspect == loaded.aspect == "keep" and card.seen == 1
    assert np.array_equal(loaded.anomaly_scores(photographs), kept.anomaly_scores(photographs))


def test_pixels_of_maps_of_several_shapes_are_pooled(kept, tmp_path, monkeypatch) -> None:
    """As scikit-learn ranks the pixels of all maps, one after another; no map takes more memory than the largest."""
    for n, size in enumerate(SIZES[:4]):
        bad = n % 2
        file = tmp_path / "test" / ("bent" if bad else "good") / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        product(80 + n, defect=bool(bad), size=size).save(file)
        if bad:
            box = size[0] // 2, size[1] // 2, size[0] // 2 + 8, size[1] // 2 + 8
            write_mask(tmp_path / f"masks/bent/{n}_mask.png", size, box)
    photographs = find_photographs([tmp_path / "test"])[0]
    truths = truth_from_folders(photographs, masks=tmp_path / "masks")
    frames = []
    monkeypatch.setattr("reconpatch.detector.evaluate.check_map_memory", lambda _, frame: frames.append(frame))
    result = evaluate(kept.detector_, photographs, truths, None, lambda *_: None)
    found = list(kept.detector_(photographs))
    marked = [
        seen_mask(whole_mask(truth, each.view), each.view).ravel() for truth, each in zip(truths, found, strict=True)
    ]
    values = [each.map.ravel() for each in found]
    expected = roc_auc_score(np.concatenate(marked), np.concatenate(values))
    assert result.metrics["pixel_auroc"] == pytest.approx(expected, abs=1e-6)
    shapes = {each.view.shape for each in found}
    assert any(high > wide for high, wide in shapes) and any(high < wide for high, wide in shapes)
    assert frames == [max(high * wide for high, wide in shapes)]


def test_the_shape_is_kept_unless_all_photographs_are_square(tmp_path, caplog) -> None:
    squares, strips = [(40, 40), (64, 64)], [(96, 40), (40, 40)]
    run = small_run()

    def chosen(sizes, takes=lambda frame: True, **options) -> str:
        return choose_aspect(sizes, run, FitOptions(size=SIZE, **options), takes)[0]

    assert chosen(squares) == "crop" and chosen(strips) == "keep"
    assert chosen([(1001, 1000), *squares]) == "crop"  # which `keep` would squeeze to a square
    assert chosen(strips, resize=40) == "crop"  # which nothing else uses
    assert chosen(strips, takes=lambda frame: frame[0] == frame[1]) == "stretch"
    folder = write_products(tmp_path / "strips", 6, size=(96, 40))
    caplog.set_level("INFO", "reconpatch.choices")
    model = detector(aspect="auto", hold_out=0).fit(folder)
    assert "aspect: keep, 6 of 6 photographs are not square, as one of 96 x 40 px" in caplog.text
    assert model.detector_.run.aspect == "keep" and model.fitted_.seen == 1
    assert detector(aspect="auto", hold_out=0).fit([product(n, size=(40, 40)) for n in range(6)]).detector_.run == run


def test_networks_of_fixed_size_see_squares() -> None:
    """A ViT takes 224 px alone; a convolutional network has a patch for every 8 px of either side."""
    networks = Networks()
    assert networks.grid("resnet10t", (2, 3), (64, 32)) == (4, 8)
    assert networks.grid("vit_tiny_patch16_224", (5,), (224, 224)) == (14, 14)
    with pytest.raises(ReconpatchError, match=r"takes no images of 288 x 224 px, only some squares.*aspect stretch"):
        networks.grid("vit_tiny_patch16_224", (5,), (288, 224))


def test_photographs_too_long_to_be_kept_are_named(tmp_path) -> None:
    folder = write_products(tmp_path / "good", 6, size=(60, 40))
    product(9, size=(500, 10)).save(folder / "belt.png")
    with pytest.raises(ReconpatchError, match=r"belt.png: 500 x 10 px, more than 10 times as long as wide"):
        fit(folder, run=small_run("keep"), aspect="keep", hold_out=0)


def test_a_photograph_too_long_is_left_out_when_it_is_scored(kept) -> None:
    problems = []
    given = [product(1, size=(60, 40)), product(2, size=(500, 10))]
    found = list(kept.detector_(given, lambda number, error: problems.append((number, str(error)))))
    assert [each.number for each in found] == [0]
    assert problems[0][0] == 1 and "more than 10 times" in problems[0][1]


def test_memory_is_predicted_from_the_largest_photograph(monkeypatch) -> None:
    """A strip among squares adds the activations of nine squares, at 512 px and one image a pass."""
    import reconpatch.detector.fit as module

    monkeypatch.setattr(module, "machine_mb", lambda: 1.0)
    squares, strip = [product(n, size=(256, 256)) for n in range(5)], product(9, size=(2560, 256))
    options = {"size": 512, "aspect": "keep", "hold_out": 0, "batch_images": 1, "device": "cpu", "threads": 1}
    run = detector_run(SETTINGS | SMALL | {"backbone": "resnet18"}, checked(FitOptions, options))

    def needs(photographs) -> float:
        with pytest.raises(ReconpatchError) as error:
            fit(photographs, run=run, **options)
        return float(re.search(r"extract features needs about ([\d.]+) GB", str(error.value))[1])

    more = 9 * 512**2 * ACTIVATIONS["resnet18"] / 1e9
    assert more < needs([*squares, strip]) - needs(squares) < 2 * more
