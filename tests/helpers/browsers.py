"""A real browser for pages that must open offline: headless Chromium, in which any word on the console is a failure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESKTOP = (390, 844), (1280, 900)

_FAULTS = Path(__file__).with_name("accessibility.js").read_text("utf-8")


def chromium() -> str:
    """The browser of this machine. Where there is none the test is skipped."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine; install it (on Debian: apt-get install chromium)")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@contextmanager
def opened(chromium: Any, file: Path, *, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Iterator[Any]:
    """The page in a file, without a network. What it writes on the console, and each request but for files, fails."""
    width, height = size
    screen = {"width": width, "height": height}
    context = chromium.new_context(viewport=screen, color_scheme=scheme, has_touch=size == PHONE, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert said == []


def check_accessible(page: Any) -> None:
    """Contrast, names, ids, a heading, a language, and no scrolling sideways."""
    assert page.evaluate(_FAULTS) == {"low contrast": [], "nameless": [], "broken": []}
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def check_first_stop(page: Any) -> None:
    """In a page just opened, the first stop of the keyboard leads to the content and is seen."""
    page.keyboard.press("Tab")
    focus = "[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
    assert page.evaluate(focus) == ["skip", "solid"]
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") == 0
