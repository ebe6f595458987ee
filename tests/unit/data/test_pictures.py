"""What is remarked on in images and masks, as a user meets it: files that are saved, decoded and measured."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiffs import tiff

from reconpatch.data.decoding import decode, to_rgb
from reconpatch.data.pictures import image_facts, mask_facts
from reconpatch.data.remarks import (
    EXTRA_BANDS,
    FEW_BITS,
    FEW_VALUES,
    INVERTED,
    MASK_ALPHA,
    ONE_COLOUR,
    TRANSPARENT,
    ImageFacts,
    image_remarks,
    mask_problems,
    mask_remarks,
    told_apart_by_files,
)

NOISE = np.random.default_rng(0).integers(0, 256, (150, 130, 3)).astype(np.uint8)
ALPHA = np.full((150, 130, 1), 255, np.uint8)


def png(values: np.ndarray) -> bytes:
    return saved(Image.fromarray(values))


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return buffer.getvalue()


def with_spot(value: int, depth: type = np.uint8) -> np.ndarray:
    """A picture of 100 everywhere but in one pixel, which a sample of the picture misses."""
    values = np.full((150, 130), 100, depth)
    values[1, 1] = value
    return values


def cut_out() -> np.ndarray:
    """Its left half is transparent, with colours below."""
    alpha = ALPHA.copy()
    alpha[:, :65] = 0
    return np.dstack([NOISE, alpha])


def grey16(top: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, top, (150, 130)).astype(np.uint16)


palette = Image.fromarray(NOISE).convert("P")
IMAGES = [
    (png(NOISE), ()),
    (png(NOISE[..., 0]), ()),
    (png(np.dstack([NOISE, ALPHA])), ()),  # opaque
    (png(cut_out()), (TRANSPARENT,)),
    (png(cut_out()[..., 2:]), (TRANSPARENT,)),  # grey and alpha
    (saved(palette), ()),
    (saved(palette, transparency=int(np.asarray(palette)[0, 0])), (TRANSPARENT,)),
    (png(np.zeros_like(NOISE)), (ONE_COLOUR,)),
    (png(np.full_like(NOISE, 255)), (ONE_COLOUR,)),
    (png(np.tile(np.uint8([200, 20, 90]), (150, 130, 1))), (ONE_COLOUR,)),
    (png(np.ones((150, 130), bool)), (ONE_COLOUR,)),
    (png(with_spot(131)), (FEW_VALUES,)),
    (png(with_spot(132)), ()),
    (png(NOISE // 8), (FEW_VALUES,)),
    (png(grey16(2**10)), (FEW_BITS,)),
    (png(grey16(2**12)), (FEW_BITS,)),
    (png(grey16(2**14)), (FEW_BITS,)),
    (png(grey16(2**15)), ()),
    (png(grey16(2**16)), ()),
    (png(np.zeros((150, 130), np.uint16)), (ONE_COLOUR,)),
    (tiff(NOISE.astype(int) * 16, 16, 2), (FEW_BITS,)),  # 12 bits, in colour
    (tiff(NOISE.astype(int) * 257, 16, 2), ()),
    (tiff(grey16(2**12)[..., None], 12, 1), ()),  # the file says that these are all of its bits
    (tiff(np.dstack([NOISE, NOISE[..., :2]]), 8, 2, extra=(0, 0)), (EXTRA_BANDS,)),
]


@pytest.mark.parametrize(("content", "notes"), IMAGES)
def test_notes_on_the_content_of_images(content, notes) -> None:
    picture = decode(content, Path("a"))
    facts = image_facts("a", picture, to_rgb(picture.image))
    assert facts.notes == notes
    remarks = "\n".join(image_remarks([facts]))
    assert all(f"images {note}: 1 (a)" in remarks for note in notes)


def mask(*box: int) -> np.ndarray:
    """White in rows and columns from, to; else black."""
    values = np.zeros((40, 50), np.uint8)
    top, bottom, left, right = box
    values[top:bottom, left:right] = 255
    return values


FRAME = 255 - mask(1, 39, 1, 49)
MASKS = [
    (png(mask(5, 9, 5, 30)), 100, ()),
    (png(mask(0, 0, 0, 0)), 0, ()),
    (png(mask(0, 40, 0, 25)), 1000, ()),  # half, and not all of the border
    (png(mask(0, 40, 0, 26)), 1040, (INVERTED,)),
    (png(255 - mask(5, 9, 5, 30)), 1900, (INVERTED,)),
    (png(FRAME), 176, (INVERTED,)),
    (png(mask(0, 40, 0, 50)), 2000, ()),  # has a remark of its own
    (png(np.dstack([mask(0, 40, 0, 50)] * 3 + [mask(5, 9, 5, 30)])), 2000, (MASK_ALPHA,)),
]


@pytest.mark.parametrize(("content", "marked", "notes"), MASKS)
def test_notes_on_masks(content, marked, notes) -> None:
    facts = mask_facts("m.png", decode(content, Path("m")))
    assert (facts.width, facts.height, facts.marked, facts.notes) == (50, 40, marked, notes)


def masks_said(name: str, content: bytes) -> list[str]:
    """What is remarked on in a mask of an image of its size, by its file."""
    facts = mask_facts(name, decode(content, Path(name)))
    return list(mask_remarks([(facts, ImageFacts("i.png", "", "", facts.width, facts.height), 1)]))


def test_a_mask_that_is_a_jpeg_is_said_to_be_one_whatever_it_is_called() -> None:
    """Its grey values change the pixel metrics; those of a png have another cause."""
    shape = mask(5, 19, 5, 30)
    jpeg, grey = saved(Image.fromarray(shape), format="JPEG", quality=75), shape.copy()
    grey[6:8, 6:8] = 128
    for name in ("a.jpg", "a.png"):
        (said,) = masks_said(name, jpeg)
        assert "JPEG" in said and "pixel metrics" in said and "png" in said and said.endswith(f": 1 ({name})")
    (said,) = masks_said("a.png", png(grey))
    assert "4 px in all" in said and "JPEG" not in said
    assert masks_said("a.jpg", saved(Image.fromarray(shape * 0 + 255), format="JPEG"))[0].startswith(
        "masks of the whole"
    )


def test_masks_of_0_and_1_need_no_remark() -> None:
    classes = mask(5, 9, 5, 30) // 255
    for values in (classes, classes.astype(np.uint16), np.dstack([classes] * 3)):
        assert masks_said("a.png", png(values)) == []
    more = classes.astype(np.uint16) * 2  # 2 and 1 of 65535 are both nearly black, and not the same
    more[5, 5] = 1
    for values in (classes * 2, classes * 128, more):
        assert len(masks_said("a.png", png(values))) == 1


def test_masks_are_refused_that_contradict_their_image() -> None:
    empty, marked = (mask_facts("m", decode(png(mask(0, n, 0, n)), Path("m"))) for n in (0, 9))
    fits, other = (50, 40), (40, 50)
    assert not mask_problems(marked, "m.png", "i.png", fits, 1) and not mask_problems(empty, "m.png", "i.png", fits, 0)
    assert not mask_problems(marked, "m.png", "i.png", None, 1)  # the image could not be read
    for facts, size, label, words in (
        (marked, other, 1, "50x40 px, its image 40x50"),
        (empty, fits, 1, "empty"),
        (marked, fits, 0, "marks 81 px of a normal image"),
    ):
        (problem,) = mask_problems(facts, "m.png", "i.png", size, label)
        assert problem.where == "m.png" and words in str(problem)


def test_other_modes_than_at_fit_and_groups_told_apart() -> None:
    grey, colour = (ImageFacts(f"{mode}.png", "", "", 8, 8, mode, "PNG") for mode in ("L", "RGB"))
    memory = ImageFacts("image 3", "", "", 8, 8)  # has no suffix, and no format
    assert list(image_remarks([grey, colour, memory])) == list(image_remarks([colour], ["RGB"])) == []
    (remark,) = image_remarks([grey, colour, memory], ["RGB"])
    assert "other modes" in remark and "(RGB): 1 (L.png: L)" in remark
    assert list(told_apart_by_files("anomalous", [grey], "normal", [colour])) == [
        "anomalous images differ from all normal ones in mode: L; RGB"
    ]
    assert not list(told_apart_by_files("anomalous", [], "normal", [colour]))
    assert not list(told_apart_by_files("calibration", [memory], "fitted", [colour]))  # of a format it says nothing
