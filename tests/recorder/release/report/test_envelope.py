from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from recorder.release.report.envelope import Envelope

VALUES = st.floats() | st.floats(-10, 10)
POINTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-50, 5000), VALUES), max_size=200)


def filled(points: list[tuple[str, int, float]], capacity: int = 16) -> Envelope:
    envelope = Envelope(capacity)
    for group, place, value in points:
        envelope.add(group, place, value)
    return envelope


@given(points=POINTS, capacity=st.integers(2, 40))
def test_no_extreme_is_lost_and_none_is_made_up(points: list[tuple[str, int, float]], capacity: int) -> None:
    envelope = filled(points, capacity)
    for group in "ab":
        curve = envelope.record(group)
        width = curve["width"]
        low = curve.get("low", curve["y"])
        high = curve.get("high", curve["y"])
        own = [(place, value) for name, place, value in points if name == group]
        for start, least, mean, greatest in zip(curve["x"], low, curve["y"], high, strict=True):
            inside = [value for place, value in own if start <= place < start + width and math.isfinite(value)]
            assert (least, greatest) == (min(inside), max(inside))
            assert least <= mean <= greatest
        covered = {start + offset for start in curve["x"] for offset in range(width)}
        assert {place for place, value in own if math.isfinite(value)} <= covered
        assert sum(times for _, times in curve.get("bad", [])) == sum(not math.isfinite(value) for _, value in own)
        assert curve["x"] == sorted(curve["x"])


@given(points=POINTS, capacity=st.integers(2, 40))
def test_all_groups_together_fit_the_axis(points: list[tuple[str, int, float]], capacity: int) -> None:
    envelope = filled(points, capacity)
    numbers = {number for buckets in envelope.groups.values() for number in buckets}
    assert not numbers or max(numbers) - min(numbers) < capacity
    assert envelope.width & (envelope.width - 1) == 0


def test_a_short_curve_is_kept_as_it_is() -> None:
    curve = filled([("a", step, step / 7) for step in range(1, 13)], 16).record("a")
    assert curve == {"width": 1, "x": list(range(1, 13)), "y": [step / 7 for step in range(1, 13)]}


def test_a_mean_of_the_largest_floats_is_a_number() -> None:
    most = 1.7976931348623157e308
    curve = filled([("a", 0, most), ("a", 0, most), ("a", 0, 1.0)]).record("a")
    assert math.isfinite(curve["y"][0])
    assert (curve["low"], curve["high"]) == ([1.0], [most])


@given(points=POINTS, most=st.integers(1, 30))
def test_fewer_buckets_are_a_copy_with_the_same_extremes(points: list[tuple[str, int, float]], most: int) -> None:
    envelope = filled(points)
    before = {group: envelope.record(group) for group in envelope.groups}
    smaller = envelope.at_most(most)
    assert smaller.size <= max(most, 2 * len(smaller.groups))
    assert {group: envelope.record(group) for group in envelope.groups} == before
    for group in envelope.groups:
        extremes = [curve.get("high", curve["y"]) for curve in (before[group], smaller.record(group))]
        assert max(extremes[0], default=None) == max(extremes[1], default=None)
