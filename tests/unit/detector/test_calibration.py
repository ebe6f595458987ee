"""Which images set the threshold, what scores them, and how often the stated interval holds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from products import fit, product, small_run, write_products
from scipy.spatial.distance import cdist

from reconpatch.data.remarks import ImageFacts
from reconpatch.detector.calibration import (
    bank_without,
    different,
    draw_units,
    groups_of,
    part,
    part_in_folds,
    unit_sizes,
    units_of,
)
from reconpatch.detector.detector import pixels
from reconpatch.detector.photographs import Photograph, find_photographs
from reconpatch.detector.settings import FitOptions
from reconpatch.detector.threshold import ROUNDING, Calibration, choose_threshold
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import Run
from reconpatch.method.features import features_of
from reconpatch.method.memory_bank import Representation

DIGESTS = st.text("abcdefgh", min_size=1, max_size=30)


def facts(digests: str) -> list[ImageFacts]:
    return [ImageFacts(f"{n}.png", f"{n}", digest, 4, 4) for n, digest in enumerate(digests)]


def parted(digests: str, seed: int = 0, **options):
    return part(facts(digests), None, len(digests), seed, FitOptions(**options))


@given(DIGESTS, st.floats(0, 0.99), st.integers(0, 99))
def test_held_out_images_have_no_copy_among_the_others(digests, share, seed) -> None:
    different = len(set(digests))
    count = max(1, round(share * different)) if share else 0
    if count and count >= different:
        with pytest.raises(ReconpatchError, match=f"{different} different images are too few"):
            parted(digests, seed, hold_out=share)
        return
    held_out = parted(digests, seed, hold_out=share).held_out
    assert held_out == sorted(set(held_out)) == parted(digests, seed, hold_out=share).held_out
    out, kept = {digests[n] for n in held_out}, {d for n, d in enumerate(digests) if n not in held_out}
    assert not out & kept and len(out) == count and kept


@given(st.lists(st.integers(1, 30), min_size=2, max_size=30), st.floats(0.05, 0.5), st.integers(0, 99))
def test_of_groups_no_more_is_held_out_than_asked_for_where_that_can_be(sizes, share, seed) -> None:
    wanted = max(1, round(share * sum(sizes)))
    try:
        chosen = draw_units(np.array(sizes), share, seed, "groups")
    except ReconpatchError as error:
        assert min(sizes) > 2 * wanted or ("too few" in str(error) and len(sizes) <= sum(sizes) * share + 1)
        return
    held_out, rest = sum(sizes[n] for n in chosen), [size for n, size in enumerate(sizes) if n not in chosen]
    assert 0 < held_out <= (wanted if min(sizes) <= wanted else 2 * wanted) and rest
    assert held_out == min(sizes) or all(held_out + size > wanted for size in rest)  # no other would fit, too


def test_groups_of_the_images_for_the_threshold_hold_none_to_fit_on(tmp_path) -> None:
    """A file in which two photographs have one name cannot say it."""
    with pytest.raises(ReconpatchError, match="calibration: 2 images are of groups that also hold images to fit on"):
        part(facts("abcdefgh"), list("00111122"), 4, 0, FitOptions())
    assert part(facts("abcdefgh"), list("00112233"), 4, 0, FitOptions()).calibration.groups == 2
    twins = [Photograph("0.png", tmp_path / place / "0.png") for place in ("fit", "new")]
    (tmp_path / "days.csv").write_text("image,group\n0.png,monday\n")
    with pytest.raises(ReconpatchError, match=r"two photographs are called 0\.png"):
        groups_of(twins, str(tmp_path / "days.csv"))
    assert groups_of([twins[0], twins[0]], str(tmp_path / "days.csv")) == ["monday", "monday"]


@given(DIGESTS, st.integers(2, 6), st.integers(0, 99))
def test_folds_leave_every_image_out_once_with_its_copies(digests, folds, seed) -> None:
    different = len(set(digests))
    if folds > different:
        with pytest.raises(ReconpatchError, match=f"{different} different images are too few for {folds} folds"):
            parted(digests, seed, folds=folds)
        return
    found = parted(digests, seed, folds=folds)
    assert sorted(n for fold in found.folds for n in fold) == list(range(len(digests))) and not found.held_out
    names = [{digests[n] for n in fold} for fold in found.folds]
    assert sum(map(len, names)) == different  # no copy is in two folds
    assert max(map(len, names)) - min(map(len, names)) <= 1
    assert found.calibration == Calibration(folds)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyzuv")), min_size=1, max_size=20))
def test_units_are_what_copies_and_groups_connect(images) -> None:
    """Against joining two images again and again while they share a copy or a group."""
    wanted = list(range(len(images)))
    for _ in images:
        for i, one in enumerate(images):
            for j, other in enumerate(images):
                if one[0] == other[0] or one[1] == other[1]:
                    wanted[i] = wanted[j] = min(wanted[i], wanted[j])
    first = {unit: n for n, unit in enumerate(dict.fromkeys(wanted))}
    found = units_of(facts("".join(digest for digest, _ in images)), [group for _, group in images])
    assert found.tolist() == [first[unit] for unit in wanted]
    sizes = [len({d for (d, _), unit in zip(images, wanted, strict=True) if unit == each}) for each in first]
    assert unit_sizes(facts("".join(d for d, _ in images)), found).tolist() == sizes


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(2, 6), st.integers(0, 9))
def test_folds_of_groups_are_about_equally_large(sizes, folds, seed) -> None:
    """A group that makes a fold the largest is added to the one with the fewest images."""
    loads = np.bincount(part_in_folds(np.array(sizes), folds, seed), sizes, folds)
    assert loads.sum() == sum(sizes) and loads.max() - loads.min() <= max(sizes)


def test_the_default_follows_from_the_number_of_images() -> None:
    few, many = (part(facts(map(str, range(n))), None, n, 0, FitOptions()) for n in (499, 500))
    assert len(few.folds) == 5 and not few.held_out
    assert len(many.held_out) == 100 and not many.folds and many.calibration.exact
    assert len(parted("abc").folds) == 3
    with pytest.raises(ReconpatchError, match="too few"):
        parted("aaa")


def test_groups_of_photographs(tmp_path) -> None:
    photographs = [Photograph(name, tmp_path / "all" / name) for name in ("a/lot1_x.png", "b/lot1_y.png", "b/lot2.png")]
    assert len(set(groups_of(photographs, "folder"))) == 2
    assert groups_of(photographs, r"lot(\d)") == ["1", "1", "2"]
    assert groups_of(photographs, r"lot\d") == ["lot1", "lot1", "lot2"]
    file = tmp_path / "days.csv"
    file.write_text("group,image\nmonday,b/lot2.png\n7,a/lot1_x.png\n7,b/lot1_y.png\n")
    assert groups_of(photographs, str(file)) == ["7", "7", "monday"]
    file.write_text("image,group\na/lot1_x.png,1\n")
    for group, message in (
        (str(file), "2 images have no group, first b/lot1_y.png"),
        (r"lot1_(\w)", "1 images have no group, first b/lot2.png"),
        ("lot(", "not a valid regular expression"),
        (str(tmp_path / "none.csv"), "cannot be read"),
    ):
        with pytest.raises(ReconpatchError, match=message):
            groups_of(photographs, group)
    file.write_text("image,day\na,1\n")
    with pytest.raises(ReconpatchError, match="first line is image,group"):
        groups_of(photographs, str(file))
    with pytest.raises(ReconpatchError, match="have no names"):
        groups_of([np.zeros((4, 4, 3), np.uint8)], "folder")


def test_one_group_is_refused_unless_no_threshold_is_wanted() -> None:
    with pytest.raises(ReconpatchError, match="group folder: all 4 images are in one group"):
        part(facts("abcd"), ["a"] * 4, 4, 0, FitOptions(group="folder"))
    assert part(facts("abcd"), ["a"] * 4, 4, 0, FitOptions(group="folder", hold_out=0)).folds == []


def test_groups_stay_together_and_count_as_one(tmp_path) -> None:
    for day in range(5):
        write_products(tmp_path / f"day{day}", 3, start=3 * day)
    sources = find_photographs([tmp_path])[0]
    folds = fit(sources, folds=2, group="folder", run=small_run(method="patchcore"))
    names = [{Path(folds.facts[n].name).parent for n in fold} for fold in folds.parting.folds]
    assert not names[0] & names[1] and folds.parting.calibration.folds == 2
    grouped = folds.parting.calibration.group_of
    scored = [Path(folds.facts[n].name).parent for fold in folds.parting.folds for n in fold]
    assert len({*zip(grouped, scored, strict=True)}) == 5 == folds.parting.calibration.groups
    held_out = fit(sources, hold_out=0.2, group="folder", run=small_run(method="patchcore")).parting
    assert len(held_out.held_out) == 3 and held_out.calibration.groups == 1
    with pytest.raises(ReconpatchError, match="5 groups are too few for 6 folds"):
        fit(sources, folds=6, group="folder")


def test_left_out_images_are_scored_by_all_others(tmp_path) -> None:
    """With a coreset of everything the score is the largest distance to the nearest patch of another fold's images."""
    sources = find_photographs([write_products(tmp_path, 7, size=(60, 20))])[0]
    run = small_run("pad", method="patchcore", coreset=1.0)
    found = fit(sources, folds=3, aspect="pad", run=run)
    squares, views, _ = zip(*(pixels(each, run) for each in sources), strict=True)
    features = features_of(squares, found.detector.backbone, run.patch_size, run.level_width, run.width)
    patches = [
        found.detector.bank.representation(each[seen.content((4, 4))])
        for each, seen in zip(features, views, strict=True)
    ]
    wanted = []
    for fold in found.parting.folds:
        others = np.concatenate([patches[n] for n in range(7) if n not in fold])
        wanted += [cdist(patches[n], others).min(1).max() for n in fold]
    np.testing.assert_allclose(found.scored.scores, wanted, rtol=1e-4)
    assert len(found.detector.bank.patches) == sum(map(len, patches)) and found.parting.held_out == []
    assert 0 < found.scored.level < max(found.scored.peaks) <= max(found.scored.scores) * 1.001


def test_a_fold_has_a_bank_of_the_same_size_without_its_images() -> None:
    patches = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float16)
    for share in (0.1, 0.5, 1.0):
        rows = int(60 * share)
        bank = bank_without(patches, [20, 10, 30], [0, 2], rows, Representation(4), Run(), 1)
        assert set(bank.order.tolist()) <= set(range(20, 30)) and len(bank.patches) == min(10, rows)
        np.testing.assert_array_equal(bank.patches, bank.representation(patches[bank.order]))


def rates(images: int, folds: int, draws: int, groups: int = 0, coreset: float = 0.3):
    """Thresholds of many draws of images, 10 % false alarms wanted -> the thresholds, and the true rate of each.

    An image has 9 patches of 6 values around four centres, scattered by an amount of its own, or of its group.
    """
    rng, run, size = np.random.default_rng(1), Run(dim=6), 9
    rows = int(images * size * coreset)
    centres = rng.normal(0, 3, (4, 6))

    def draw(count, scatter):
        noise = rng.normal(size=(count, size, 6)) * scatter[:, None, None]
        return (centres[rng.integers(0, 4, (count, size))] + noise).astype(np.float32)

    def score(of, bank):
        return cdist(of.reshape(-1, 6), bank.patches).min(1).reshape(len(of), -1).max(1)

    found = []
    for seed in range(draws):
        group = np.arange(images) % (groups or images)
        shots = draw(images, rng.gamma(3, 1 / 3, groups or images)[group])
        patches, counts, f = shots.reshape(-1, 6), [size] * images, Representation(6)
        fold_of = part_in_folds(np.bincount(group), folds, seed)[group]
        scores = np.empty(images)
        for fold in range(folds):
            out = np.flatnonzero(fold_of == fold)
            scores[out] = score(shots[out], bank_without(patches, counts, out.tolist(), rows, f, run, 1))
        threshold = choose_threshold(scores.tolist(), 0.1, Calibration(folds, tuple(group) if groups else ()))
        new = score(draw(1500, rng.gamma(3, 1 / 3, 1500)), bank_without(patches, counts, [], rows, f, run, 1))
        found.append((threshold, float((new > threshold.value).mean())))
    return found


@pytest.mark.parametrize(("images", "groups", "draws"), [(20, 0, 150), (24, 12, 100)])
def test_intervals_hold_over_many_draws(images, groups, draws) -> None:
    """benchmarks/calibration.py has more draws and cases. Images of a group are more alike than others,
    but not equal, which makes their rate lower than stated."""
    found = rates(images, 5, draws, groups)
    held = np.mean([each.low <= rate <= each.high for each, rate in found])
    assert held >= 0.93 and all(each.interval == "approximate" for each, _ in found)
    ratio = np.mean([rate for _, rate in found]) / found[0][0].expected
    assert (0.5 if groups else 0.75) < ratio < 1.2


def test_what_is_said_of_a_threshold() -> None:
    scores = list(np.random.default_rng(0).normal(size=30))
    folds, split = choose_threshold(scores, 0.1, Calibration(5)), choose_threshold(scores, 0.1)
    assert (folds.value, folds.expected) == (split.value, split.expected)
    assert folds.low < split.low < split.high < folds.high  # as from fewer images
    assert "approximate 95 % interval" in folds.sentence() and "approximate" not in split.sentence()
    groups = choose_threshold(scores, 0.1, Calibration(5, tuple(n % 6 for n in range(30))))
    assert groups.value >= max(scores) and groups.expected == pytest.approx(1 / 7) and not groups.reachable
    assert (
        "6 groups, each of which counts as one image" in groups.sentence() and "at least 9 groups" in groups.sentence()
    )
    assert Counter([folds.interval, split.interval, groups.interval]) == {"approximate": 2, "exact": 1}


@pytest.mark.parametrize("sizes", [[5] * 24, [1] * 20 + [50] * 4, [1] * 30 + [100], [1] * 40 + [20] * 3], ids=str)
def test_groups_whose_scores_are_equal_count_as_one_image_each(sizes) -> None:
    """Whatever their sizes: held out, the rate is then distributed exactly as that of as many single images."""
    rng, found = np.random.default_rng(0), []
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(400):
        alike = rng.random(len(sizes))
        order = rng.permutation(len(group_of))
        threshold = choose_threshold(alike[group_of[order]].tolist(), 0.1, Calibration(0, tuple(group_of[order])))
        rate = 1 - threshold.value / (1 + ROUNDING)
        found.append((threshold.low <= rate <= threshold.high, rate))
        assert threshold.value == choose_threshold(alike.tolist(), 0.1).value
    held, rates_ = np.array(found, float).T
    assert held.mean() >= 0.93 and rates_.mean() == pytest.approx(threshold.expected, abs=0.02)


@pytest.mark.filterwarnings("ignore:images that repeat others")
def test_copies_of_a_left_out_image_are_left_out_too(tmp_path) -> None:
    """Else they would score 0, and the threshold would be 0."""
    once = [np.asarray(each) for each in map(product, range(10))]
    run = small_run(method="patchcore", coreset=1.0)
    alone, twice = (fit(images, folds=5, run=run) for images in (once, [*once, *once]))
    assert min(twice.scored.scores) > 0 and len(twice.scored.scores) == 10
    of_alone, of_twice = (
        dict(
            zip(
                [n % 10 for fold in each.parting.folds for n in different(each.facts, fold)],
                each.scored.scores,
                strict=True,
            )
        )
        for each in (alone, twice)
    )
    same_fold = all(
        {n % 10 for n in a} == {n % 10 for n in b}
        for a, b in zip(alone.parting.folds, twice.parting.folds, strict=True)
    )
    assert same_fold and of_twice == pytest.approx(of_alone)


def test_an_image_in_two_groups_is_refused(tmp_path) -> None:
    photographs = find_photographs([write_products(tmp_path / "good", 2)])[0]
    rows = [f"{each.name},{n}" for n, each in enumerate([*photographs, photographs[0]])]
    (tmp_path / "days.csv").write_text("\n".join(["image,group", *rows, ""]))
    with pytest.raises(ReconpatchError, match="in two groups"):
        groups_of(photographs, str(tmp_path / "days.csv"))
