"""The report in a browser: Debian's Chromium, without a window, reads a page of made-up results."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium, quiet_page
from PIL import Image
from playwright.sync_api import Browser, Page

from reconpatch.experiments.outputs import Section
from reconpatch.results.report import render
from reconpatch.results.thumbnails import GROUPS, SIDE, Thumbnail, Thumbnails, picture

WIDE = "".join(f"<th>column {n} of a table that is wider than a phone</th>" for n in range(12))
# As `formats.to_html` writes tables without and with a paper view.
PLAIN = f"""<figure><figcaption>Plain table</figcaption><div><table><thead><tr><th>category</th><th>dim</th>
<th>value</th>{WIDE}</tr></thead><tbody>{{rows}}
</tbody></table></div>
<details class="notes"><summary>Notes</summary><ul><li>A note of the plain table.</li></ul></details></figure>"""
VALUES = {"bottle": 99.5, "pill": 9.25, "screw": None, "wood": 100.0, "zipper": 98.0, "tile": -3.0}
PAPER = """<div class="paper-view"><figure><figcaption>Table 1. As the paper has it.</figcaption><div><table><thead>
<tr><th scope="col" rowspan="2">method</th><th scope="colgroup" colspan="2">1 %</th></tr>
<tr><th scope="col">image</th><th scope="col">pixel</th></tr></thead><tbody>
<tr><th scope="row">PatchCore</th><td data-value="99.1">99.1 (99.0)</td><td data-value="98">98.0</td></tr>
<tr><th scope="row">ReConPatch</th><td class="best" data-value="98.5">98.5</td><td data-value="98.2">98.2</td></tr>
</tbody></table></div><details class="notes"><summary>Notes</summary><ul><li>A note.</li></ul></details></figure></div>
<details class="long-view"><summary>All values</summary>LONG</details>"""


def row(category: str, n: int, value: float | None) -> str:
    text = "–" if value is None else f'<a href="runs/x/{category}/record.json">{value:.2f} [1.0, 2.0]</a>'
    return f"<tr><td>{category}</td><td>1/{n}</td><td>{text}</td>{'<td>a long entry</td>' * 12}</tr>"


def thumbnails() -> Thumbnails:
    """Two images of every group, of a category with a long name."""
    image, mask = np.full((40, 40, 3), 90, np.uint8), np.zeros((40, 40), bool)
    uri = picture(image, mask, [np.zeros((SIDE, SIDE), np.float32)] * 2, [(0, 1)] * 2)
    images = [
        Thumbnail(
            path=f"test/a_kind_of_defect/{n}.png",
            defect_type="a_kind_of_defect",
            anomalous=True,
            scores=[1.0, 2.0],
            alarms=[True, False],
            group=group,
            picture=uri,
        )
        for group in GROUPS
        for n in range(2)
    ]
    return Thumbnails(
        dataset="mine",
        category="a_category_with_a_name_that_is_as_long_as_names_may_be_64_signs",
        panel=(128, 128),
        methods=["PatchCore", "ReConPatch"],
        runs=["method=patchcore_dim=40_coreset=0.1_backbone=tf_efficientnet_lite0_+5-146283ea", "base-1"],
        digests=["0", "1"],
        thresholds=[1.0, 2.0],
        about="resnet10t (random weights); untrained weights",
        counts=dict.fromkeys(GROUPS, 7),
        images=images,
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two experiments, with a figure and test images."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "tables").mkdir()
    plain = PLAIN.format(rows="".join(row(name, n, v) for n, (name, v) in enumerate(VALUES.items(), 1)))
    sections: list[Section] = []
    for name, html in (("plain", plain), ("paper", PAPER.replace("LONG", plain))):
        (folder / f"tables/{name}.html").write_text(html)
        settings: dict[str, Any] = {"measure": "cost", "targets": [["mine", "nut"]], "cells": []}
        (folder / f"tables/{name}.json").write_text(json.dumps(settings))
        (folder / f"tables/{name}_summary.csv").write_text("dataset\n")
        figure = folder / f"figures/{name}/sweep.png"
        figure.parent.mkdir(parents=True)
        Image.fromarray(np.full((300, 900, 3), 200, np.uint8)).save(figure)
        section: Section = {"name": name, "title": f"Experiment {name}", "table": f"tables/{name}.html", "figures": []}
        section["figures"] = [f"figures/{name}/sweep.png"]
        sections.append(section)
    figure.with_suffix(".txt").write_text("The caption that lies beside the figure.")
    file = folder / "report.html"
    missing = [f"plain: runs/mine/nut/{'long-name' * 20}-{n}" for n in range(60)]
    file.write_text(
        render(folder, sections, [thumbnails()], {"no data": ["x"]}, {"commit": "abc", "changed": True}, missing),
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, page_file: Path) -> Iterator[Page]:
    with quiet_page(browser, page_file) as opened:
        yield opened


def column(page: Page, table: str, n: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:visible > :nth-child({n})")
    return [text.split(" [")[0] for text in cells.all_inner_texts()]


def test_columns_sort_by_value_and_back(page: Page) -> None:
    table = "#of-plain table"
    before = column(page, table, 3)
    header = page.locator(f"{table} thead th").nth(2)
    button = header.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert column(page, table, 3) == ["-3.00", "9.25", "98.00", "99.50", "100.00", "–"]
    assert header.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert column(page, table, 3) == ["100.00", "99.50", "98.00", "9.25", "-3.00", "–"]
    assert header.get_attribute("aria-sort") == "descending"
    page.locator(f"{table} thead th").nth(1).get_by_role("button").click()
    assert column(page, table, 2) == ["1/6", "1/5", "1/4", "1/3", "1/2", "1/1"]
    assert page.locator(f"{table} [aria-sort]").count() == 1
    for _ in range(2):
        page.locator(f"{table} thead th").nth(1).get_by_role("button").click()
    assert column(page, table, 3) == before


def test_a_paper_view_sorts_below_its_two_rows_of_headers(page: Page) -> None:
    table = "#of-paper .paper-view table"
    page.locator(f"{table} thead th").filter(has_text="image").get_by_role("button").click()
    assert column(page, table, 1) == ["ReConPatch", "PatchCore"]
    assert page.locator(f"{table} thead button").count() == 3  # none on the header of two columns


def test_rows_are_filtered_by_words(page: Page) -> None:
    field = page.locator("#of-plain").get_by_label("Filter rows")
    field.fill("PILL entry")
    assert column(page, "#of-plain table", 1) == ["pill"]
    assert "1 of 6 rows" in page.locator("#of-plain").inner_text()
    field.fill("")
    assert len(column(page, "#of-plain table", 1)) == 6


def test_notes_and_long_views_are_folded(page: Page) -> None:
    assert not page.get_by_text("A note of the plain table.").first.is_visible()
    assert not page.locator("#of-paper .long-view table").is_visible()
    page.locator("#of-paper").get_by_text("All values").click()
    assert page.locator("#of-paper .long-view table").is_visible()
    assert page.get_by_text("The caption that lies beside the figure.").is_visible()


def test_figures_enlarge_by_keyboard_and_the_focus_returns(page: Page) -> None:
    button = page.locator("#of-paper > figure button.enlarge")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible() and "The caption that lies beside" in dialog.inner_text()
    assert dialog.get_by_role("img").get_attribute("src") == button.locator("img").get_attribute("src")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#of-plain div:has(> table)")
    scrolls = box.evaluate("box => box.scrollWidth > box.clientWidth")
    assert scrolls and box.get_attribute("tabindex") == "0"  # the table, inside its own box


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: Any, page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    violations = Axe().run(page).response["violations"]
    assert not [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in violations]


def test_printed_it_is_whole(page: Page, tmp_path: Path) -> None:
    """What is folded on the screen is on paper; what only a screen can use is not."""
    file = tmp_path / "report.pdf"
    page.pdf(path=file, prefer_css_page_size=True)
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext; on Debian: apt-get install poppler-utils")
    text = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, text=True, check=True).stdout
    for words in ("A note of the plain table.", "All values", "The caption that lies beside", "Judged rightly"):
        assert words in text, words
    assert "Filter rows" not in text and "↕" not in text
    assert not page.locator("#of-plain > figure > details.notes").evaluate(
        "each => each.open"
    )  # folded again afterwards
