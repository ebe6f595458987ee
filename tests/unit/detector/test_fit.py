import tempfile

import numpy as np
import pytest
from PIL import Image
from products import SIZE, detector, fit, product, small_run, write_products
from safetensors.numpy import load_file

from reconpatch.data.images import view
from reconpatch.detector import fit as module
from reconpatch.detector.detector import pixels
from reconpatch.detector.photographs import find_photographs
from reconpatch.errors import ReconpatchError, Remark
from reconpatch.method.features import features_of
from reconpatch.method.training import train


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A folder of 12 good products."""
    return write_products(tmp_path_factory.mktemp("few"), 12)


@pytest.fixture(scope="module")
def fitted(few):
    return fit(few)


@pytest.fixture(scope="module")
def on_all(few):
    """Without held-out images."""
    return fit(few, hold_out=0)


def test_held_out_images_are_scored_by_the_finished_detector(few, fitted) -> None:
    sources = find_photographs([few])[0]
    again = list(fitted.detector([sources[n] for n in fitted.parting.held_out]))
    assert len(fitted.parting.held_out) == 3 and fitted.scored.scores == [each.score for each in again]
    assert fitted.scored.peaks == [float(each.map.max()) for each in again]
    assert fitted.scored.level == float(np.median([np.median(each.map) for each in again]))
    assert fitted.detector.bank.training_patches == 9 * 16
    assert fitted.seen == pytest.approx(SIZE * SIZE / (37 * 48))  # 52 x 40 px to 48 x 37, then 32 x 32


def test_calibration_images_replace_held_out_ones(few, on_all, tmp_path) -> None:
    """Copies among them count once, however they are saved."""
    more = write_products(tmp_path / "more", 2, start=50)
    for n in range(2):
        Image.open(more / "050.png").save(more / f"copy{n}.bmp")
    found = fit(few, find_photographs([more])[0])
    assert found.parting.held_out == [12, 13, 14, 15] and len(found.scored.scores) == len(found.scored.peaks) == 2
    np.testing.assert_array_equal(found.detector.bank.patches, on_all.detector.bank.patches)
    assert on_all.scored.scores == on_all.scored.peaks == on_all.parting.held_out == [] and on_all.scored.level == 0
    Image.open(few / "003.png").save(more / "x.tif")
    with pytest.raises(ReconpatchError, match=r"calibration: 1 images are copies.*x\.tif of 003\.png"):
        fit(few, find_photographs([more])[0])


@pytest.mark.parametrize("options", [{"folds": 3}, {"hold_out": 0.5}])
def test_two_ways_to_a_threshold_are_refused_before_an_image_is_read(few, options, monkeypatch) -> None:
    sources = find_photographs([few])[0]
    monkeypatch.setattr(module, "examine", lambda *_: pytest.fail("images were read"))
    with pytest.raises(ReconpatchError, match="other images for the threshold are given"):
        fit(few, sources[:2], **options)


def test_more_neighbours_than_a_folds_bank_has_are_refused_before_the_network(few, no_network) -> None:
    """12 images of 16 patches: without a half of them, 96 patches."""
    run = small_run(neighbours=97, coreset=1.0, method="patchcore")
    with pytest.raises(ReconpatchError, match="neighbours 97: more than the 96 patches that are left without a fold"):
        fit(few, run=run, folds=2)


def test_the_epoch_asked_for_is_used(few) -> None:
    """f after it, of a training as long as `epochs` says."""
    first, last, alone = (
        fit(few, run=small_run(learning_rate=0.1, **epochs), hold_out=0)
        for epochs in ({"epochs": 4, "epoch": 1}, {"epochs": 4}, {"epochs": 1})
    )
    weights = [each.detector.bank.representation.weight for each in (first, last, alone)]
    assert not np.array_equal(weights[0], weights[1]) and len(first.epochs) == 4
    np.testing.assert_array_equal(weights[0], weights[2])  # the first epoch's rate does not depend on their number


def test_same_images_same_bytes_whatever_the_order_of_their_folders(tmp_path) -> None:
    write_products(tmp_path / "b", 6)
    write_products(tmp_path / "a", 6, start=6)
    cards = []
    for n, folders in enumerate([("a", "b"), ("b", "a"), ("a", "b")]):
        photographs = find_photographs([tmp_path / folder for folder in folders])[0]
        cards.append(detector(seed=int(n == 2)).fit(photographs).save(tmp_path / f"model{n}"))
    assert cards[0].identity == cards[1].identity != cards[2].identity
    for name in cards[0].files:
        assert (tmp_path / "model0" / name).read_bytes() == (tmp_path / "model1" / name).read_bytes()
    first, other = (load_file(tmp_path / f"model{n}/memory_bank.safetensors") for n in (0, 2))
    assert not np.array_equal(first["f.weight"], other["f.weight"])


def test_progress_and_an_empty_temporary_folder(few, tmp_path, monkeypatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    calls = []
    fit(few, progress=lambda *call: calls.append(call))
    steps = list(dict.fromkeys(step for step, _, _ in calls))
    assert steps == ["reading images", "patch features", "training", "coreset", "held-out images"]
    for step in steps:
        _, done, total = [call for call in calls if call[0] == step][-1]
        assert done == total
    with pytest.raises(ReconpatchError):
        fit(few, run=small_run(coreset=1e-6))
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.fixture
def no_network(monkeypatch) -> None:
    """It must not be loaded."""
    monkeypatch.setattr(module, "load_network", lambda *_, **__: pytest.fail("the network was loaded"))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"backbone": "resnet10x"}, {}, "no such model"),
        ({"levels": [2, 9]}, {}, "has no level 9"),
        ({"weights": "embedded"}, {}, "embedded weights exist"),
        ({"coreset": 1e-6}, {}, "keeps none of"),
        ({"neighbours": 500}, {}, "neighbours = 500"),
        ({"patch_size": 9}, {}, "patch_size 9"),
        ({"k": 30, "batch": 10**3, "coreset": 1.0}, {"hold_out": 0.9}, "k = 30"),
        ({}, {"hold_out": 1.0}, "hold_out"),
        ({}, {"hold_out": float("nan")}, "hold_out"),
        ({}, {"hold_out": 0.99}, "too few to hold"),
    ],
)
def test_what_cannot_work_is_refused_first(changes, options, message, few, no_network) -> None:
    with pytest.raises(ReconpatchError, match=message):
        fit(few, run=small_run(**changes), **options)


def test_no_images_little_memory_and_a_full_disk_are_refused_first(few, no_network, monkeypatch) -> None:
    with pytest.raises(ReconpatchError, match="no images"):
        fit([])
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(ReconpatchError, match="TMPDIR"):
            fit(few)
    monkeypatch.setattr(module, "machine_mb", lambda: 100.0)
    with pytest.raises(ReconpatchError, match=r"extract features needs about .* GB of memory, there are 0\.1 GB"):
        fit(few)


def test_no_padding_in_the_memory_bank(tmp_path) -> None:
    """With a coreset of everything, its rows are the patches that lie on the photographs, found one by one."""
    photographs = find_photographs([write_products(tmp_path, 6, size=(60, 20))])[0]
    found = fit(photographs, run=small_run("pad", coreset=1.0), aspect="pad", hold_out=0).detector
    on = view(60, 20, size=SIZE, resize=SIZE, aspect="pad").content((4, 4))
    assert 0 < on.sum() < on.size and found.bank.training_patches == 6 * on.sum() == len(found.bank.patches)
    squares = [pixels(each, found.run)[0] for each in photographs]
    features = features_of(squares, found.backbone, found.run.patch_size, 32, 32)
    patches = np.stack([features[n][row, column] for n in range(6) for row, column in np.argwhere(on)])
    rows = found.bank.representation(patches)[found.bank.order]
    np.testing.assert_allclose(found.bank.patches, rows, rtol=1e-2, atol=1e-4)


def test_a_batch_of_one_image_has_its_patches_on_the_photograph(tmp_path, monkeypatch) -> None:
    """Photographs of several sizes have several numbers of them, in the order of the files."""
    sizes = [(60, 20), (60, 60), (20, 60), (60, 12)]
    for n, size in enumerate(sizes):
        product(n, size=size).save(tmp_path / f"{n}.png")
    given: list[int] = []

    def noted(*arguments, images, **more):
        given.extend(images)
        return train(*arguments, images=images, **more)

    monkeypatch.setattr(module, "train", noted)
    fitted = fit(tmp_path, run=small_run("pad", batches="image", k=4), aspect="pad", hold_out=0)
    on = [int(view(*size, size=SIZE, resize=SIZE, aspect="pad").content((4, 4)).sum()) for size in sizes]
    assert given == on and len(set(on)) > 2 and len(fitted.epochs) == 2
    with pytest.raises(ReconpatchError, match=f"k = {min(on) + 1} neighbours cannot be found in batches of one image"):
        fit(tmp_path, run=small_run("pad", batches="image", k=min(on) + 1), aspect="pad", hold_out=0)


def test_only_patches_on_photographs_count_for_the_limits(tmp_path, no_network) -> None:
    """Of a strip, one patch in four lies on it: half of these are too few for so many neighbours."""
    folder = write_products(tmp_path, 6, size=(60, 12))
    on = int(view(60, 12, size=SIZE, resize=SIZE, aspect="pad").content((4, 4)).sum())
    assert 3 * on + 1 < 6 * 16 * 0.5
    with pytest.raises(ReconpatchError, match="neighbours"):
        fit(folder, run=small_run("pad", coreset=0.5, neighbours=3 * on + 1), aspect="pad", hold_out=0)


def test_before_a_long_training_patchcore_is_tried(few, monkeypatch, caplog) -> None:
    """It says how long both take, and names the photograph that is unlike all others; the result is the same."""
    caplog.set_level("INFO", "reconpatch.choices")
    product(3, defect=True).save(few / "zz.png")
    try:
        usual = fit(few, folds=3)
        assert "PatchCore" not in caplog.text
        monkeypatch.setattr(module, "LONG_TRAINING", 0)
        tried = fit(few, folds=3)
        fit(few, hold_out=0.2)  # whose trial would name no photograph
    finally:
        (few / "zz.png").unlink()
    messages = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("PatchCore fitted in ") for text in messages) == 1
    assert sum("see whether they are good: zz.png" in text for text in messages) == 1
    np.testing.assert_array_equal(tried.detector.bank.patches, usual.detector.bank.patches)
    assert tried.scored.scores == usual.scored.scores


def test_the_default_bank_holds_all_patches_of_few_small_photographs(few) -> None:
    found = fit(few, run=small_run(coreset=0.01), coreset=None, folds=2)
    assert len(found.detector.bank.patches) == found.detector.bank.training_patches == 12 * 16
    assert found.detector.run.coreset == 1


def test_copies_and_thumbnails_among_good_photographs_are_remarked_on(tmp_path) -> None:
    write_products(tmp_path, 8, size=(52, 40))
    Image.open(tmp_path / "003.png").save(tmp_path / "again.bmp")
    Image.open(tmp_path / "004.png").resize((13, 10)).save(tmp_path / "small.png")
    with pytest.warns(Remark) as told:
        fit(tmp_path, run=small_run(method="patchcore"))
    texts = [str(each.message) for each in told]
    assert any("repeat others" in text and "again.bmp = 003.png" in text for text in texts)
    assert any("smaller than most" in text and "small.png" in text and "1 (" in text for text in texts)
