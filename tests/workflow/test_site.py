"""The site of the documents, as `make docs` builds it: every link leads somewhere, and nothing comes from elsewhere."""

import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import chromium, quiet_page
from playwright.sync_api import Browser
from running import ROOT

from reconpatch.cli.arguments import EXAMPLES
from reconpatch.method import loss

LOADED = {
    "img",
    "script",
    "link",
    "iframe",
    "source",
    "video",
    "audio",
    "object",
    "embed",
}  # by a page, unasked
NEVER_CLOSED = {"br", "hr", "img", "input", "link", "meta", "source", "wbr"}
LOOKED_AT = ["index.html", "docs/findings.html", "docs/method.html", "api/reconpatch.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by a process of its own, since warnings of the builder's parts are not ours."""
    where = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(where)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return where


@dataclass
class Contents(HTMLParser):
    """What a page refers to, as (element, address), and where it can be referred to."""

    text: str = field(repr=False)
    references: list[tuple[str, str]] = field(default_factory=list, repr=False)
    still_open: Counter[str] = field(default_factory=Counter, repr=False)  # elements by name, how many
    anchors: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.still_open[tag] += tag not in NEVER_CLOSED
        for name, value in attrs:
            if name in ("href", "src", "data") and value:
                self.references.append((tag, value))
            elif name == "srcset" and value:
                self.references += [(tag, each.split()[0]) for each in value.split(",")]
            elif (name == "id" or (tag == "a" and name == "name")) and value:
                self.anchors.add(value)

    def handle_endtag(self, tag: str) -> None:
        self.still_open[tag] -= tag not in NEVER_CLOSED


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Contents]:
    return {page: Contents(page.read_text(encoding="utf-8")) for page in sorted(site.rglob("*.html"))}


def test_every_internal_link_image_and_anchor_resolves(site: Path, pages: dict[Path, Contents]) -> None:
    broken = []
    for page, contents in pages.items():
        if page.name == "404.html":  # a server shows it at any address
            continue
        for _, address in contents.references:
            url = urlsplit(address)
            if url.scheme or url.netloc:
                continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            found = target.is_relative_to(site) and target.is_file()
            if found and url.fragment and target in pages:
                found = unquote(url.fragment) in pages[target].anchors
            if not found:
                broken.append((page.name, address))
    assert not broken


def test_no_word_in_angle_brackets_vanishes(pages: dict[Path, Contents]) -> None:
    """As an element that nothing closes."""
    open_ones = {page.name: +contents.still_open for page, contents in pages.items() if +contents.still_open}
    assert not open_ones, "put it between backticks"


def test_every_document_is_a_page(site: Path) -> None:
    documents = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb"), ROOT / "CONTRIBUTING.md"]
    for document in documents:
        assert (site / document.relative_to(ROOT)).with_suffix(".html").is_file(), document


def test_nothing_comes_from_another_host(site: Path, pages: dict[Path, Contents]) -> None:
    for page, contents in pages.items():
        elsewhere = [(tag, url) for tag, url in contents.references if tag in LOADED and urlsplit(url).netloc]
        assert not elsewhere, page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(['\"]?|@import ['\"])(https?:)?//", style.read_text(encoding="utf-8")), style


def test_equations_are_mathml(site: Path) -> None:
    source = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    page = (site / "docs/method.html").read_text(encoding="utf-8")
    displayed = source.count("$$") // 2
    assert displayed and page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') == displayed
    for file in site.rglob("*.html"):
        assert 'class="arithmatex"' not in file.read_text(encoding="utf-8"), file


def test_the_reference_names_functions_and_commands(site: Path, pages: dict[Path, Contents]) -> None:
    functions = [
        name for name, each in inspect.getmembers(loss, inspect.isfunction) if each.__module__ == loss.__name__
    ]
    public = {f"reconpatch.method.loss.{name}" for name in functions if not name.startswith("_")}
    assert len(public) > 8 and public <= pages[site / "api/method.html"].anchors
    assert "reconpatch.ReConPatch.fit" in pages[site / "api/reconpatch.html"].anchors
    assert set(EXAMPLES) <= pages[site / "command-line.html"].anchors


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_opens_from_the_disk_and_fits_a_telephone(name: str, site: Path, browser: Browser) -> None:
    with quiet_page(browser, site / name) as page:
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate("document.body.scrollWidth") <= 360


@pytest.mark.parametrize("name", LOOKED_AT)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(name: str, scheme: str, site: Path, browser: Browser) -> None:
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.goto((site / name).as_uri())
    page.locator(f"body[data-md-color-scheme={'slate' if scheme == 'dark' else 'default'}]").wait_for()
    found = Axe().run(page).response["violations"]
    page.close()
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious]


def test_search_finds_pages_without_a_server(site: Path, browser: Browser) -> None:
    with quiet_page(browser, site / "index.html") as page:
        page.locator(".md-search__input").click()
        page.keyboard.type("coreset")
        page.locator(".md-search-result__item a").first.wait_for()
        assert any("tables.html" in (a.get_attribute("href") or "") for a in page.locator(".md-search-result a").all())
