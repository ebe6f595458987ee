"""Pages in a browser: Debian's Chromium, without a window."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where it is not installed."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, which root may not use; the page is our own.
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"], timeout=300_000
        )
        yield started
        started.close()


@contextmanager
def quiet_page(browser: Browser, file: Path) -> Iterator[Page]:
    """A page, 1,280 px wide; whatever the console or a request says until it is closed is an error."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(120_000)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda asked: said.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(file.as_uri())
    yield opened
    opened.close()
    assert not said
