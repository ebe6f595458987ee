"""Small pictures of one category's test images, with ground truth and anomaly maps, for the report.

A file of thumbnails holds the pictures and what the report says of them. A method *alarms* on an image whose score
reaches the threshold of the best image F1. That threshold is chosen on the test images, so the errors shown here are
the fewest that any threshold leaves by that measure.
"""

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Group = Literal["disagreement", "false alarm", "miss", "right", "unjudged"]
GROUPS: tuple[Group, ...] = get_args(Group)  # in the order in which the report shows them
SIDE = 128  # px of a panel's longer side: image and maps of two methods fit side by side on a phone
GAP = 3  # px between panels
LIMIT = 20 * 10**6  # bytes of pictures in one report
WORST = 24  # images of a category that `report_images: worst` keeps at most
NEAREST = 2  # of these, normal and anomalous ones that are judged rightly, but are nearest to the threshold
QUALITY = 60  # of WebP


class Thumbnail(BaseModel):
    """One test image: its truth, what each method says of it, and the picture of all panels side by side."""

    model_config = ConfigDict(extra="forbid")

    path: str  # below the folder of the category
    defect_type: str
    anomalous: bool
    scores: list[float]  # by method
    alarms: list[bool]  # by method; without thresholds empty
    group: Group
    picture: str  # data URI


class Thumbnails(BaseModel):
    """The thumbnails of one category, in the order in which they are shown, and how many images there are of each
    group, with those that were left out.
    """

    model_config = ConfigDict(extra="forbid")

    dataset: str
    category: str
    panel: tuple[int, int]  # (height, width) of each part of a picture
    methods: list[str]  # names that tell the runs apart
    runs: list[str]
    digests: list[str]  # of the scores that the maps were made from, by run
    thresholds: list[float | None]  # of the best image F1, by run
    about: str  # network, weights, settings and flags of the runs
    counts: dict[Group, int]
    dropped: int = 0  # images that were to be shown, but whose pictures are more than a report may hold
    images: list[Thumbnail]


def write_thumbnails(path: Path, content: Thumbnails) -> None:
    """Write a file of thumbnails, whole or not at all."""
    write_text(path, content.model_dump_json(indent=1) + "\n")


def read_thumbnails(path: Path) -> Thumbnails:
    """File -> Thumbnails. Raises ReconpatchError naming the file if it is not one of them."""
    try:
        return Thumbnails.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fix = "remove it and run again"
        raise ReconpatchError(f"not a file of thumbnails ({error})", where=path, fix=fix) from None


def group_of(anomalous: bool, alarms: Sequence[bool]) -> Group:
    """(truth, whether each method alarms) -> the group of an image; without alarms nobody judges."""
    if not alarms:
        return "unjudged"
    if len(set(alarms)) > 1:
        return "disagreement"
    if alarms[0] == anomalous:
        return "right"
    return "miss" if anomalous else "false alarm"


def in_order(groups: Sequence[Group], scores: Sequence[float]) -> list[int]:
    """(group of every image, its score by the last method) -> indices as the report shows them: by group, then by
    score from the highest; misses from the lowest, so that the clearest error comes first everywhere.
    """
    ascending: dict[Group, int] = {"miss": 1}
    return sorted(range(len(groups)), key=lambda i: (GROUPS.index(groups[i]), ascending.get(groups[i], -1) * scores[i]))


def worst(order: Sequence[int], groups: Sequence[Group], anomalous: Sequence[bool]) -> list[int]:
    """(indices in order, group and truth of every image) -> those that `worst` keeps, in the same order: up to WORST
    that a method judges wrongly, and the rightly judged ones that come nearest to an error.

    Without a threshold the highest scores are kept.
    """
    right = [i for i in order if groups[i] == "right"]
    wrong = [i for i in order if groups[i] != "right"]
    normal = [i for i in right if not anomalous[i]][:NEAREST]
    defective = [i for i in right if anomalous[i]][-NEAREST:]
    return [*wrong[: WORST - len(normal) - len(defective)], *sorted([*normal, *defective], key=order.index)]


def within_limit(files: Iterable[Thumbnails], limit: int = LIMIT) -> list[list[Thumbnail]]:
    """Thumbnails of several categories -> of each those that fit into `limit` bytes of pictures together.

    The first of every category come first, then the second of every category, and so on: no category is left out for
    the sake of another's last images.
    """
    every = [file.images for file in files]
    kept: list[list[Thumbnail]] = [[] for _ in every]
    left = limit
    for row in range(max(map(len, every), default=0)):
        for images, chosen in zip(every, kept, strict=True):
            if row < len(images) and (left := left - len(images[row].picture)) >= 0:
                chosen.append(images[row])
        if left < 0:
            break
    return kept


def counted(groups: Iterable[Group]) -> dict[Group, int]:
    """Groups of all images -> how many there are of each, in their order."""
    counts = Counter(groups)
    return {group: counts[group] for group in GROUPS if counts[group]}


def panel_shape(height: int, width: int) -> tuple[int, int]:
    """(height, width) of what the network sees -> those of a panel."""
    longest = max(height, width)
    return max(1, round(SIDE * height / longest)), max(1, round(SIDE * width / longest))


def outlined(image: "NDArray[np.uint8]", mask: "NDArray[np.bool_]") -> "NDArray[np.uint8]":
    """((H, W, 3) image, mask of the same scene in another size) -> the image with an outline on the mask's outer side.

    A defect of a few pixels does not vanish: a pixel of the image is defective where any pixel below it is.
    """
    import numpy as np
    from matplotlib.colors import to_rgb
    from PIL import Image
    from scipy.ndimage import binary_dilation

    from reconpatch.results.figures.maps import GROUND_TRUTH

    size = (image.shape[1], image.shape[0])
    marked = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0
    result = image.copy()
    result[binary_dilation(marked, iterations=2) & ~marked] = np.round(255 * np.array(to_rgb(GROUND_TRUTH)))
    return result


def picture(
    image: "NDArray[np.uint8]", mask: "NDArray[np.bool_]", maps: Sequence["NDArray[np.float32]"],
    limits: Sequence[tuple[float, float]],
) -> str:  # fmt: skip
    """((H, W, 3) image, (H, W) mask, maps of `panel_shape`, the values that the colours of each map span) -> data
    URI of the image and the maps side by side. On the image the ground truth is outlined on its outer side.
    """
    import numpy as np
    from matplotlib import colormaps
    from PIL import Image

    height, width = panel_shape(*mask.shape)
    photograph = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    photograph = outlined(photograph, mask)
    colours = colormaps["plasma"]
    panels = [photograph]
    for each, (low, high) in zip(maps, limits, strict=True):
        scaled = np.clip((each - low) / max(high - low, 1e-12), 0, 1)
        panels.append((colours(scaled)[..., :3] * 255).round().astype(np.uint8))
    stream = BytesIO()
    gap = np.full((height, GAP, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([part for panel in panels for part in (gap, panel)][1:], 1)).save(
        stream, "WEBP", quality=QUALITY, method=6
    )
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
