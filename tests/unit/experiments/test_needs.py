import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.experiments import needs
from reconpatch.experiments.needs import Need
from reconpatch.method import memory_bank as memory
from reconpatch.method.feature_files import RESIDENT

sizes = st.integers(1, 10**6)


def test_a_block_is_that_of_the_code() -> None:
    assert needs.BLOCK == memory.CHUNK


def test_a_network_is_held_three_times_and_a_decoded_image_in_each_thread() -> None:
    sizes = {"crop": 224, "grid": 28, "width": 1024, "batch": 8}
    held = [needs.extraction("resnet18", 10**7, image=10**6, threads=n, **sizes).held for n in (1, 2)]
    assert held[1] - held[0] == pytest.approx(needs.index(10**6, 2).held - needs.index(10**6, 1).held)
    more = needs.extraction("resnet18", 2 * 10**7, image=10**6, threads=1, **sizes).held
    assert more - held[0] == pytest.approx(3 * 4 * 10)


def test_weights_of_another_training_are_as_large() -> None:
    sizes = {"parameters": 10**7, "crop": 224, "grid": 28, "width": 1024, "batch": 8, "image": 10**6, "threads": 2}
    assert needs.extraction("resnet18.tv_in1k", **sizes) == needs.extraction("resnet18", **sizes)
    assert needs.extraction("no such", **sizes).held > needs.extraction("wide_resnet101_2", **sizes).held


def test_files_up_to_a_limit_are_mapped() -> None:
    """Above it they are read, by blocks of 65,536 patches: as `stored` does it."""
    fits = RESIDENT // 2048
    assert needs.features_file(fits, 1024) == (RESIDENT / 1e6, 0)
    assert needs.features_file(fits + 1, 1024) == (0, 65536 * 2048 / 1e6)
    assert needs.bank(fits, 1024, 512, 128, 100).mapped == RESIDENT / 1e6
    assert needs.training(fits + 1, 1024, 512, 128, 1024).mapped == 0


def test_a_prediction_is_both_parts_in_whole_megabytes() -> None:
    assert Need(100.4, 20.3).mb == 121


@given(sizes, st.integers(1, 2048), st.integers(1, 1024), st.integers(1, 1024), st.floats(0.001, 1))
def test_a_coreset_holds_its_arrays(patches, width, dim, coreset_dim, ratio) -> None:
    """The projected patches, and later the bank; never less for a larger one."""
    kept = max(1, int(patches * ratio))
    need = needs.bank(patches, width, dim, coreset_dim, kept)
    arrays = max(patches * min(dim, coreset_dim) * 4, kept * dim * 4) / 1e6
    assert arrays < need.held - needs.IMPORTS["select_coreset"] + 1e-9
    assert needs.bank(2 * patches, width, dim, coreset_dim, 2 * kept).held >= need.held


@given(sizes, st.integers(1, 2048), st.integers(1, 1024), sizes, st.floats(0.01, 1), st.integers(1, 9))
def test_a_score_holds_bank_and_index(patches, width, dim, loaded, share, neighbours) -> None:
    used = max(1, int(loaded * share))
    held, mapped = needs.search(patches, width, dim, loaded, used, neighbours)
    assert held >= (loaded + used) * dim * 4 / 1e6
    assert mapped in (0, patches * width * 2 / 1e6)
    assert needs.search(patches, width, dim, loaded, used, neighbours + 1)[0] >= held


@given(st.integers(1, 3000), st.integers(32, 600))
def test_metrics_hold_maps_masks_and_a_sorted_copy(images, crop) -> None:
    assert needs.metrics(images, crop) > images * crop**2 * (4 + 1 + 4) / 1e6


def test_training_holds_two_matrices_of_pairs() -> None:
    small, large = (needs.training(10**5, 1024, 512, 128, batch).held for batch in (1024, 8192))
    assert large - small > 2 * 4 * (8192**2 - 1024**2) / 1e6


def test_small_needs() -> None:
    """Masks are held one by one and together; of a table's results the wins of pairs; panels in colours."""
    assert needs.masks(100, 480, 10**6).mb - needs.masks(0, 480, 10**6).mb == round(2 * 100 * 480**2 / 1e6)
    assert needs.table(100, 200).held - needs.table(0, 200).held > 100 * 2 * 200**2 * 4 / 1e6
    assert needs.pictures(8, 480).held > needs.pictures(8, 224).held > needs.pictures(4, 224).held
    members = [needs.ensemble(100, 224, 78400, 156800, n).held for n in (2, 3)]
    assert members[1] - members[0] == pytest.approx((78400 * 4 + 156800 * 4 + 100**2 * 8) / 1e6)


def test_picks_are_held_twice_beside_what_they_are_picked_from() -> None:
    """`picked` and `centred` of greedy_order beside the points and four arrays of 8 or 4 bytes a point."""
    patches, kept, d = 10**6, 5 * 10**5, 64
    arrays = (patches * d * 4 + 2 * kept * d * 4 + patches * (8 + 8 + 4 + 4)) / 1e6
    assert needs.bank(patches, 64, d, d, kept).held - needs.IMPORTS["select_coreset"] > arrays
