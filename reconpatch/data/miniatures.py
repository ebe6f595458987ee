"""Made-up miniatures of the published data sets: a few small drawn images in exactly the layout of each.

They are for trying the layouts without the data, whose licences and sizes forbid to ship them. Nothing in them is taken
from a data set but names, formats and the ratio of width to height. A category has a textured ground with three parts
on it; defects are spots, scratches, lacking parts and surplus ones. Every image is drawn from (layout, category, seed)
and its own name alone.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.layouts import MADE_UP_FILE
from reconpatch.errors import ReconpatchError
from reconpatch.rng import named_rng

SHORTER = 64  # px of the shorter side
COUNTS = {"train": 6, "validation": 2, "good": 3, "defective": 3, "private": 3}  # scenes; defective: of each folder
RADIUS = 9  # px of a part

Values = NDArray[np.float64]
Region = NDArray[np.bool_]


@dataclass(frozen=True)
class _Plan:
    """Folders and names of a layout, written out here, so that it does not follow the code that reads them."""

    train: str = "train/good"
    validation: str = ""
    good: str = "test/good"
    bad: str = "test/{kind}"
    kinds: tuple[str, ...] = ("bad",)  # folders of defective images
    private: tuple[tuple[str, str], ...] = ()  # folder, light: images without truth
    image: str = "{number:03}.png"
    mask: str = "ground_truth/{kind}/{stem}_mask.png"


PLANS = {
    "mvtec_ad": _Plan(kinds=("broken", "contamination")),
    "btad": _Plan(
        train="train/ok", good="test/ok", kinds=("ko",), image="{number:04}.bmp", mask="ground_truth/{kind}/{stem}.png"
    ),
    "visa": _Plan(
        train="Data/Images/Normal",
        good="Data/Images/Normal",
        bad="Data/Images/{kind}",
        kinds=("Anomaly",),
        image="{number:03}.JPG",
        mask="Data/Masks/{kind}/{stem}.png",
    ),
    "mvtec_loco": _Plan(
        validation="validation/good",
        kinds=("logical_anomalies", "structural_anomalies"),
        mask="ground_truth/{kind}/{stem}/{part:03}.png",
    ),
    "mpdd": _Plan(),
    "mvtec_ad_2": _Plan(
        validation="validation/good",
        good="test_public/good",
        bad="test_public/{kind}",
        private=(("test_private", "regular"), ("test_private_mixed", "mixed")),
        image="{number:03}_{light}.png",
        mask="test_public/ground_truth/{kind}/{stem}_mask.png",
    ),
    "dtd_synthetic": _Plan(),
}
MPDD_KINDS = {
    "bracket_black": ("hole", "scratches"),
    "bracket_brown": ("bend_and_parts_mismatch", "parts_mismatch"),
    "bracket_white": ("defective_painting", "scratches"),
    "connector": ("parts_mismatch",),
    "metal_plate": ("major_rust", "scratches", "total_rust"),
    "tubes": ("anomalous",),
}
# Names and values in masks of four of the kinds of defect of each category, and what must be found of each.
LOCO_DEFECTS = {
    "breakfast_box": (("missing_almonds", 255), ("overflow", 241), ("mixed_cereals", 238), ("contamination", 234)),
    "juice_bottle": (
        ("missing_top_label", 255),
        ("misplaced_label_top", 250),
        ("unknown_fruit_icon", 242),
        ("contamination", 238),
    ),
    "pushpins": (("missing_pushpin", 253), ("1_additional_pushpin", 255), ("color", 249), ("contamination", 248)),
    "screw_bag": (
        ("1_missing_long_screw", 245),
        ("1_additional_long_screw", 251),
        ("color", 238),
        ("part_broken", 236),
    ),
    "splicing_connectors": (("missing_connector", 249), ("extra_cable", 246), ("color", 236), ("contamination", 235)),
}
LOCO_SATURATIONS = ((300, False), (6300, False), (1.0, True), (0.5, True))  # 6300 px: more than any defect here
VISA_DEFECTS = {"spot": "different colour spot", "scratch": "small scratches"}  # 1 and 2 in masks; any category's
VISA_THREE_DIGITS = {"capsules", "cashew", "chewinggum", "fryum", "pipe_fryum"}  # in names of normal images
GREY = {"grid", "screw", "zipper"}  # categories of MVTec AD whose files have one channel
SIZES = {  # px, width and height of the published images, where these are known not to be square
    **{"breakfast_box": (1600, 1280), "juice_bottle": (800, 1600), "pushpins": (1700, 1000)},
    **{"screw_bag": (1600, 1100), "splicing_connectors": (1700, 850)},
    **{"can": (2232, 1024), "fruit_jelly": (2100, 1520), "sheet_metal": (4224, 1056), "vial": (1400, 1900)},
    **dict.fromkeys(("fabric", "rice", "wallplugs", "walnuts"), (2448, 2048)),
    "03": (800, 600),
}
# Defects of the images of one folder, in turns; those of two in one image overlap by a few px.
SURFACE = (("spot",), ("spot", "scratch"), ("scratch",))
LOGICAL = (("lacking",), ("lacking", "surplus"), ("surplus",))
# Factors of the values. A test scene of MVTec AD 2 is there under "regular" and one of the next three, in turns.
LIGHTS = {"regular": 1.0, "overexposed": 1.5, "underexposed": 0.6, "shift_1": 1.2, "mixed": 0.8}


class _Look:
    """What the images of a category share. Drawn lying: the longer side is the width."""

    def __init__(self, layout: str, category: str, seed: int) -> None:
        self.name, self.seed = f"miniature/{layout}/{category}", seed
        rng = named_rng(seed, self.name)
        width, height = SIZES.get(category, (3, 2) if layout == "visa" else (1, 1))
        self.upright, self.grey = height > width, layout == "mvtec_ad" and category in GREY
        longer = round(SHORTER * max(width, height) / min(width, height))
        self.y, self.x = np.mgrid[:SHORTER, :longer]
        self.ground, self.part = rng.uniform(100, 150, 3), rng.uniform(30, 70, 3)
        self.waves = rng.uniform(0.3, 0.9, 2)  # per px
        self.columns = [round(longer * share) for share in (0.2, 0.5, 0.8)]

    def scene(self, name: str, defects: Sequence[str] = ()) -> tuple[Values, list[Region]]:
        """Name of a scene, its defects -> (H, W, 3) values, (H, W) pixels of each defect."""
        rng = named_rng(self.seed, f"{self.name}/{name}")
        wave = np.sin(self.waves[0] * self.y + self.waves[1] * self.x + rng.uniform(0, 6))
        values = self.ground + 10 * wave[..., None]
        row, (left, middle, right) = SHORTER // 3 + rng.integers(-1, 2), self.columns + rng.integers(-1, 2, 3)
        for column in (left, right) if "lacking" in defects else (left, middle, right):
            values[self._ellipse(row, column, RADIUS, RADIUS)] = self.part
        regions: list[Region] = []
        y, x = rng.integers(20, SHORTER - 20), rng.integers(14, self.x.shape[1] - 32)
        for defect in defects:
            if defect == "lacking":  # where the part should be, with a margin: it might have been anywhere there
                region = (abs(self.y - row) < RADIUS + 4) & (abs(self.x - middle) < RADIUS + 4)
            elif defect == "surplus":
                region = self._ellipse(row + 2 * RADIUS + 1, middle, RADIUS, RADIUS)
                values[region] = self.part
            else:
                high, wide = (6, 6) if defect == "spot" else (2, 11)
                x += wide - 2 if regions else 0  # 2 px short of beside the first one
                region = self._ellipse(y, x, high, wide)
                x += wide
                values[region] = np.where(values[region] > 90, values[region] - 70, values[region] + 90)
            regions.append(region)
        values = values + rng.normal(0, 4, values.shape)
        if self.upright:
            return values.swapaxes(0, 1), [region.T for region in regions]
        return values, regions

    def _ellipse(self, row: np.integer, column: np.integer, high: int, wide: int) -> Region:
        """Centre and half axes in px -> (H, W) bool."""
        return np.asarray(((self.y - row) / high) ** 2 + ((self.x - column) / wide) ** 2 <= 1)


def write_miniature(layout: str, root: Path, *, categories: Sequence[str] | None = None, seed: int = 0) -> None:
    """Name of a published data set's layout, folder, categories (None: all) -> nothing, the miniature written there.

    The same seed gives the same bytes. Raises ReconpatchError for a layout or category that was not published.
    """
    if layout not in PLANS:
        raise ReconpatchError("not published", where=f"layout {layout!r}", fix=f"choose from {', '.join(PLANS)}")
    known = CONTENTS[layout].categories
    chosen = known if categories is None else list(dict.fromkeys(categories))
    for category in chosen:
        if category not in known:
            fix = f"choose from {', '.join(known)}"
            raise ReconpatchError(f"no category of {layout}", where=f"category {category!r}", fix=fix)
    for category in chosen:
        (root / category).mkdir(parents=True, exist_ok=True)
        (root / category / MADE_UP_FILE).write_text("These images were drawn. No number says anything about them.\n")
        for name, pixels in _files(layout, category, seed):
            path = root / category / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=95)
        if layout == "mvtec_loco":
            entries = [
                {"defect_name": name, "pixel_value": value, "saturation_threshold": px, "relative_saturation": relative}
                for (name, value), (px, relative) in zip(LOCO_DEFECTS[category], LOCO_SATURATIONS, strict=True)
            ]
            (root / category / "defects_config.json").write_text(json.dumps(entries, indent=4), encoding="utf-8")
    if layout == "visa":
        _write_visa_tables(root, chosen)


def _files(layout: str, category: str, seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Layout, category, seed -> name and pixels of every image and mask."""
    plan, look = PLANS[layout], _Look(layout, category, seed)
    for folder, kind, number, defects, lights in _scenes(layout, category):
        # The private images of MVTec AD 2 show the same scenes twice.
        name = f"{plan.private[0][0] if folder in dict(plan.private) else folder}/{number}"
        values, regions = look.scene(name, defects)
        numbers = [_value(layout, category, defect) for defect in defects]
        for light in lights:
            image = PurePosixPath(folder, _image_name(layout, category, kind, number, light))
            lit = np.clip(values * LIGHTS[light], 0, 255).astype(np.uint8)
            yield str(image), np.asarray(Image.fromarray(lit).convert("L")) if look.grey else lit
            masks: dict[str, NDArray[np.uint8]] = {}
            for part, (region, value) in enumerate(zip(regions, numbers, strict=True)):
                mask = plan.mask.format(kind=kind, stem=image.stem, part=part) if kind else ""
                if (layout, category) == ("btad", "03"):
                    mask = mask.replace(".png", ".bmp")
                masks.setdefault(mask, np.zeros(region.shape, np.uint8))[region] = value
            masks.pop("", None)  # of private images
            yield from masks.items()


def _scenes(layout: str, category: str) -> Iterator[tuple[str, str, int, tuple[str, ...], tuple[str, ...]]]:
    """Layout, category -> of every scene its folder, kind of its masks' folder ("": no masks), number, defects, and
    the lights under which it is there.
    """
    plan, regular = PLANS[layout], ("regular",)
    for n in range(COUNTS["train"]):
        yield plan.train, "", n, (), regular
    for n in range(COUNTS["validation"] if plan.validation else 0):
        yield plan.validation, "", n, (), regular
    lights = [("regular", other) if plan.private else regular for other in tuple(LIGHTS)[1:4]]
    first = COUNTS["train"] if plan.good == plan.train else 0
    for n in range(COUNTS["good"]):
        yield plan.good, "", first + n, (), lights[n % 3]
    for turn, kind in enumerate(MPDD_KINDS[category] if layout == "mpdd" else plan.kinds):
        defects = LOGICAL if kind == "logical_anomalies" else SURFACE
        for n in range(COUNTS["defective"]):
            yield plan.bad.format(kind=kind), kind, n, defects[(n + turn) % 3], lights[n % 3]
    for folder, light in plan.private:
        for n in range(COUNTS["private"]):
            yield folder, "", n, ((), *SURFACE)[n % 4], (light,)


def _image_name(layout: str, category: str, kind: str, number: int, light: str) -> str:
    """What an image is called."""
    if layout == "visa" and not kind and category not in VISA_THREE_DIGITS:
        return f"{number:04}.JPG"
    name = PLANS[layout].image.format(number=number, light=light)
    return name.replace(".bmp", ".png") if (layout, category) == ("btad", "02") else name


def _value(layout: str, category: str, defect: str) -> int:
    """The value of a defect in masks."""
    if layout == "mvtec_loco":
        return LOCO_DEFECTS[category][("lacking", "surplus", "spot", "scratch").index(defect)][1]
    return [*VISA_DEFECTS].index(defect) + 1 if layout == "visa" else 255


def _write_visa_tables(root: Path, categories: Sequence[str]) -> None:
    """The table of all images, and one of the types of defect for each category, with several in one cell."""
    split: list[tuple[str, ...]] = [("object", "split", "label", "image", "mask")]
    for category in categories:
        types = [("image", "label", "mask")]
        for position, (folder, kind, number, defects, (light,)) in enumerate(_scenes("visa", category)):
            image = f"{category}/{folder}/{_image_name('visa', category, kind, number, light)}"
            mask = f"{category}/Data/Masks/{kind}/{PurePosixPath(image).stem}.png" if kind else ""
            part = "train" if position < COUNTS["train"] else "test"
            split.append((category, part, "anomaly" if kind else "normal", image, mask))
            types.append((image, ", ".join(VISA_DEFECTS[defect] for defect in defects) or "normal", mask))
        _write_csv(root / category / "image_anno.csv", types)
    _write_csv(root / "split_csv/1cls.csv", split)


def _write_csv(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Rows -> a CSV file with line ends of Windows, which the published tables have."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
