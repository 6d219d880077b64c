from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.step_ranges import Range, StepRanges, contains, merge, overlaps, subtract

STEPS = st.lists(st.integers(0, 30))
RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def steps_of(ranges: list[Range]) -> list[int]:
    return [step for first, last in ranges for step in range(first, last + 1)]


@given(STEPS)
def test_ranges_hold_the_steps_that_were_added(steps: list[int]) -> None:
    ranges = StepRanges()
    for step in steps:
        ranges.add(step)
    assert steps_of(ranges.raw()) == steps
    assert steps_of(ranges.merged()) == sorted(set(steps))


@given(RANGES)
def test_merged_ranges_neither_touch_nor_overlap(ranges: list[Range]) -> None:
    merged = merge(ranges)
    assert steps_of(merged) == sorted(set(steps_of(ranges)))
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(merged))


@given(RANGES)
def test_overlaps_are_the_steps_in_more_than_one_range(ranges: list[Range]) -> None:
    times = Counter(steps_of(ranges))
    assert steps_of(overlaps(ranges)) == sorted(step for step, count in times.items() if count > 1)


@given(RANGES, RANGES)
def test_what_is_left_when_others_are_taken_away(ranges: list[Range], others: list[Range]) -> None:
    left = subtract(ranges, others)
    assert steps_of(left) == sorted(set(steps_of(ranges)) - set(steps_of(others)))
    assert left == merge(left)


@given(RANGES, st.integers(0, 40))
def test_contains(ranges: list[Range], step: int) -> None:
    assert contains(ranges, step) == (step in steps_of(ranges))


def test_a_long_run_in_order_is_one_range() -> None:
    ranges = StepRanges()
    for step in range(1, 10_001):
        ranges.add(step)
    assert ranges.raw() == [(1, 10_000)]
