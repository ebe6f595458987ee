from dataclasses import replace

import numpy as np
import pytest
from products import SETTINGS, SIZE, product, write_products
from running import ROOT

from reconpatch.data.images import image_array, view
from reconpatch.data.sample import write_sample
from reconpatch.detector.detector import Detection, Detector, pixels
from reconpatch.detector.fit import fit_detector
from reconpatch.detector.photographs import find
from reconpatch.detector.settings import product_run
from reconpatch.device import repeatable
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import read_yaml
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import features_of, write_features
from reconpatch.method.memory_bank import MemoryBank, Representation, build_bank
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.method.training import TrainingSettings, train


def in_a_row(run, train_paths, test_paths, folder, batch):
    """The workflow's modules as its scripts call them: bank, image scores and maps."""
    repeatable("cpu", 1)
    backbone = load_backbone(run.backbone, run.levels, run.weights, seed=run.seed)
    settings = {key: getattr(run, key) for key in ("patch_size", "level_dim")}
    files = []
    for name, paths in (("train", train_paths), ("test", test_paths)):
        files.append(folder / f"{name}.npy")
        write_features(
            paths,
            lambda path: image_array(path, run.resize, run.crop, run.interpolation),
            backbone,
            files[-1],
            **settings,
            dim=run.feature_dim,
            batch=batch,
            threads=1,
        )
    training, test = (np.load(file) for file in files)
    flat = training.reshape(-1, training.shape[-1])
    f = Representation(run.dim)
    if run.method == "reconpatch":
        tensors, _ = train(flat, TrainingSettings.of(run.model_dump()), checkpoints=[1])
        last = run.epoch or run.epochs
        f = Representation(run.dim, tensors[f"{last}.weight"].numpy(), tensors[f"{last}.bias"].numpy())
    bank = build_bank(flat, f, ratio=run.coreset, coreset_dim=run.coreset_dim, seed=run.seed)
    image, patch, _ = score_features(test, bank, neighbours=run.neighbours, reweight_map=run.reweight == "map")
    return bank, image, anomaly_maps(patch, run.crop, run.blur)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, "brick", 0)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 2},
        {"epochs": 2, "epoch": 1},
        {"method": "patchcore", "neighbours": 3},
        {"method": "patchcore", "neighbours": 2, "reweight": "image", "dim": 100},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_is_the_workflow_on_a_folder(changes, sample, tmp_path) -> None:
    """The smoke experiment's settings at 64 px: the same bank, image scores and maps as its stages in a row."""
    smoke = read_yaml(ROOT / "configs/smoke.yaml")["set"]
    given = {key: smoke[key] for key in ("backbone", "weights", "level_dim", "learning_rate")}
    given |= {"feature_dim": 128, "level_dim": 128, "dim": 64, "coreset": 0.05} | changes
    run = product_run(64, 72, "crop", None, given, "test")
    width = {"feature_dim": 100} if run.dim == 100 else {}  # PatchCore pools directly to what does not divide
    good = [p.path for p in find([sample / "train/good"])[0]][:14]
    test = find([sample / "test/stain", sample / "test/blur"])[0][:5]
    bank, image, maps = in_a_row(run.model_copy(update=width), good, [p.path for p in test], tmp_path, 4)
    found = fit_detector(find(good)[0], run, aspect="crop", hold_out=0, device="cpu", threads=1, batch=4)
    detector = found.detector
    np.testing.assert_array_equal(detector.bank.order, bank.order)
    np.testing.assert_array_equal(detector.bank.patches, bank.patches)
    got = list(detector(test))
    assert [each.number for each in got] == list(range(len(test)))
    np.testing.assert_allclose([each.score for each in got], image, rtol=1e-6)
    np.testing.assert_allclose(np.stack([each.map for each in got]), maps, rtol=1e-5, atol=1e-6)
    for batch in (1, 3, 8):  # however many at a time
        again = list(replace(detector, batch=batch)(test))
        np.testing.assert_allclose([each.score for each in again], image, rtol=2e-3)
        np.testing.assert_allclose(np.stack([e.map for e in again]), maps, rtol=2e-3, atol=2e-3 * maps.max())


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Detector:

    folder = write_products(tmp_path_factory.mktemp("good"), 8)
    small = {"backbone": "resnet10t", "weights": "random", "dim": 16, "coreset": 0.1, "epochs": 1}
    run = product_run(SIZE, None, "pad", None, SETTINGS | small, "test")
    return fit_detector(find([folder])[0], run, aspect="pad", hold_out=0, device="cpu", threads=1, batch=4).detector


def test_pixels_are_the_view_of_the_photograph(small) -> None:
    image = product(0)
    square, seen = pixels(image, small.run, "pad")
    assert seen == view(52, 40, size=SIZE, resize=SIZE, aspect="pad")
    np.testing.assert_array_equal(square, seen.square(image, "bilinear"))


def test_padding_is_no_anomaly(small) -> None:
    """Scores of cells on the padding are 0; the score is the largest of the others, one patch at a time."""
    image = product(5, size=(64, 20))
    square, seen = pixels(image, small.run, "pad")

    features = features_of([square], small.backbone, 3, 32, 32)[0]
    on = seen.content(len(features))
    assert 0 < on.sum() < on.size
    nearest = np.full(on.shape, 0.0)
    for place in np.ndindex(on.shape):
        r = small.bank.representation(features[place][None])[0]
        if on[place]:
            nearest[place] = np.sqrt(((small.bank.patches - r) ** 2).sum(1)).min()
    got = next(iter(small([image])))
    assert got.score == pytest.approx(nearest.max(), rel=1e-3, abs=1e-5)
    want = normalised(nearest, on, seen.content(SIZE), 4.0)
    np.testing.assert_allclose(got.map, want, rtol=1e-2, atol=1e-5)


def normalised(scores, on, content, blur) -> np.ndarray:
    """Mean of the cells' scores, each weighted by how much its own map, of a single 1, weighs at a pixel."""
    weighted, weights = np.zeros(content.shape), np.zeros(content.shape)
    for place in zip(*np.nonzero(on), strict=True):
        one = np.zeros((1, *on.shape), np.float32)
        one[0][place] = 1
        each = anomaly_maps(one, len(content), blur)[0]
        weighted, weights = weighted + each * scores[place], weights + each
    return np.where(content, weighted / np.where(content, weights, 1), 0)


@pytest.mark.parametrize("size", [(64, 20), (20, 64), (200, 4), (3, 3), (50, 49)])
@pytest.mark.parametrize("blur", [0.0, 4.0])
def test_maps_do_not_fade_towards_padding(small, size, blur, monkeypatch) -> None:
    """Where all of a photograph scores the same, its map is the same everywhere."""

    def same(patches, *_):
        return np.full(len(patches), 7, np.float32), np.ones(len(patches), np.float32)

    monkeypatch.setattr("reconpatch.method.scoring.patch_scores", same)
    changed = replace(small, run=small.run.model_copy(update={"blur": blur}))
    for got in changed([product(5, size=size), product(1, size=(40, 40))]):
        content = got.view.content(SIZE)
        np.testing.assert_allclose(got.map[content], 7, rtol=1e-5)
        assert (got.map[~content] == 0).all()
        np.testing.assert_allclose(got.view.back(got.map), 7, rtol=1e-5)


def test_without_padding_nothing_is_divided(small) -> None:
    """Bit for bit, also beside one that is padded; of a square photograph all rules are stretch."""
    square, wide = product(3, size=(40, 40)), product(5, size=(64, 20))
    together = list(small([square, wide]))
    stretched = list(replace(small, aspect="stretch")([square, wide.resize((40, 40))]))
    squares, run = [pixels(image, small.run, "pad")[0] for image in (square, wide)], small.run
    features = features_of(squares, small.backbone, run.patch_size, run.level_dim, small.width)
    _, patch, _ = score_features(features, small.bank, neighbours=run.neighbours, reweight_map=True)
    np.testing.assert_array_equal(together[0].map, anomaly_maps(patch, SIZE, run.blur)[0])
    np.testing.assert_allclose(together[0].map, stretched[0].map, rtol=1e-3, atol=1e-5)


def test_a_thin_strip_is_looked_at(small) -> None:
    """The network's cells are wider than it: it must not pass for perfect."""
    assert all(each.score > 0 for each in small([product(5, size=(200, 4)), product(6, size=(4, 200))]))


@pytest.mark.parametrize("size", [(52, 40), (40, 52), (300, 200), (1, 1), (37, 37)])
@pytest.mark.parametrize("aspect", ["crop", "stretch", "pad"])
def test_the_peak_is_where_the_map_is_largest(size, aspect) -> None:
    """Brought back to the photograph, the map is there as large as nearly anywhere."""
    seen = view(*size, size=24, resize=28, aspect=aspect)
    for place in [(12, 12), (10, 14), (14, 9)]:
        rows, columns = np.mgrid[:24, :24]
        bump = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 8).astype(np.float32)
        x, y = Detection(0, 1.0, bump, seen).peak()
        assert 0 <= x < size[0] and 0 <= y < size[1]
        back = seen.back(bump)
        step = max(1, *(full / length for full, length in zip(size, seen.scaled, strict=True)))
        row, column = np.unravel_index(np.nanargmax(back), back.shape)
        if aspect != "pad" or size[0] == size[1] or min(size) > 1:
            assert abs(x - column) <= step + 1 and abs(y - row) <= step + 1


def test_what_cannot_be_read_is_told_or_raised(small, tmp_path) -> None:
    write_products(tmp_path, 5)
    (tmp_path / "001.png").write_bytes(b"")
    (tmp_path / "004.png").write_bytes(b"text")
    photographs = find([tmp_path])[0]
    told = []
    got = list(small(photographs, lambda number, error: told.append((number, str(error)))))
    assert [each.number for each in got] == [0, 2, 3] and [number for number, _ in told] == [1, 4]
    assert "001.png" in told[0][1] and "004.png" in told[1][1]
    with pytest.raises(ReconpatchError, match=r"001\.png"):
        list(small(photographs))
    alone = [next(iter(small([photographs[n]]))).score for n in (0, 2, 3)]
    np.testing.assert_allclose([each.score for each in got], alone, rtol=1e-2)


def test_the_time_of_every_part_is_counted(small) -> None:
    timed = replace(small, seconds=type(small.seconds)())
    list(timed([product(1), product(2)]))
    parts = {"waiting for images", "network and patch features", "search in the memory bank", "anomaly maps"}
    assert timed.seconds.keys() == parts and min(timed.seconds.values()) >= 0


def test_the_bank_must_be_of_the_network(small) -> None:
    assert small.width == 32 and isinstance(small.bank, MemoryBank)
    assert small.bank.representation.weight.shape == (16, small.width)
