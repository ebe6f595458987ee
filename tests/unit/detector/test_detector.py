from dataclasses import replace

import numpy as np
import pytest
from products import SIZE, fit, product, write_products
from running import ROOT

from reconpatch.data.images import image_array, view
from reconpatch.data.remarks import ImageFacts
from reconpatch.data.sample import write_sample
from reconpatch.detector.detector import Detection, Detector, pixels
from reconpatch.detector.photographs import find_photographs
from reconpatch.detector.settings import FitOptions, detector_run
from reconpatch.device import repeatable
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import read_yaml
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import features_of, write_features
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.method.training import train
from reconpatch.method.training_settings import TrainingSettings


def in_a_row(run, train_paths, test_paths, folder, batch):
    """The workflow's modules as its steps call them: bank, image scores and maps."""
    repeatable("cpu", 1)
    backbone = load_backbone(run.backbone, run.levels, run.weights, seed=run.seed)
    files = []
    for name, paths in (("train", train_paths), ("test", test_paths)):
        files.append(folder / f"{name}.npy")
        write_features(
            paths,
            lambda path: image_array(path, run.resize, run.crop, run.interpolation),
            backbone,
            files[-1],
            patch_size=run.patch_size,
            level_dim=run.level_dim,
            dim=run.feature_dim,
            batch=batch,
            threads=1,
        )
    training, test = (np.load(file) for file in files)
    flat = training.reshape(-1, training.shape[-1])
    f = Representation(run.dim)
    if run.method == "untrained":
        f = Representation.untrained(flat, run.dim, run.seed, run.init, run.bias)
    if run.method == "reconpatch":
        images = [training[0, ..., 0].size] * len(training)
        tensors, _ = train(flat, TrainingSettings.of(run.model_dump()), images=images, checkpoints=[1])
        last = run.epoch or run.epochs
        f = Representation(run.dim, tensors[f"{last}.weight"].numpy(), tensors[f"{last}.bias"].numpy())
    bank = build_bank(flat, f, ratio=run.coreset, coreset_dim=run.coreset_dim, seed=run.seed)
    squared, reweight_map = run.distance == "squared", run.reweight == "map"
    image, patch, _ = score_features(test, bank, neighbours=run.neighbours, reweight_map=reweight_map, squared=squared)
    return bank, image, anomaly_maps(patch, run.crop, run.blur)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, "brick", 0)
    return folder


@pytest.mark.filterwarnings("ignore:.*surroundings unaveraged")
@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 2, "epoch": 1},
        {"epochs": 1, "batches": "image", "init": "pca", "sigma_unit": "median"},
        {"method": "untrained", "init": "orthogonal", "bias": False, "distance": "squared"},
        {"method": "patchcore", "neighbours": 2, "reweight": "image", "dim": 100},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_is_the_workflow_on_a_folder(changes, sample, tmp_path) -> None:
    """The smoke experiment's settings at 64 px: the same bank, image scores and maps as its stages in a row."""
    smoke = read_yaml(ROOT / "configs/smoke.yaml")["set"]
    given = {key: smoke[key] for key in ("backbone", "weights", "learning_rate")}
    given |= {"feature_dim": 128, "level_dim": 128, "dim": 64, "coreset": 0.05} | changes
    run = detector_run(given, FitOptions(size=64, resize=72))
    width = {"feature_dim": 100} if run.dim == 100 else {}  # PatchCore pools directly to what does not divide
    good = find_photographs([sample / "train/good"])[0][:14]
    test = find_photographs([sample / "test/stain", sample / "test/blur"])[0][:5]
    paths = [[each.path for each in photographs] for photographs in (good, test)]
    bank, image, maps = in_a_row(run.model_copy(update=width), *paths, tmp_path, 4)
    detector = fit(good, run=run, hold_out=0, batch_images=4).detector
    np.testing.assert_array_equal(detector.bank.order, bank.order)
    np.testing.assert_array_equal(detector.bank.patches, bank.patches)
    detections = list(detector(test))
    assert [each.number for each in detections] == list(range(len(test)))
    np.testing.assert_allclose([each.score for each in detections], image, rtol=1e-6)
    np.testing.assert_allclose(np.stack([each.map for each in detections]), maps, rtol=1e-5, atol=1e-6)


@pytest.fixture
def small(padded) -> Detector:
    """Without noted seconds of other tests."""
    return replace(padded.detector, seconds=type(padded.detector.seconds)())


def test_padding_is_no_anomaly(small) -> None:
    """Scores of patches on the padding are 0; the image score is the largest of the others, computed one by one."""
    image = product(5, size=(64, 20))
    square, seen, _ = pixels(image, small.run)
    assert seen == view(64, 20, size=SIZE, resize=SIZE, aspect="pad")
    features = features_of([square], small.backbone, 3, 32, 32)[0]
    on = seen.content(features.shape[:2])
    assert 0 < on.sum() < on.size
    nearest = np.full(on.shape, 0.0)
    for place in zip(*np.nonzero(on), strict=True):
        r = small.bank.representation(features[place][None])[0]
        nearest[place] = np.sqrt(((small.bank.patches - r) ** 2).sum(1)).min()
    detection = next(iter(small([image])))
    assert detection.score == pytest.approx(nearest.max(), rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(detection.map, normalised(nearest, on, seen.content((SIZE, SIZE))), rtol=1e-2, atol=1e-5)


def normalised(scores, on, content) -> np.ndarray:
    """Mean of the patches' scores, each weighted with the value that a map of a single 1 in its place has."""
    weighted, weights = np.zeros(content.shape), np.zeros(content.shape)
    for place in zip(*np.nonzero(on), strict=True):
        one = np.zeros((1, *on.shape), np.float32)
        one[0][place] = 1
        each = anomaly_maps(one, content.shape, 4.0)[0]
        weighted, weights = weighted + each * scores[place], weights + each
    return np.where(content, weighted / np.where(content, weights, 1), 0)


@pytest.mark.parametrize("size", [(64, 20), (200, 4), (3, 3), (50, 49)])
@pytest.mark.parametrize("blur", [0.0, 4.0])
def test_maps_do_not_fade_towards_padding(small, size, blur, monkeypatch) -> None:
    """If all of a photograph has the same score, its map is the same everywhere."""

    def same(patches, *_):
        return np.full(len(patches), 7, np.float32), np.ones(len(patches), np.float32)

    monkeypatch.setattr("reconpatch.method.scoring.patch_scores", same)
    changed = replace(small, run=small.run.model_copy(update={"blur": blur}))
    for detection in changed([product(5, size=size), product(1, size=(40, 40))]):
        content = detection.view.content((SIZE, SIZE))
        np.testing.assert_allclose(detection.map[content], 7, rtol=1e-5)
        assert (detection.map[~content] == 0).all()
        np.testing.assert_allclose(detection.view.back(detection.map), 7, rtol=1e-5)


@pytest.mark.parametrize("size", [(52, 40), (40, 52), (300, 200), (1, 1), (37, 37)])
@pytest.mark.parametrize("aspect", ["crop", "stretch", "pad"])
def test_the_peak_is_where_the_map_is_largest(size, aspect) -> None:
    """Brought back to the photograph, the map is there as large as nearly anywhere."""
    seen = view(*size, size=24, resize=28, aspect=aspect)
    for place in [(12, 12), (10, 14), (14, 9)]:
        rows, columns = np.mgrid[:24, :24]
        bump = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 8).astype(np.float32)
        x, y = Detection(0, 1.0, bump, seen, ImageFacts("", "", "", 1, 1)).peak()
        assert 0 <= x < size[0] and 0 <= y < size[1]
        back = seen.back(bump)
        step = max(1, *(full / length for full, length in zip(size, seen.scaled, strict=True)))
        row, column = np.unravel_index(np.nanargmax(back), back.shape)
        assert abs(x - column) <= step + 1 and abs(y - row) <= step + 1


def test_what_cannot_be_read_is_told_or_raised(small, tmp_path) -> None:
    write_products(tmp_path, 5)
    (tmp_path / "001.png").write_bytes(b"")
    (tmp_path / "004.png").write_bytes(b"text")
    photographs = find_photographs([tmp_path])[0]
    told = []
    detections = list(small(photographs, lambda number, error: told.append((number, str(error)))))
    assert [each.number for each in detections] == [0, 2, 3] and [number for number, _ in told] == [1, 4]
    assert "001.png" in told[0][1] and "004.png" in told[1][1]
    with pytest.raises(ReconpatchError, match=r"001\.png"):
        list(small(photographs))
