from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cli.quantities import between, count, duration, size, sparkline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42, "42 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7640, "2 h 7 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_size_and_count() -> None:
    assert [size(number) for number in (0, 999, 1000, 4_100_000, 5e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "4.1 MB",
        "5000.0 TB",
    ]
    assert [count(number, "step") for number in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]


def test_between_times_that_are_none() -> None:
    assert between("2026-09-21T14:13:20.000000Z", "2026-09-21T14:13:22.500000Z") == "2.5 s"
    assert between("yesterday", "today") == ""


def test_sparkline() -> None:
    assert sparkline([3, 2, 1, 0], 4) == "█▆▃▁"
    assert sparkline([1, 1], 8) == "▁▁"
    assert sparkline([2, 1, math.nan, 1], 4) == "█▁!▁"
    assert sparkline([1, math.inf], 2) == "▁!"
    assert sparkline([1e308, -1e308], 2) == "█▁"


@given(st.lists(st.floats(), min_size=1), st.integers(1, 20))
def test_a_sparkline_is_never_wider_than_asked(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))
