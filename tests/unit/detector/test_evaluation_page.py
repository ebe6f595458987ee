"""The page of `evaluate --report`: what it shows, and how it reads in Debian's Chromium."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium, quiet_page
from drawing import write_mask
from PIL import Image
from playwright.sync_api import Browser, Page

from reconpatch.detector.comparison import compare
from reconpatch.detector.evaluation_page import LONGEST_SIDE, WORST, Shown, disagreements, worst, write_page
from reconpatch.detector.measures import Evaluation, InView, Scores, measure
from reconpatch.detector.predict import TEXT_HEIGHT
from reconpatch.detector.truth import Truth

TYPES = ["good"] * 20 + ["scratch"] * 20 + ["a_type_of_defect_with_a_name_that_is_as_long_as_folders_may_have"] * 3
NAMES = [f"folder/{name}/{n:03}.png" for n, name in enumerate(TYPES)]
PAGES = ("one", "two")


def scores(seed: int, threshold: float | None = 0.7) -> Scores:
    values = np.random.default_rng(seed).random(len(TYPES)) + 0.2 * np.array([name != "good" for name in TYPES])
    return Scores.above(values, threshold, "of the model")


def evaluation(seed: int, mask: Path | None = None, threshold: float | None = 0.7) -> Evaluation:
    truths = [Truth(int(name != "good"), name, mask if name != "good" else None) for name in TYPES]
    return measure(NAMES, truths, scores(seed, threshold))


def overlays(size: tuple[int, int] = (640, 400), noise: bool = False):
    """Grey overlays, or such of noise, with the line of text above that those of `predict` have."""

    def draw(numbers) -> Iterator[Image.Image]:
        for n in numbers:
            values = np.full((size[1] + TEXT_HEIGHT, size[0], 3), 90, np.uint8)
            if noise:
                values = np.random.default_rng(n).integers(0, 256, values.shape).astype(np.uint8)
            values[:TEXT_HEIGHT] = 255
            yield Image.fromarray(values)

    return draw


def pictures(text: str) -> list[Image.Image]:
    """The JPEGs in a page."""
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    return [Image.open(BytesIO(base64.b64decode(each))) for each in found]


def test_the_worst_images_are_errors_with_the_clearest_first() -> None:
    one = evaluation(0)
    values, alarms, labels = one.scores.values, one.scores.alarms, one.labels
    missed, false = worst(one)
    assert set(missed.images) == set(np.flatnonzero((labels == 1) & ~alarms))
    assert set(false.images) == set(np.flatnonzero((labels == 0) & alarms))
    assert list(values[missed.images]) == sorted(values[missed.images])
    assert list(values[false.images]) == sorted(values[false.images], reverse=True)
    lowest, highest = worst(evaluation(0, threshold=None))
    assert len(lowest.images) == 23 and values[lowest.images[0]] == values[labels == 1].min()
    assert len(highest.images) == 20 and values[highest.images[0]] == values[labels == 0].max()
    first, second = evaluation(0), evaluation(1)
    groups = {group.title: group.images for group in disagreements(first, second)}
    for n, (a, b) in enumerate(zip(first.scores.alarms, second.scores.alarms, strict=True)):
        inside = [title for title, images in groups.items() if n in images]
        wanted = {
            (1, True, False): ["Defects that only A finds"],
            (1, False, True): ["Defects that only B finds"],
            (1, False, False): ["Defects that neither finds"],
            (0, True, False): ["False alarms of A only"],
            (0, False, True): ["False alarms of B only"],
            (0, True, True): ["False alarms of both"],
        }
        assert inside == wanted.get((int(labels[n]), bool(a), bool(b)), [])


def test_pictures_are_small_and_outline_the_truth_where_it_is(tmp_path) -> None:
    """Without the line of text above; the outline lies around the mask's box, scaled."""
    write_mask(tmp_path / "m.png", (1280, 800), (320, 200, 640, 400))
    shown = Shown("model", [], [], evaluation(0, tmp_path / "m.png"), overlays())
    write_page(tmp_path / "page.html", [shown], None)
    made = pictures((tmp_path / "page.html").read_text())
    missed, false = worst(shown.evaluation)
    assert len(made) == min(WORST, len(missed.images)) + min(WORST, len(false.images))
    assert all(max(each.size) == LONGEST_SIDE and each.size == (480, 300) for each in made)
    pixels = np.asarray(made[0].convert("RGB")).astype(int)
    orange = np.abs(pixels - np.array([255, 140, 0])).sum(-1) < 150
    rows, columns = np.flatnonzero(orange.any(1)), np.flatnonzero(orange.any(0))
    for got, want in zip((columns[0], columns[-1], rows[0], rows[-1]), (120, 240, 75, 150), strict=True):
        assert abs(got - want) <= 4
    assert not orange[80:145, 125:235].any() and pixels[:5].max() < 140


def test_the_pictures_of_a_page_have_a_limit_and_what_is_left_out_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("reconpatch.detector.evaluation_page.LIMIT", 400_000)
    write_page(tmp_path / "page.html", [Shown("model", [], [], evaluation(0), overlays(noise=True))], None)
    text = (tmp_path / "page.html").read_text()
    made = re.findall(r"data:image/jpeg;base64,[^\"]+", text)
    assert 200_000 < sum(map(len, made)) <= 400_000
    left_out = re.search(r"Pictures of (\d+) images are left out", text)
    missed, false = (min(WORST, len(group.images)) for group in worst(evaluation(0)))
    assert left_out and int(left_out[1]) == missed + false - len(made)


def test_images_without_overlays_are_named(tmp_path) -> None:
    nothing = Shown("found/scores.csv", [], [], evaluation(0), lambda numbers: iter([None] * len(numbers)))
    write_page(tmp_path / "page.html", [nothing], None)
    text = (tmp_path / "page.html").read_text()
    assert not pictures(text) and all(NAMES[n] in text for group in worst(evaluation(0)) for n in group.images[:WORST])


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A page of one model, and one of two."""
    folder = tmp_path_factory.mktemp("pages")
    write_mask(folder / "m.png", (640, 400), (100, 100, 200, 200))
    first, second = (evaluation(seed, folder / "m.png") for seed in (0, 1))
    defects = [name for name, truth in zip(NAMES, first.truths, strict=True) if truth.label]
    in_view = InView(len(defects), defects[:7], defects[7:9], 0.8)
    first = Evaluation(**{n: getattr(first, n) for n in first.__dataclass_fields__} | {"view": in_view})
    lines, marks = [f"identity: {'0123456789abcdef' * 4}", "<b>weights</b> & more"], ["random weights"]
    shown = [
        Shown(f"a/long/path/{'x' * 80}/{n}", lines, marks, each, overlays()) for n, each in enumerate((first, second))
    ]
    for name, count in zip(PAGES, (1, 2), strict=True):
        comparison = compare(("a", "b"), first, second) if count == 2 else None
        write_page(folder / f"{name}.html", shown[:count], comparison)
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(params=PAGES)
def page(request, browser: Browser, files: dict[str, Path]) -> Iterator[Page]:
    with quiet_page(browser, files[request.param]) as opened:
        yield opened


def test_the_page_is_never_wider_than_the_screen(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for width in (360, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: Any, page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    violations = Axe().run(page).response["violations"]
    assert not [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in violations]


def test_figures_and_pictures_are_described_and_enlarge_by_keyboard(page: Page) -> None:
    images = page.locator("main img")
    texts = [image.get_attribute("alt") for image in images.all()]
    assert all(texts) and any("Area" in text or "area" in text for text in texts)
    assert all(page.evaluate("[...document.querySelectorAll('main img')].map(each => each.naturalWidth > 0)"))
    button = page.locator("#figures button.enlarge").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible() and "ROC" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert button.evaluate("button => button === document.activeElement")


def test_tables_say_what_the_evaluation_says(page: Page, files: dict[str, Path]) -> None:
    """Each type of defect with its count, its share above the threshold, and how many lie out of view."""
    one = evaluation(0)
    cells = page.locator("#types table").first.locator("tbody tr").filter(has_text="scratch").locator("> *")
    found = one.threshold.detected_by_type["scratch"]
    texts = cells.all_inner_texts()
    assert texts[:3] == ["scratch", "20", f"{found.above} of 20"] and f"{one.type_auroc['scratch']:.4f}" in texts
    assert texts[-2:] == ["7", "2"] and page.locator("#summary").inner_text().count("random weights") >= 1
    assert "<b>weights</b> & more" in page.content().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert page.locator("main b").count() == 0
