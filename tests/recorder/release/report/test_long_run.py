"""A run of a million steps: its report is small, is drawn at once, and keeps every extreme."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.browsers import DESKTOP, PHONE, check_accessible, opened
from helpers.commands import REPOSITORY
from helpers.long_runs import DIP, DIP_LOSS, NOT_A_NUMBER, SPIKE, SPIKE_LOSS, long_run
from helpers.pages import chart, data_of

STEPS = 1_000_000
MOST_BYTES = 5_000_000
# Of the process that makes the report, with its interpreter and libraries; all rows together would need gigabytes.
MOST_MEMORY = 600_000_000

MAKE = """
import sys
from pathlib import Path
from recorder.cli.main import main
code = main(["report", sys.argv[1], "--out", sys.argv[2]])
# Not ru_maxrss: that begins with what the process had that started this one.
[peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
print(int(peak.split()[1]) * 1024)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The report, and the memory that making it took."""
    root = tmp_path_factory.mktemp("long")
    command = [sys.executable, "-c", MAKE, str(long_run(root, STEPS)), str(root / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return root / "report.html", int(done.stdout.split()[-1])


@pytest.mark.timeout(600)
def test_it_is_small_and_made_in_bounded_memory(made: tuple[Path, int]) -> None:
    file, memory = made
    assert file.stat().st_size < MOST_BYTES
    assert memory < MOST_MEMORY


@pytest.mark.timeout(600)
def test_extremes_are_kept_to_the_bit(made: tuple[Path, int]) -> None:
    page = made[0].read_text("utf-8")
    curves = [line["curve"] for line in chart(page, "Loss")["lines"] if line["kept"]]
    width = curves[0]["width"]
    assert width > 1

    def at(step: int) -> tuple[float, float]:
        curve = next(found for found in curves if found["x"][0] <= step < found["x"][-1] + width)
        place = curve["x"].index(step // width * width)
        return curve["low"][place], curve["high"][place]

    assert at(int(SPIKE * STEPS))[1] == SPIKE_LOSS
    assert at(int(DIP * STEPS))[0] == DIP_LOSS
    bad = [entry for curve in curves for entry in curve.get("bad", [])]
    assert bad == [[int(NOT_A_NUMBER * STEPS) // width * width, 1]]
    assert f"A point stands for up to {width} steps" in page
    assert all(math.isfinite(value) for curve in curves for value in curve["y"])
    assert len(data_of(page)["moments"]) < 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_is_drawn_and_used(size: tuple[int, int], made: tuple[Path, int], chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, made[0], size=size) as page:
        page.wait_for_selector(".plot svg path.line")
        check_accessible(page)
        first = page.locator(".plot").first
        assert first.locator(".beyond").count() >= 2
        assert first.locator(".unfinite").count() == 1
        assert any("1234.6, beyond" in text for text in first.locator(".beyond title").all_text_contents())
        page.get_by_role("button", name="All extremes").click()
        assert first.locator(".beyond").count() == 0
        first.focus()
        for key in ("Home", "ArrowRight", "+", "+", "End", "0"):
            page.keyboard.press(key)
        page.screenshot(path=tmp_path / "seen.png")
