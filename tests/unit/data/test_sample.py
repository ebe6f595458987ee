from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reconpatch.data import sample
from reconpatch.data.index import index
from reconpatch.errors import ReconpatchError


def test_same_seed_same_bytes_and_layout(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sample, "COUNTS", {"train": 4, "good": 3, "defect": 2})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample.write_sample(tmp_path / name / "brick", "brick", seed)
    a, b, c = (index("mvtec_ad", tmp_path / name, "brick") for name in "abc")
    assert a == b
    assert {i.sha256 for i in a}.isdisjoint(i.sha256 for i in c)
    assert sum(i.split == "train" for i in a) == 4
    assert {i.defect for i in a if i.label} == set(sample.DEFECTS)
    assert all(i.masks for i in a if i.label)


def test_test_crops_come_from_rows_training_never_sees(tmp_path, monkeypatch) -> None:
    """On a photograph whose grey value tells its half, no crop mixes the two."""
    rows = np.where(np.arange(512) < sample.TRAIN_ROWS, 50, 200).astype(np.uint8)
    photograph = np.repeat(rows[:, None], 512, 1)
    monkeypatch.setattr(sample, "photographs", SimpleNamespace(grass=lambda: photograph))
    sample.write_sample(tmp_path, "grass", 0)
    assert {np.asarray(Image.open(p)).max() for p in (tmp_path / "train/good").iterdir()} == {50}
    assert {np.asarray(Image.open(p)).min() for p in (tmp_path / "test/good").iterdir()} == {200}


@pytest.mark.parametrize("defect", sample.DEFECTS)
@pytest.mark.parametrize("seed", range(5))
def test_masks_are_exact(defect: str, seed: int) -> None:
    """Nothing outside the mask changes; most of what lies inside does."""
    rng = np.random.default_rng(seed)
    photograph = sample.photographs.gravel()
    clean = sample._crop(photograph, rng)
    changed, region = sample.DEFECTS[defect](clean, photograph, rng)
    assert changed.dtype == np.uint8 and region.any() and region.mean() < 0.3
    assert np.array_equal(changed[~region], clean[~region])
    assert (changed[region] != clean[region]).mean() > 0.5


def test_unknown_category(tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=r"'sand'.*brick, grass, gravel"):
        sample.write_sample(tmp_path, "sand", 0)
