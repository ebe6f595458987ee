import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.method.batching import batch_sizes, draw_batches


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 200), st.integers(0, 999))
def test_an_epoch_takes_every_patch_once_in_nearly_equal_batches_of_one_group(groups, batch, seed) -> None:
    drawn = draw_batches(np.random.default_rng(seed), groups, batch)
    assert sorted(np.concatenate(drawn)) == list(range(sum(groups)))
    assert all((np.diff(rows) > 0).all() for rows in drawn)
    group_of = np.repeat(np.arange(len(groups)), groups)
    owners = []
    for rows in drawn:
        assert len({group_of[row] for row in rows}) == 1
        owners.append(group_of[rows[0]])
    assert sum(a != b for a, b in itertools.pairwise(owners)) == len(groups) - 1  # one after the other
    for group, patches in enumerate(groups):
        sizes = [len(rows) for rows, owner in zip(drawn, owners, strict=True) if owner == group]
        assert len(sizes) == max(1, round(patches / batch)) and max(sizes) - min(sizes) <= 1
    assert batch_sizes(groups, batch) == (min(map(len, drawn)), max(map(len, drawn)))


def test_images_and_their_patches_come_in_another_order_every_time() -> None:
    rng = np.random.default_rng(0)
    epochs = [draw_batches(rng, [40] * 20, 20) for _ in range(2)]
    images = [[int(rows[0]) // 40 for rows in epoch[::2]] for epoch in epochs]
    assert sorted(images[0]) == sorted(images[1]) == list(range(20)) and images[0] != images[1]
    halves = [{tuple(rows % 40) for rows in epoch} for epoch in epochs]
    assert len(halves[0] | halves[1]) == 80
