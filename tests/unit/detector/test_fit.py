import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from products import SETTINGS, SIZE, detector, product, write_products
from safetensors.numpy import load_file

from reconpatch.data.images import view
from reconpatch.detector.detector import pixels
from reconpatch.detector.fit import check_room, draw_held_out, fit_detector, without_padding
from reconpatch.detector.photographs import Facts, find
from reconpatch.detector.settings import product_run
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.costs import Network
from reconpatch.method.feature_files import file_offset, read_rows
from reconpatch.method.features import features_of

SMALL = SETTINGS | {"backbone": "resnet10t", "weights": "random", "dim": 16, "coreset": 0.1, "epochs": 2}


def run(aspect: str = "crop", **changes):
    return product_run(SIZE, None, aspect, None, SMALL | changes, "test")


def fit(images, *, aspect: str = "crop", settings=None, **options):
    given = {"device": "cpu", "threads": 1, "hold_out": 0.25}
    return fit_detector(images, run(aspect, **(settings or {})), aspect=aspect, **(given | options))


def facts(digests: str) -> list[Facts]:
    return [Facts(f"{n}.png", digest, 4, 4) for n, digest in enumerate(digests)]


@given(st.text("abcdefgh", min_size=1, max_size=30), st.floats(0, 0.99), st.integers(0, 99))
def test_held_out_images_have_no_copy_among_the_others(digests, share, seed) -> None:
    different = len(set(digests))
    count = max(1, round(share * different)) if share else 0
    if count and count >= different:
        with pytest.raises(ReconpatchError, match=f"{different} different images are too few to hold {count} out"):
            draw_held_out(facts(digests), share, seed)
        return
    held = draw_held_out(facts(digests), share, seed)
    assert held == sorted(set(held)) and held == draw_held_out(facts(digests), share, seed)
    out, kept = {digests[n] for n in held}, {d for n, d in enumerate(digests) if n not in held}
    assert not out & kept and len(out) == count and kept


def test_every_image_is_held_out_as_often() -> None:
    """Over seeds, of ten images with one copied three times, each of the ten."""
    counts = np.zeros(10)
    for seed in range(600):
        counts[list({int("0123456789222"[n]) for n in draw_held_out(facts("0123456789222"), 0.2, seed)})] += 1
    assert counts.sum() == 1200 and np.abs(counts - 120).max() < 45  # 4.6 standard deviations


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_shares_that_mean_nothing(share) -> None:
    with pytest.raises(ReconpatchError, match="hold_out"):
        draw_held_out(facts("abc"), share, 0)


@pytest.fixture
def good(tmp_path):
    return write_products(tmp_path / "good", 12)


def test_held_out_images_are_scored_by_the_finished_detector(good) -> None:
    found = fit(find([good])[0])
    sources = find([good])[0]
    again = list(found.detector([sources[n] for n in found.held_out]))
    assert len(found.held_out) == 3 and found.scores == [each.score for each in again]
    assert found.peaks == [float(each.map.max()) for each in again]
    assert found.level == float(np.median([np.median(each.map) for each in again]))
    assert found.detector.bank.training_patches == 9 * 16
    assert found.seen == pytest.approx(SIZE * SIZE / (37 * 48))  # 52 x 40 px to 48 x 37, then 32 x 32


def test_the_usual_level_is_that_of_the_photograph_not_of_its_padding(tmp_path) -> None:
    """Of a strip in a square most of the map is padding, whose scores are 0."""
    found = fit(find([write_products(tmp_path, 8, size=(60, 12))])[0], aspect="pad")
    again = found.detector([find([tmp_path])[0][n] for n in found.held_out])
    medians = [np.median(each.map[each.view.content(SIZE)]) for each in again]
    assert found.level == pytest.approx(np.median(medians)) and found.level > 0
    assert found.seen == 1


def test_calibration_takes_the_place_of_held_out_images(good, tmp_path) -> None:
    more = find([write_products(tmp_path / "more", 4, start=50)])[0]
    found = fit(find([good])[0], calibration=more)
    assert found.held_out == [12, 13, 14, 15] and [found.facts[n].name for n in found.held_out] == [
        p.name for p in more
    ]
    without = fit(find([good])[0], hold_out=0)
    np.testing.assert_array_equal(found.detector.bank.patches, without.detector.bank.patches)
    assert without.scores == [] and without.peaks == [] and without.held_out == [] and without.level == 0


def test_calibration_on_images_that_were_fitted_on_is_refused(good, tmp_path) -> None:
    """Their scores say nothing of new ones: the threshold would be far too low."""
    (tmp_path / "more").mkdir()
    shutil.copy(good / "003.png", tmp_path / "more/x.png")
    with pytest.raises(ReconpatchError, match=r"calibration: 1 images are copies.*x\.png of 003\.png"):
        fit(find([good])[0], calibration=find([tmp_path / "more"])[0])


def test_the_checkpoint_asked_for_is_used(good) -> None:
    """Settings of a run may name an epoch: f after it, of a training as long as `epochs` says."""
    sources = find([good])[0]
    first = fit(sources, settings={"epochs": 4, "epoch": 1, "learning_rate": 0.1}, hold_out=0)
    last = fit(sources, settings={"epochs": 4, "learning_rate": 0.1}, hold_out=0)
    alone = fit(sources, settings={"epochs": 1, "learning_rate": 0.1}, hold_out=0)
    weights = [each.detector.bank.representation.weight for each in (first, last, alone)]
    assert not np.array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])  # the first epoch's rate is the same however many follow
    assert len(first.epochs) == 4


def test_same_images_same_bytes_whatever_the_order_of_their_folders(tmp_path) -> None:
    write_products(tmp_path / "b", 6)
    write_products(tmp_path / "a", 6, start=6)
    cards = []
    for n, folders in enumerate([("a", "b"), ("b", "a"), ("a", "b")]):
        model = detector(seed=int(n == 2), hold_out=0.2).fit(find([tmp_path / f for f in folders])[0])
        cards.append(model.save(tmp_path / f"model{n}"))
    assert cards[0].identity == cards[1].identity != cards[2].identity
    for name in cards[0].files:
        assert (tmp_path / "model0" / name).read_bytes() == (tmp_path / "model1" / name).read_bytes()
    first, other = (load_file(tmp_path / f"model{n}/memory_bank.safetensors") for n in (0, 2))
    assert not np.array_equal(first["f.weight"], other["f.weight"])


def test_a_renamed_copy_of_an_image_changes_no_weight_of_its_twins(tmp_path, good) -> None:
    """With a copy in the folder, both lie on the same side."""
    for seed in range(3):
        shutil.copy(good / f"{seed:03}.png", good / f"zz{seed}.png")
    found = fit(find([good])[0])
    digests = [f.sha256 for f in found.facts]
    held = set(found.held_out)
    assert not {digests[n] for n in held} & {d for n, d in enumerate(digests) if n not in held}


def test_progress_tells_every_step(good) -> None:
    told = []
    fit(find([good])[0], progress=lambda *p: told.append(p))
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps == ["reading images", "patch features", "training", "coreset", "held-out images"]
    for step in steps:
        last = [p for p in told if p[0] == step][-1]
        assert last[1] == last[2]


def refused_before_the_network(images, monkeypatch, said, **options) -> None:
    from reconpatch.detector import fit as fitting

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(fitting, "load_network", must_not_run)
    with pytest.raises(ReconpatchError, match=said):
        fit(images, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settings": {"backbone": "resnet10x"}}, "no such model"),
        ({"settings": {"levels": [2, 9]}}, "has no level 9"),
        ({"settings": {"weights": "embedded"}}, "embedded weights exist"),
        ({"settings": {"coreset": 1e-6}}, "keeps none of"),
        ({"settings": {"neighbours": 500}}, "neighbours = 500"),
        ({"settings": {"patch_size": 9}}, "patch_size 9"),
        ({"settings": {"k": 30, "batch": 10**3, "coreset": 1.0}, "hold_out": 0.9}, "k = 30"),
        ({"hold_out": 1.0}, "hold_out"),
        ({"hold_out": 0.99}, "too few to hold"),
    ],
)
def test_what_cannot_work_is_refused_first(options, said, good, monkeypatch) -> None:
    refused_before_the_network(find([good])[0], monkeypatch, said, **options)


def test_without_images(monkeypatch) -> None:
    refused_before_the_network([], monkeypatch, "no images to fit on")


def test_memory_and_disk_are_looked_at_before(good, monkeypatch, tmp_path) -> None:
    from reconpatch.detector import fit as fitting

    usage = type("Usage", (), {"free": 1000})
    with monkeypatch.context() as patch:
        patch.setattr(fitting.shutil, "disk_usage", lambda _: usage)
        refused_before_the_network(find([good])[0], patch, "TMPDIR")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "machine_mb", lambda: 100.0)
        with pytest.raises(ReconpatchError, match=r"extract features needs about .* GB of memory, there are 0\.1 GB"):
            check_room(run(), Network(8, 10**6), 10, 160, 10**6, 8, 1, tmp_path)


def test_nothing_is_left_in_the_temporary_folder(good, tmp_path, monkeypatch) -> None:
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    fit(find([good])[0])
    with pytest.raises(ReconpatchError):
        fit(find([good])[0], settings={"coreset": 1e-6})
    assert list((tmp_path / "tmp").iterdir()) == []


def test_arrays_and_images_fit_as_files_do(good) -> None:
    files = fit(find([good])[0])
    memory = fit([product(n) if n % 2 else np.asarray(product(n)) for n in range(12)])
    np.testing.assert_array_equal(files.detector.bank.patches.shape, memory.detector.bank.patches.shape)
    without = [fit(s, hold_out=0).detector.bank.patches for s in (find([good])[0], [product(n) for n in range(12)])]
    np.testing.assert_array_equal(*without)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_rows_without_padding(tmp_path_factory, images, side, width, seed) -> None:
    """A memory map of those rows of the file that numpy selects; the file keeps its bytes where there is no padding."""
    rng = np.random.default_rng(seed)
    features = rng.random((images, side, side, width)).astype(np.float16)
    cells = rng.random((images, side, side)) < rng.choice([0.3, 1.1])
    cells[rng.integers(images), 0, 0] = True
    file = tmp_path_factory.mktemp("features") / "f.npy"
    np.save(file, features)
    got = without_padding(file, list(cells))
    np.testing.assert_array_equal(got, features[cells])
    assert isinstance(got, np.memmap) and got.dtype == np.float16 and file_offset(got) is not None
    chosen = np.flatnonzero(rng.random(len(got)) < 0.5)
    np.testing.assert_array_equal(read_rows(got, chosen, 0), features[cells][chosen])  # read from the file
    if cells.all():
        np.testing.assert_array_equal(np.load(file), features)


def test_no_padding_in_the_memory_bank(tmp_path) -> None:
    """Rows of the bank, offered and kept, are patches that lie on the photographs, one at a time found there."""
    good = find([write_products(tmp_path, 6, size=(60, 20))])[0]
    found = fit(good, aspect="pad", hold_out=0, settings={"coreset": 1.0})
    on = view(60, 20, size=SIZE, resize=SIZE, aspect="pad").content(4)
    bank = found.detector.bank
    assert 0 < on.sum() < on.size and bank.training_patches == 6 * on.sum() == len(bank.patches)
    squares = [pixels(each, found.detector.run, "pad")[0] for each in good]
    features = features_of(squares, found.detector.backbone, found.detector.run.patch_size, 32, 32)
    rows = bank.representation(
        np.stack([features[n][row, column] for n in range(6) for row, column in np.argwhere(on)])
    )
    np.testing.assert_allclose(bank.patches, rows[bank.order], rtol=1e-2, atol=1e-4)


def test_only_patches_on_photographs_count_against_what_is_asked(tmp_path, monkeypatch) -> None:
    """Of a strip, one in four lies on it: a tenth of these keeps too few for so many neighbours."""
    good = find([write_products(tmp_path, 6, size=(60, 12))])[0]
    on = view(60, 12, size=SIZE, resize=SIZE, aspect="pad").content(4).sum()
    settings = {"coreset": 0.5, "neighbours": int(3 * on) + 1}
    assert 3 * on + 1 < 6 * 16 * 0.5
    refused_before_the_network(good, monkeypatch, "neighbours", aspect="pad", hold_out=0, settings=settings)


def test_threads_are_given_back_where_training_fails(good, monkeypatch) -> None:
    from reconpatch.detector import fit as fitting

    def fails(*_: object) -> None:
        assert torch.get_num_threads() == 1
        raise ReconpatchError("training failed")

    monkeypatch.setattr(fitting, "_represent", fails)
    before = torch.get_num_threads()
    try:
        with pytest.raises(ReconpatchError, match="training failed"):
            fit(find([good])[0], threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_copies_among_held_out_and_calibration_images_count_once(good, tmp_path) -> None:
    more = write_products(tmp_path / "more", 2, start=50)
    for n in range(3):
        shutil.copy(more / "050.png", more / f"copy{n}.png")
    found = fit(find([good])[0], calibration=find([more])[0])
    assert len(found.held_out) == 5 and len(found.scores) == len(found.peaks) == 2
    alone = fit(find([good])[0], calibration=find([more / "050.png", more / "051.png"])[0])
    assert found.scores == alone.scores and found.level == alone.level
    for n in range(12):
        shutil.copy(good / f"{n:03}.png", good / f"{n:03}b.png")
    twice = fit(find([good])[0])
    assert len(twice.held_out) == 6 and len(twice.scores) == 3
