import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from process_state import state
from products import SETTINGS, SIZE, detector, product, write_products
from running import ROOT
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import reconpatch
from reconpatch.detector.estimator import ReConPatch, sources_of
from reconpatch.detector.photographs import Photograph
from reconpatch.detector.threshold import choose
from reconpatch.device import restored
from reconpatch.errors import ReconpatchError

PARAMETERS = dict(inspect.signature(ReConPatch).parameters)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_products(tmp_path_factory.mktemp("good"), 24)


@pytest.fixture(scope="module")
def model(good) -> ReConPatch:
    return detector(false_alarm_rate=0.2).fit(good)


@pytest.fixture
def new() -> list[Image.Image]:
    """Two good ones and two with a defect."""
    return [product(n, defect=n > 101) for n in range(100, 104)]


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Jobs of the workflow pay for no estimator; the command line answers --help at once."""
    code = (
        "import sys, reconpatch, reconpatch.cli.main\n"
        "heavy = {'torch', 'timm', 'sklearn', 'faiss', 'scipy', 'matplotlib'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert 'ReConPatch' in reconpatch.__all__\n"
        "try:\n    reconpatch.Another\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module 'reconpatch' has no attribute 'Another'\n"
    assert reconpatch.ReConPatch is ReConPatch


def test_parameters_are_kept_as_given() -> None:
    """scikit-learn's rules: the constructor changes nothing, and clones are made of what was given."""
    assert ReConPatch().get_params() == {name: p.default for name, p in PARAMETERS.items()}
    odd = {name: object() for name in PARAMETERS}
    assert ReConPatch(**odd).get_params(deep=False) == odd
    model = detector(epochs=7)
    assert model.set_params(epochs=9) is model and model.epochs == 9
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(epoch_count=3)


def test_clone_and_repr(model, good) -> None:
    twin = clone(model)
    assert twin.get_params() == model.get_params() and not hasattr(twin, "detector_")
    assert "backbone='resnet10t'" in repr(model) and "seed" not in repr(model)
    np.testing.assert_array_equal(twin.fit(good).anomaly_scores([product(7)]), model.anomaly_scores([product(7)]))
    assert is_outlier_detector(model)


def test_before_fit(tmp_path) -> None:
    fresh = detector()
    with pytest.raises(NotFittedError):
        check_is_fitted(fresh)
    for call in ("predict", "decision_function", "score_samples", "anomaly_scores", "anomaly_maps", "detect"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(fresh, call)([])
    with pytest.raises(NotFittedError):
        fresh.save(tmp_path / "model")


def test_signs_and_shapes(model, good, new) -> None:
    check_is_fitted(model)
    scores, maps = model.anomaly_scores(new), model.anomaly_maps(new)
    assert scores.shape == (4,) and scores.dtype == np.float64
    assert maps.shape == (4, SIZE, SIZE) and maps.dtype == np.float32
    assert scores[:2].max() < scores[2:].min()  # the defects
    np.testing.assert_array_equal(model.score_samples(new), -scores)
    np.testing.assert_array_equal(model.decision_function(new), model.score_samples(new) - model.offset_)
    np.testing.assert_array_equal(model.predict(new), np.where(scores > model.threshold_.value, -1, 1))
    assert model.predict(new)[2:].tolist() == [-1, -1] and model.offset_ == -model.threshold_.value
    at = model.fitted_.scores.index(model.threshold_.value)  # exactly on the threshold is normal
    assert model.predict(held_out_path(model, good, at)).tolist() == [1]


def held_out_path(model: ReConPatch, good, place: int) -> list[str]:
    """The path of a held-out image."""
    return [str(good / model.fitted_.facts[model.fitted_.held_out[place]].name)]


def test_the_threshold_is_that_of_the_held_out_scores(model) -> None:
    assert len(model.fitted_.scores) == 5
    assert model.threshold_ == choose(model.fitted_.scores, 0.2)
    assert model.map_threshold_ == choose(model.fitted_.peaks, 0.2).value
    assert model.threshold_.value == sorted(model.fitted_.scores)[-1]  # of five, all but one in six


def test_without_held_out_images_there_is_no_threshold(good, new) -> None:
    model = detector(hold_out=0).fit(good)
    assert model.threshold_ is None and model.map_threshold_ is None and model.offset_ == 0
    assert model.anomaly_scores(new).shape == (4,)
    for call in (model.predict, model.decision_function):
        with pytest.raises(ReconpatchError, match="no threshold"):
            call(new)
    with pytest.raises(ReconpatchError, match="no threshold"):
        detector(hold_out=0).fit_predict(good)


def test_fit_predict_and_an_ignored_y(good) -> None:
    got = detector().fit_predict(good)
    assert got.shape == (24,) and set(got) <= {1, -1} and (got == 1).sum() >= 22
    assert isinstance(detector().fit(good, np.zeros(24)), ReConPatch)


def test_every_kind_of_source_gives_the_same_scores(model, tmp_path) -> None:
    folder = write_products(tmp_path, 3, start=400)
    paths = sorted(folder.iterdir())
    images = [product(n) for n in range(400, 403)]
    opened = [Image.open(path) for path in paths]
    kinds = [
        folder,
        str(folder),
        paths,
        [str(path) for path in paths],
        images,
        opened,
        [np.asarray(image) for image in images],
        np.stack([np.asarray(image) for image in images]),
        (str(paths[0]), images[1], np.asarray(images[2])),
        (image for image in images),
    ]
    want = model.anomaly_scores(images)
    for kind in kinds:
        np.testing.assert_array_equal(model.anomaly_scores(kind), want)
    for image in opened:
        image.close()


def test_sources_have_names() -> None:
    assert sources_of(["a/b.png"]) == [Photograph("a/b.png", sources_of(["a/b.png"])[0].path)]
    assert sources_of([]) == []


def test_no_images_no_scores(model) -> None:
    assert model.anomaly_scores([]).shape == (0,) and model.anomaly_maps([]).shape == (0, SIZE, SIZE)
    assert model.predict([]).shape == (0,) and model.detect([]) == []


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"images of \(4, 4, 3\): give \(N, H, W, 3\)"),
        (np.zeros((2, 8, 8, 3)), r"image 0: .*float64"),
        (np.zeros((2, 8, 8, 4), np.uint8), "3 colours"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32)], "image 1: .*float32"),
        ([None], "NoneType"),
        ([3], "an image is int"),
        (Image.new("RGB", (8, 8)), "images are Image"),
        (None, "images are NoneType"),
        (3, "images are int"),
        ("no/such/folder", "no such file or folder"),
        (["no/such/file.png"], "no such file"),
        ([str(ROOT)], "a folder, not an image file"),
    ],
)
def test_what_is_no_source_is_said_by_all(images, said, model) -> None:
    for call in (model.predict, detector().fit):
        with pytest.raises(ReconpatchError, match=said):
            call(images)


def test_saved_and_loaded(model, new, tmp_path) -> None:
    card = model.save(tmp_path / "model")
    again = ReConPatch.load(tmp_path / "model", device="cpu", threads=1)
    check_is_fitted(again)
    np.testing.assert_array_equal(again.anomaly_scores(new), model.anomaly_scores(new))
    np.testing.assert_array_equal(again.predict(new), model.predict(new))
    np.testing.assert_array_equal(again.decision_function(new), model.decision_function(new))
    assert again.threshold_ == model.threshold_ and again.map_threshold_ == model.map_threshold_
    assert again.card_ == card and again.offset_ == model.offset_
    stricter = ReConPatch.load(tmp_path / "model", device="cpu", threads=1, false_alarm_rate=0.5)
    assert stricter.threshold_ == choose(card.scores, 0.5) and stricter.threshold_.value <= model.threshold_.value
    with pytest.raises(ReconpatchError, match="false-alarm rate 2"):
        ReConPatch.load(tmp_path / "model", false_alarm_rate=2)
    with pytest.raises(ReconpatchError, match="is there already"):
        model.save(tmp_path / "model")
    with pytest.raises(ReconpatchError, match="copy that folder"):
        again.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_clone_of_a_loaded_model_fits_to_the_same_bank(model, good, tmp_path) -> None:
    model.save(tmp_path / "model")
    again = clone(ReConPatch.load(tmp_path / "model", device="cpu", threads=1)).fit(good)
    np.testing.assert_array_equal(again.detector_.bank.patches, model.detector_.bank.patches)
    assert again.detector_.run == model.detector_.run


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_other_aspects_see_all(aspect, good, tmp_path) -> None:
    model = detector(aspect=aspect).fit(good)
    assert model.fitted_.seen == 1 and model.detector_.run.resize == SIZE
    card = model.save(tmp_path / "model")
    assert card.aspect == aspect and ReConPatch.load(tmp_path / "model", device="cpu").detector_.aspect == aspect


def test_patchcore_and_settings_of_a_run(good, new) -> None:
    model = detector(method="patchcore", settings=SETTINGS | {"neighbours": 3, "blur": 1.0}).fit(good)
    assert model.fitted_.epochs == [] and model.detector_.run.neighbours == 3
    assert model.predict(new)[2:].tolist() == [-1, -1]


def test_weights_from_a_file(model, good, tmp_path) -> None:
    """Those of the saved model: the same network, by another way."""
    model.save(tmp_path / "model")
    again = detector(weight_file=tmp_path / "model/backbone.safetensors", weights="pretrained").fit(good)
    assert again.detector_.backbone.weights["source"] == "file backbone.safetensors"
    np.testing.assert_array_equal(again.detector_.bank.patches, model.detector_.bank.patches)
    with pytest.raises(ReconpatchError, match=r"nothing\.pth: no such file"):
        detector(weight_file="nothing.pth").fit(good)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"false_alarm_rate": 0}, "false-alarm rate 0"),
        ({"hold_out": 1}, "hold_out 1"),
        ({"method": "padim"}, "method"),
        ({"size": 0}, "crop"),
        ({"aspect": "square"}, "aspect 'square'"),
        ({"settings": {"crop": 8}}, "settings: crop: has an option of its own; give size=.*--size"),
        ({"settings": {"epochs": 1}}, "settings: epochs: has an option of its own; give epochs=.*--epochs"),
        ({"weights": "file"}, r"give weight_file=FILE \(--weight-file FILE\)"),
        ({"settings": {"unknown": 8}}, "settings.*unknown"),
        ({"settings": SETTINGS | {"augment": "both"}}, "augment: only for"),
        ({"backbone": "resnet10"}, "no such model.*resnet10t"),
        ({"coreset": 0}, "coreset"),
        ({"threads": -1}, "threads -1"),
        ({"batch_images": 0}, "batch_images 0"),
        ({"device": "gpu"}, "device 'gpu'"),
    ],
)
def test_settings_that_cannot_work(changes, said, good) -> None:
    with pytest.raises(ReconpatchError, match=said):
        detector(**changes).fit(good)


def test_the_process_is_left_as_it_was(good, new, tmp_path) -> None:
    """After every call, and after one that fails."""
    with restored():
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(2)
        before = state()
        model = detector(false_alarm_rate=0.2).fit(good)
        assert state() == before
        want = model.anomaly_scores(new)
        model.save(tmp_path / "model")
        again = ReConPatch.load(tmp_path / "model", device="cpu", threads=1)
        assert state() == before
        for call in (again.predict, again.anomaly_maps, again.detect):
            call(new)
            assert state() == before
        with pytest.raises(ReconpatchError):
            again.predict([None])
        assert state() == before
        np.testing.assert_array_equal(again.anomaly_scores(new), want)


def test_the_rate_that_is_saved_is_the_thresholds(good, tmp_path) -> None:
    """A parameter that is changed after the fit changes nothing of what was fitted."""
    model = detector(false_alarm_rate=0.3).fit(good)
    model.set_params(false_alarm_rate=7)
    assert model.rate_ == 0.3 == model.save(tmp_path / "model").false_alarm_rate
    again = ReConPatch.load(tmp_path / "model", device="cpu", threads=1)
    assert again.threshold_ == model.threshold_ and again.rate_ == again.false_alarm_rate == 0.3


def test_a_loaded_model_that_is_fitted_again_is_a_new_one(good, tmp_path) -> None:
    """It holds out as many, says nothing of the old card, and can be saved; copies of an image do not shift this."""
    photographs = write_products(tmp_path / "more", 13)
    (photographs / "copy.png").write_bytes((photographs / "000.png").read_bytes())
    first = detector(hold_out=0.4).fit(photographs)
    card = first.save(tmp_path / "model")
    again = ReConPatch.load(tmp_path / "model", device="cpu", threads=1).fit(photographs)
    assert not hasattr(again, "card_") and again.fitted_.held_out == first.fitted_.held_out
    assert again.save(tmp_path / "again").identity == card.identity
    detector(hold_out=0).fit(good).save(tmp_path / "none")
    assert ReConPatch.load(tmp_path / "none", device="cpu").hold_out == 0


def test_a_loaded_model_with_weights_of_a_file_asks_for_the_file(model, good, tmp_path) -> None:
    model.save(tmp_path / "model")
    file = tmp_path / "model/backbone.safetensors"
    detector(weight_file=file).fit(good).save(tmp_path / "other")
    again = ReConPatch.load(tmp_path / "other", device="cpu", threads=1)
    with pytest.raises(ReconpatchError, match=r"weight_file=FILE \(--weight-file FILE\)"):
        again.fit(good)
    again.set_params(weight_file=file).fit(good)
    np.testing.assert_array_equal(again.detector_.bank.patches, model.detector_.bank.patches)
