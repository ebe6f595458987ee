import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.method.patches import patch_features


def pool(values: np.ndarray, n: int) -> np.ndarray:
    """Adaptive average pooling of a vector: window i covers floor(i m/n) to ceil((i+1) m/n)."""
    m = len(values)
    return np.array([values[i * m // n : -(-(i + 1) * m // n)].mean() for i in range(n)])


def bilinear(grid: np.ndarray, h: int, w: int) -> np.ndarray:
    """One channel, align_corners False, edges clamped."""
    H, W = grid.shape
    out = np.empty((h, w))
    for y in range(h):
        for x in range(w):
            sy, sx = (min(max((c + 0.5) * N / n - 0.5, 0), N - 1) for c, N, n in ((y, H, h), (x, W, w)))
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, H - 1), min(x0 + 1, W - 1)
            fy, fx = sy - y0, sx - x0
            top = grid[y0, x0] * (1 - fx) + grid[y0, x1] * fx
            out[y, x] = top * (1 - fy) + (grid[y1, x0] * (1 - fx) + grid[y1, x1] * fx) * fy
    return out


def oracle(levels: list[np.ndarray], s: int, level_dim: int, dim: int) -> np.ndarray:
    """The official order, in loops, for one image: gather neighbourhoods, resize each gathered channel, pool, pool."""
    h, w = levels[0].shape[1:]
    pooled = np.empty((h, w, len(levels), level_dim))
    for n, level in enumerate(levels):
        C, H, W = level.shape
        padded = np.pad(level, ((0, 0), (s // 2, s // 2), (s // 2, s // 2)))
        gathered = np.empty((C, s, s, H, W))
        for dy in range(s):
            for dx in range(s):
                gathered[:, dy, dx] = padded[:, dy : dy + H, dx : dx + W]
        channels = gathered.reshape(-1, H, W)
        if (h, w) != (H, W):
            channels = np.stack([bilinear(c, h, w) for c in channels])
        for y in range(h):
            for x in range(w):
                pooled[y, x, n] = pool(channels[:, y, x], level_dim)
    return np.array([[pool(pooled[y, x].ravel(), dim) for x in range(w)] for y in range(h)])


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([1, 3, 5]),
    st.sampled_from([(8, 6), (16,), (16, 12, 4)]),
    st.integers(3, 40),
    st.integers(2, 40),
    st.integers(0, 9),
)
def test_agrees_with_the_official_order_in_loops(s, channels, level_dim, dim, seed) -> None:
    rng = np.random.default_rng(seed)
    levels = [rng.standard_normal((c, 8 >> n, (6 >> n) + n)) for n, c in enumerate(channels)]
    got = patch_features([torch.from_numpy(x)[None].float() for x in levels], s, level_dim, dim)[0].numpy()
    np.testing.assert_allclose(got, oracle(levels, s, level_dim, dim), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1, 3, 5]), st.sampled_from([(8, 6), (16,), (5, 12, 4)]), st.integers(0, 9), st.booleans())
def test_concatenation_agrees_with_loops(s, channels, seed, pooled) -> None:
    """The mean of every channel over s x s, zeros outside the map, on the grid of the first level, end to end."""
    rng = np.random.default_rng(seed)
    levels = [rng.standard_normal((c, 8 >> n, (6 >> n) + n)) for n, c in enumerate(channels)]
    h, w = levels[0].shape[1:]
    parts = []
    for level in levels:
        C, H, W = level.shape
        mean = np.zeros((C, H, W))
        for c, y, x in np.ndindex(C, H, W):
            around = [
                level[c, y + dy, x + dx]
                for dy in range(-(s // 2), s // 2 + 1)
                for dx in range(-(s // 2), s // 2 + 1)
                if 0 <= y + dy < H and 0 <= x + dx < W
            ]
            mean[c, y, x] = sum(around) / s**2
        parts += [mean[c] if (h, w) == (H, W) else bilinear(mean[c], h, w) for c in range(C)]
    expected = np.stack(parts, -1)
    dim = expected.shape[-1] // 2 if pooled else expected.shape[-1]
    expected = np.array([[pool(expected[y, x], dim) for x in range(w)] for y in range(h)])
    got = patch_features([torch.from_numpy(x)[None].float() for x in levels], s, None, dim)[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_official_embedding_of_wide_resnet_is_a_short_linear_map() -> None:
    """Patch 3, 512 and 1024 channels, 1024 -> 1024: level 2 centre-weighted, level 3 the mean of channel pairs."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 512, 8, 8, generator=rng), torch.randn(2, 1024, 4, 4, generator=rng)
    box = torch.nn.functional.avg_pool2d
    first = (9 * box(a, 3, 1, 1) + a) / 10
    second = box(b.view(2, 512, 2, 4, 4).mean(2), 3, 1, 1)
    second = torch.nn.functional.interpolate(second, size=(8, 8), mode="bilinear", align_corners=False)
    got = patch_features([a, b], 3, 1024, 1024)
    torch.testing.assert_close(got, torch.cat([first, second], 1).permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_layout_type_and_batch_do_not_matter(batch) -> None:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(batch, c, n, n, generator=rng) for c, n in ((20, 9), (36, 5), (7, 2))]
    expected = patch_features(levels, 3, 24, 22)
    assert expected.shape == (batch, 9, 9, 22) and expected.is_contiguous()
    last = [level.to(memory_format=torch.channels_last) for level in levels]
    torch.testing.assert_close(patch_features(last, 3, 24, 22), expected)
    strided = [level.repeat_interleave(2, 3)[..., ::2] for level in levels]
    torch.testing.assert_close(patch_features(strided, 3, 24, 22), expected)
    one = torch.cat([patch_features([level[i : i + 1] for level in levels], 3, 24, 22) for i in range(batch)])
    torch.testing.assert_close(one, expected)
    rough = [level.bfloat16() for level in levels]
    torch.testing.assert_close(
        patch_features(rough, 3, 24, 22), patch_features([level.float() for level in rough], 3, 24, 22)
    )
    assert torch.equal(patch_features(levels, 3, 24, 22, torch.float16), expected.half())
