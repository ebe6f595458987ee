import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from process_state import restored, state
from products import SETTINGS, SIZE, detector, product, write_products
from running import ROOT
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from reconpatch.data.remarks import FEW_BITS
from reconpatch.detector.estimator import ReConPatch, sources_of
from reconpatch.detector.threshold import choose_threshold
from reconpatch.errors import ReconpatchError, Remark

PARAMETERS = dict(inspect.signature(ReConPatch).parameters)


@pytest.fixture(scope="session")
def new() -> list[Image.Image]:
    """Two good ones and two with a defect."""
    return [product(n, defect=n > 101) for n in range(100, 104)]


def loaded(folder, **options) -> ReConPatch:
    return ReConPatch.load(folder, device="cpu", threads=1, **options)


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Jobs of the workflow need no estimator; the command line answers --help at once."""
    code = (
        "import sys, reconpatch, reconpatch.cli.main\n"
        "print({'torch', 'timm', 'sklearn', 'faiss', 'scipy', 'matplotlib'} & sys.modules.keys(), reconpatch.__all__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.startswith("set()") and "ReConPatch" in done.stdout


def test_parameters_follow_scikit_learn() -> None:
    """The constructor changes nothing of what it is given."""
    assert ReConPatch().get_params() == {name: p.default for name, p in PARAMETERS.items()}
    odd = {name: object() for name in PARAMETERS}
    assert ReConPatch(**odd).get_params(deep=False) == odd
    model = detector(epochs=7)
    assert model.set_params(epochs=9) is model and model.epochs == 9
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(epoch_count=3)


def test_a_clone_fits_to_the_same_model(model, good, saved, tmp_path) -> None:
    """A clone of a loaded one, which keeps no card of it."""
    source = loaded(saved)
    assert is_outlier_detector(model) and "backbone='resnet10t'" in repr(model)
    twin = clone(source)
    assert twin.get_params() == source.get_params() and not hasattr(twin, "detector_")
    np.testing.assert_array_equal(twin.fit(good).detector_.bank.patches, model.detector_.bank.patches)
    assert twin.detector_.run == model.detector_.run and twin.threshold_ == model.threshold_
    assert twin.save(tmp_path / "again").identity == source.card_.identity
    assert not hasattr(source.fit(good), "card_") and source.threshold_ == model.threshold_


def test_what_may_be_no_good_product_is_asked_about_before_any_work(model, tmp_path) -> None:
    """As by the command. Files in a list are taken as given, with a warning."""
    write_products(tmp_path / "good", 4)
    write_products(tmp_path / "NG", 1, start=9, defect=True)
    with pytest.raises(ReconpatchError, match="NG"):
        detector().fit(tmp_path)
    with pytest.raises(ReconpatchError, match="NG"):
        detector(hold_out=None).fit(tmp_path / "good", calibration=tmp_path)
    product(0).save(tmp_path / "good/000_mask.png")
    listed = sorted((tmp_path / "good").iterdir())
    with pytest.raises(ReconpatchError, match=r"000_mask\.png"):
        detector().fit(tmp_path / "good")
    with pytest.warns(Remark, match=r"000_mask\.png"):
        assert len(detector(hold_out=0).fit(listed).fitted_.facts) == 5
    for images in (tmp_path / "good", listed):
        with pytest.warns(Remark, match=r"000_mask\.png"):
            assert len(model.predict(images)) == 5


def test_before_fit(tmp_path) -> None:
    fresh = detector()
    with pytest.raises(NotFittedError):
        check_is_fitted(fresh)
    for call in ("predict", "decision_function", "score_samples", "anomaly_scores", "anomaly_maps", "detect"):
        with pytest.raises(NotFittedError):
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
    # The held-out photograph that sets the threshold is normal, whatever rounds its score.
    held_out = [good / model.fitted_.facts[n].name for n in model.fitted_.parting.held_out]
    setting = max(s for s in model.fitted_.scored.scores if s < model.threshold_.value)
    nearest = int(np.abs(model.anomaly_scores(held_out) - setting).argmin())
    assert model.predict([held_out[nearest]]).tolist() == [1]


def test_without_held_out_images_there_is_no_threshold(blind, new) -> None:
    assert blind.threshold_ is None and blind.map_threshold_ is None and blind.offset_ == 0
    assert blind.anomaly_scores(new).shape == (4,)
    for call in (blind.predict, blind.decision_function):
        with pytest.raises(ReconpatchError, match="no threshold"):
            call(new)


def test_every_kind_of_source_gives_the_same_scores(model, tmp_path) -> None:
    folder = write_products(tmp_path, 3, start=400)
    paths = sorted(folder.iterdir())
    images = [product(n) for n in range(400, 403)]
    opened = [Image.open(path) for path in paths]
    sources = [
        *(folder, str(folder), paths, [str(path) for path in paths], images, opened),
        [np.asarray(image) for image in images],
        np.stack([np.asarray(image) for image in images]),
        (str(paths[0]), images[1], np.asarray(images[2])),
        (image for image in images),
        *(np.array([str(path) for path in paths]), np.array(paths), np.array([[str(path)] for path in paths])),
        *(pd.Series(paths, index=[7, 8, 9]), pd.Series([str(path) for path in paths], dtype="string")),
        *(pd.DataFrame({"path": paths}), pd.DataFrame({"path": paths}).to_numpy(), pd.Index([str(p) for p in paths])),
        [folder],
    ]
    want = model.anomaly_scores(images)
    for source in sources:
        np.testing.assert_array_equal(model.anomaly_scores(source), want)
    for image in opened:
        image.close()
    assert model.anomaly_scores([]).shape == (0,) and model.anomaly_maps([]).shape == (0, SIZE, SIZE)
    assert model.predict([]).shape == (0,) and model.detect([]) == []


def test_folders_in_a_list_count_in_its_order(model, tmp_path) -> None:
    late, early = write_products(tmp_path / "a", 2, start=400), write_products(tmp_path / "b", 1, start=300)
    files = [*sorted(early.iterdir()), *sorted(late.iterdir()), early / "300.png"]
    got = model.anomaly_scores([str(early), late, early / "300.png"])
    np.testing.assert_array_equal(got, model.anomaly_scores(files))
    twice = detector(method="patchcore").fit([tmp_path / "a", write_products(tmp_path / "c", 4)])
    assert [each.name for each in twice.fitted_.facts][:2] == [f"{tmp_path}/a/{n}.png" for n in (400, 401)]


def test_scikit_learn_is_told_what_images_are() -> None:
    tags = get_tags(ReConPatch())
    assert tags.estimator_type == "outlier_detector" and tags.no_validation and not tags.target_tags.required
    inputs = tags.input_tags
    assert inputs.string and inputs.one_d_array and not inputs.two_d_array and not inputs.sparse


def test_saved_and_loaded(model, saved, new, tmp_path) -> None:
    again = loaded(saved)
    check_is_fitted(again)
    for call in ("anomaly_scores", "anomaly_maps", "predict", "decision_function"):
        np.testing.assert_array_equal(getattr(again, call)(new), getattr(model, call)(new))
    assert (again.threshold_, again.map_threshold_, again.offset_, again.rate_) == (
        *(model.threshold_, model.map_threshold_, model.offset_, model.rate_),
    )
    stricter = loaded(saved, false_alarm_rate=0.5)
    assert stricter.threshold_ == choose_threshold(model.fitted_.scored.scores, 0.5)
    for wrong in (
        {"false_alarm_rate": 2},
        {"false_alarm_rate": "x"},
        {"threads": 0},
        {"batch_images": 0},
        {"device": 1},
    ):
        with pytest.raises(ReconpatchError, match=f"options: {next(iter(wrong))} = "):
            ReConPatch.load(saved, **wrong)
    with pytest.raises(ReconpatchError, match="exists already"):
        model.save(saved)
    with pytest.raises(ReconpatchError, match="copy that folder"):
        again.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_other_aspects_other_methods_and_weights_from_a_file(good, saved, model, new) -> None:
    options = {"aspect": "stretch", "method": "patchcore", "settings": SETTINGS | {"neighbours": 3, "blur": 1.0}}
    other = detector(**options, weight_file=saved / "backbone.safetensors", weights="pretrained").fit(good)
    assert other.fitted_.seen == 1 and other.detector_.run.resize == SIZE and other.fitted_.epochs == []
    assert other.detector_.run.neighbours == 3 and other.predict(new)[2:].tolist() == [-1, -1]
    weights = other.detector_.backbone.weights
    assert weights["source"] == "file backbone.safetensors"
    assert weights["sha256"] == model.detector_.backbone.weights["sha256"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"uint8 \(4, 4, 3\); put one image into a list"),
        (np.zeros((4, 4), np.uint8), "put one image into a list"),
        (np.zeros((9, 4, 5), np.uint8), r"give an array \(N, H, W, 3\)"),
        (np.zeros(3), r"float64 \(3,\)"),
        (np.array("a.png"), "an array <U5"),
        (np.array([["a.png", "b.png"]]), r"<U5 \(1, 2\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32)], "image 1: .*float32"),
        (Image.new("RGB", (8, 8)), r"type Image; .*: \[image\]"),
        ("no/such/folder", "no such file or folder"),
        (["no/such/file.png"], "no such file"),
        (str(ROOT / "configs"), "no images below it"),
        ([str(ROOT / "configs")], "no images below it"),
        ("", "an empty path"),
        (["", "a.png"], "an empty path"),
        (b"photos", "type bytes"),
        (5, "type int"),
        (None, "type NoneType"),
        ({"a.png": 1}, "type dict"),
        ({"a.png", "b.png"}, "type set"),
        (pd.DataFrame({"path": ["a.png"], "lot": [3]}), r"columns path, lot; .*table\['path'\]"),
        (pd.DataFrame({"path": [3]}), "image 0: an image is int"),
        (pd.Series([float("nan"), "a.png"]), "image 0: an image is float"),
    ],
)
def test_what_is_no_source_is_refused_by_all(images, message, model) -> None:
    for call in (model.predict, detector().fit):
        with pytest.raises(ReconpatchError, match=message):
            call(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"false_alarm_rate": 0}, "false_alarm_rate = 0"),
        ({"hold_out": 1}, "hold_out = 1"),
        ({"aspect": "square"}, "aspect = .square."),
        ({"settings": {"crop": 8}}, "crop.*size="),
        ({"settings": {"unknown": 8}}, "settings.*unknown"),
        ({"weights": "file"}, "weight_file=FILE"),
        ({"backbone": "resnet10"}, "no such model.*resnet10t"),
        ({"device": "gpu"}, "device = .gpu."),
        *(({"coreset": 1e-6}, "keeps none of"), ({"settings": SETTINGS | {"neighbours": 500}}, "neighbours = 500")),
        ({"hold_out": 0.99}, "too few to hold"),
        ({"threads": 0}, "threads = 0"),
        *(({"threads": yes}, "threads = .*True.*not numbers") for yes in (True, np.True_)),
        ({"resize": 0}, "resize = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"dim": "many"}, "dim = 'many'"),
        ({"settings": {"augment": "both"}}, "augment"),
    ],
)
def test_parameters_that_cannot_work(changes, message, good) -> None:
    """A ValueError, as scikit-learn has it."""
    with pytest.raises(ValueError, match=message):
        detector(**changes).fit(good)


def test_the_process_is_left_as_it_was(good, new, saved) -> None:
    """After every call, and after one that fails."""
    with restored():
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(2)
        before = state()
        with pytest.raises(ReconpatchError, match="keeps none of"):
            detector(coreset=1e-6).fit(good)
        assert state() == before
        again = loaded(saved)
        assert state() == before
        for call in (again.predict, again.anomaly_maps, again.detect):
            call(new)
            assert state() == before
        with pytest.raises(ReconpatchError):
            again.predict([None])
        assert state() == before


def test_what_is_odd_in_the_images_is_warned_of(good, model, saved, tmp_path) -> None:
    """At `fit` and when images are scored, also by a model that was loaded; ordinary images give no warning.
    Warnings name the line of the user's program.
    """
    folder = tmp_path / "odd"
    folder.mkdir()
    for n in range(6):
        grey = np.asarray(product(n).convert("L"), np.uint16)
        Image.fromarray(grey * 16).save(folder / f"{n}.png")
    with pytest.warns(Remark) as warned:
        odd = detector(epochs=1).fit(folder)
    assert len(warned) == 2 and all(": 6 (0.png, 1.png, ...)" in str(each.message) for each in warned)
    said_of = list(warned)
    assert "mode I;16" in str(warned[0].message) and FEW_BITS in str(warned[1].message)
    assert list(odd.detector_.modes) == ["I;16"] and list(model.detector_.modes) == ["RGB"]
    for fitted in (model, ReConPatch.load(saved, device="cpu", threads=1)):
        with pytest.warns(Remark) as warned:
            fitted.anomaly_scores([folder / "0.png", product(1)])
        said_of += warned
        messages = [str(each.message) for each in warned]
        assert len(messages) == 3 and any("fitted to (RGB): 1 (" in message for message in messages)
        fitted.anomaly_scores([product(1)])  # warnings are errors in this suite
    (folder / "other").mkdir()
    (folder / "0.png").rename(folder / "other/0.png")
    with pytest.warns(Remark, match="all count as good products") as warned:
        sources_of(folder, "fit")
    assert {each.filename for each in (*said_of, *warned)} == {__file__}
