"""Reports in a real browser, offline: on a phone and a desktop, light and dark, with keyboard and pointer, on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.browsers import DESKTOP, PHONE, check_accessible, check_first_stop, opened
from helpers.bundles import RunBuilder
from helpers.pages import hostile_run

from recorder.bundle.reader import Bundle
from recorder.release.report.page import report

VALUE = "document.querySelector('.plot').getAttribute('aria-valuetext')"


@pytest.fixture(scope="module")
def page_of(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("reports")

    def write(kind: str) -> Path:
        file = folder / f"{kind}.html"
        if not file.exists():
            file.write_text(report(Bundle(runs / kind)), "utf-8")
        return file

    return write


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("kind", ["recovered", "resumed", "failed", "killed"])
def test_a_report_is_readable(
    kind: str, size: tuple[int, int], scheme: str, page_of: Any, chromium: Any, tmp_path: Path
) -> None:
    with opened(chromium, page_of(kind), size=size, scheme=scheme) as page:
        check_first_stop(page)
        page.wait_for_selector(".plot svg path.line")
        page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true })")
        check_accessible(page)
        assert page.locator("figure .plot svg").count() == page.locator("[data-chart]").count()
        page.screenshot(path=tmp_path / "seen.png", full_page=True)


def test_light_and_dark_differ_and_can_be_chosen(page_of: Any, chromium: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(chromium, page_of("finished"), scheme="dark") as page:
        assert page.evaluate(paper) == "rgb(13, 17, 23)"
        page.click("#theme")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        page.click("#theme")
        assert page.evaluate(paper) == "rgb(13, 17, 23)"
        page.emulate_media(media="print")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        assert not page.locator("nav").is_visible()
        assert page.locator(".plot svg").first.is_visible()


def test_a_chart_is_used_with_the_keyboard(page_of: Any, chromium: Any) -> None:
    with opened(chromium, page_of("recovered")) as page:
        page.focus(".plot >> nth=0")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert page.evaluate(VALUE).startswith("step 2: attempt 1, membership 0: 3.2")
        assert page.locator(".readout").first.inner_text() == page.evaluate(VALUE)
        page.keyboard.press("End")
        assert page.evaluate(VALUE).startswith("step 24: attempt 1, membership 3: 1")
        shown = "['min', 'max'].map((end) => +document.querySelector('.plot').getAttribute(`aria-value${end}`))"
        assert page.evaluate(shown) == [1, 24]
        page.keyboard.press("+")
        first, last = page.evaluate(shown)
        assert 1 < first < last == 24
        page.keyboard.press("0")
        assert page.evaluate(shown) == [1, 24]


def test_a_chart_is_used_with_a_pointer(page_of: Any, chromium: Any) -> None:
    with opened(chromium, page_of("recovered")) as page:
        plot = page.locator(".plot").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.3, middle)
        assert page.evaluate(VALUE).startswith("step ")
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=4)
        assert page.locator(".brush").count() >= 1
        page.mouse.up()
        first, last = (int(plot.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
        assert 1 < first < last < 24
        page.get_by_role("button", name="Whole run").click()
        assert (plot.get_attribute("aria-valuemin"), plot.get_attribute("aria-valuemax")) == ("1", "24")


def test_marks_are_drawn_and_can_be_taken_away(page_of: Any, chromium: Any) -> None:
    with opened(chromium, page_of("recovered")) as page:
        first = page.locator(".plot").first
        assert first.locator(".sign.lost").count() == 1
        assert first.locator(".sign.drained").count() == 1
        assert "signal SIGKILL" in first.locator("g:has(> .sign.lost) title").inner_html()
        marks = page.get_by_role("button", name="Marks")
        assert marks.get_attribute("aria-pressed") == "true"
        marks.click()
        assert first.locator(".sign").count() == 0
    with opened(chromium, page_of("resumed")) as page:
        assert page.locator(".plot").first.locator(".sign.restored").count() == 1
        assert page.locator(".plot").first.locator(".line.superseded").count() == 1


def test_a_run_without_a_step_has_a_page(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "empty.html"
    path = RunBuilder(tmp_path / "runs", files={}).create().close("failed")
    file.write_text(report(Bundle(path)), "utf-8")
    with opened(chromium, file) as page:
        check_accessible(page)
        assert page.get_by_text("No step was recorded.").is_visible()


def test_a_hostile_bundle_runs_nothing(chromium: Any, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(report(Bundle(hostile_run(tmp_path / "runs"))), "utf-8")
    with opened(chromium, file) as page:
        page.wait_for_selector(".plot svg path.line")
        assert page.locator("img").count() == 0


def test_without_a_script_everything_but_the_curves_is_there(page_of: Any, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_of("recovered").as_uri())
    assert page.get_by_role("cell", name="signal SIGKILL").is_visible()
    assert page.get_by_text("The curves are drawn by a script").is_visible()
    assert page.locator(".lanes svg").is_visible()
    assert page.locator("#theme").is_hidden()
    context.close()
