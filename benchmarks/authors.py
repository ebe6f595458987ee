"""sPRO and AUPRO against MVTec's own evaluation code: python benchmarks/authors.py LOCO_FOLDER [MVTEC_AD_FOLDER].

The folders are your copies of the code for MVTec LOCO AD (with `src/metrics.py`) and MVTec AD (`pro_curve_util.py`),
which may not be passed on. It needs tifffile and tqdm, as `make install` brings. Maps and defects are drawn.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from reconpatch.method.metrics import by_kind, pixel_metrics
from reconpatch.method.saturated import Defects

# px of a side, sigma of the noise, decimals of scores
CASES = [(64, 0, 9), (64, 4, 9), (64, 0, 1), (96, 1, 9), (128, 4, 9), (160, 6, 2), (200, 4, 9), (200, 0, 9)]
SETS = ("all", "logical", "structural")


@dataclass(frozen=True)
class Case:
    """Maps and masks (N, H, W), the kind of each image, its defects and the saturation of each: a share or px."""

    maps: NDArray[np.float32]
    masks: NDArray[np.bool_]
    kinds: NDArray[np.str_]
    defects: Defects
    saturations: Sequence[float | int]

    def chosen(self, name: str) -> NDArray[np.int64]:
        """The images of a set: all, or those of a kind and the normal ones."""
        return np.flatnonzero(np.isin(self.kinds, ("", name)) | (name == "all"))


def drawn(seed: int, side: int, sigma: float, decimals: int) -> Case:
    """A third of the images is normal; the others have 1 to 4 ellipses or rectangles, parts of which stand out."""
    rng = np.random.default_rng(seed)
    kinds = np.array([("", "logical", "structural")[n % 3] for n in range(side // 8 + 4)])
    maps = gaussian_filter(rng.standard_normal((len(kinds), side, side)), (0, sigma, sigma))
    maps *= rng.uniform(0.2, 1) / maps.std()
    found = []
    y, x = np.mgrid[:side, :side]
    for n in np.flatnonzero(kinds != "").repeat(4)[rng.random(4 * (kinds != "").sum()) < 0.6]:
        height, width = rng.integers(4, side // 2, 2)
        dy, dx = y - rng.integers(height // 2, side), x - rng.integers(width // 2, side)
        ellipse = (2 * dy / height) ** 2 + (2 * dx / width) ** 2 <= 1
        mask = ellipse if rng.random() < 0.5 else (abs(dy) < height / 2) & (abs(dx) < width / 2)
        area = int(mask.sum())
        saturation = float(rng.choice([0.25, 0.5, 1])) if rng.random() < 0.5 else int(rng.integers(1, 2 * area))
        least = max(1, int(saturation * area)) if isinstance(saturation, float) else min(saturation, area)
        found.append((n, mask, least, saturation))
        maps[n] += 2 * rng.random() * (mask & (gaussian_filter(rng.standard_normal(mask.shape), 5) > -0.02))
    image, alone, pixels, saturations = zip(*found, strict=True)
    defects = Defects(np.array(image), np.stack(alone), np.array(pixels))
    masks = np.stack([defects.mask[defects.image == n].any(0) for n in range(len(kinds))])
    return Case(maps.round(decimals).astype(np.float32), masks, kinds, defects, saturations)


def loco(case: Case) -> Iterator[tuple[str, str, float]]:
    """A case -> (metric, set, value) by LOCO's code: as it refines thresholds, and with every score if few differ."""
    from src import aggregation, image, util  # type: ignore[import-not-found]

    channels: list[list[Any]] = [[] for _ in case.maps]
    for n, mask, saturation in zip(case.defects.image, case.defects.mask, case.saturations, strict=True):
        config = image.DefectConfig("drawn", 1, saturation, isinstance(saturation, float))
        channels[n].append(image.GroundTruthChannel(mask, config))
    truths = [image.GroundTruthMap(each) if each else None for each in channels]
    maps = [image.AnomalyMap(each) for each in case.maps]
    refined, every = (aggregation.MetricsAggregator(truths, maps) for _ in range(2))
    try:
        refined.run(curve_max_distance=0.001)
    except AssertionError:  # equal thresholds, without the change that docs/datasets.md names
        refined.threshold_metrics = None
    scores = np.unique(case.maps)[::-1].astype(float)  # in parts, because each makes an array of all px
    parts = [scores[:1] + 1, *np.array_split(scores, len(scores) // 1000 + 1), scores[-1:] - 1]
    for part in parts if len(scores) <= 60_000 else ():
        every._refinement_callback(part)
    for how, made in (("refined", refined.threshold_metrics), ("every score", every.threshold_metrics)):
        for name in SETS if made else ():
            part = made.reduce_to_images([maps[n] for n in case.chosen(name)])
            yield f"spro_05, {how}", name, util.get_auc_for_max_fpr(part.get_fp_rates(), part.get_mean_spros(), 0.05)


def mvtec_ad(case: Case) -> Iterator[tuple[str, str, float]]:
    """A case -> (metric, set, value) by MVTec AD's code."""
    from generic_util import trapezoid  # type: ignore[import-not-found]
    from pro_curve_util import compute_pro  # type: ignore[import-not-found]

    for name in SETS:
        rates, overlaps = compute_pro(case.maps[case.chosen(name)], case.masks[case.chosen(name)].astype(np.uint8))
        for metric, limit in (("aupro_05", 0.05), ("aupro_30", 0.3)):
            yield metric, name, trapezoid(rates, overlaps, x_max=limit) / limit


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    sys.path += (folders := parser.parse_args().folders)
    largest: dict[str, list[float]] = {}
    for seed, settings in enumerate(CASES):
        case = drawn(seed, *settings)
        arrays = (case.maps.max((1, 2)), (case.kinds != "").astype(int), case.maps, case.masks)
        ours = {"all": pixel_metrics(*arrays[2:], defects=case.defects)}
        ours |= by_kind(case.kinds.tolist(), *arrays, defects=case.defects)
        for code in (loco, mvtec_ad)[: len(folders)]:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                theirs = list(code(case))
            for metric, name, value in theirs:
                difference = float(ours[name][metric.split(",")[0]] or 0) - value
                largest.setdefault(metric, []).append(abs(difference))
                print(f"{settings}, {name}, {metric}: theirs {value:.9f}, ours {difference:+.1e}", flush=True)
    print(*(f"{name}: {len(each)} values, at most {max(each):.1e}" for name, each in largest.items()), sep="\n")
