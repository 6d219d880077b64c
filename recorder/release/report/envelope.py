"""Downsampling that hides no extreme: a curve of any length as buckets with their least, greatest and mean value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

_DIGITS = 6  # significant ones of a mean; least and greatest values keep all of theirs


@dataclass
class Bucket:
    """`width` neighbouring places of a curve: `count` finite values and `bad` ones that are NaN or infinite."""

    low: float = math.inf
    high: float = -math.inf
    sum: float = 0.0
    count: int = 0
    bad: int = 0

    def add(self, value: float) -> None:
        """Take one more value."""
        if not math.isfinite(value):
            self.bad += 1
            return
        self.count += 1
        self.sum += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def join(self, other: Bucket) -> None:
        """Take all values of another bucket."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.sum, self.count, self.bad = self.sum + other.sum, self.count + other.count, self.bad + other.bad

    @property
    def mean(self) -> float | None:
        """The mean of the finite values, to six digits; None where there is none."""
        if not self.count:
            return None
        mean = self.sum / self.count
        if not math.isfinite(mean):
            mean = self.low / 2 + self.high / 2
        # Rounding must not carry the line out of its band.
        return min(max(float(f"{mean:.{_DIGITS}g}"), self.low), self.high)


@dataclass
class Envelope:
    """Curves over whole numbers (steps, seconds), one a group, in at most `capacity` buckets along the axis, 2 or more.

    All groups share one grid. When the axis outgrows the capacity, neighbouring buckets are joined two by two, so that
    memory is bounded by capacity and number of groups, however long the run is. `width` is a power of two; `first` and
    `last` are places in the outermost buckets.
    """

    capacity: int
    width: int = 1
    groups: dict[str, dict[int, Bucket]] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    # The bucket that was last added to: the next value nearly always belongs there too.
    _group: str | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _bucket: Bucket = field(default_factory=Bucket, init=False)

    def add(self, group: str, place: int, value: float) -> None:
        """Take the value at `place` of a group's curve."""
        if group == self._group and place // self.width == self._number:
            self._bucket.add(value)
        else:
            self._open(group, place).add(value)

    def _open(self, group: str, place: int) -> Bucket:
        """The bucket of a place, made where there is none."""
        self.first = place if self.first is None else min(self.first, place)
        self.last = place if self.last is None else max(self.last, place)
        while self.last // self.width - self.first // self.width >= self.capacity:
            self.coarsen()
        buckets = self.groups.get(group)
        if buckets is None:
            buckets = self.groups[group] = {}
        self._group, self._number = group, place // self.width
        self._bucket = buckets.setdefault(self._number, Bucket())
        return self._bucket

    def coarsen(self) -> None:
        """Make every bucket twice as wide."""
        self.width *= 2
        self._group = None
        for name, buckets in self.groups.items():
            joined: dict[int, Bucket] = {}
            for number, bucket in buckets.items():
                joined.setdefault(number // 2, Bucket()).join(bucket)
            self.groups[name] = joined

    @property
    def size(self) -> int:
        """The number of buckets of all groups."""
        return sum(map(len, self.groups.values()))

    def at_most(self, buckets: int) -> Envelope:
        """The same curves in no more than `buckets` of all groups together, or two a group; a copy where it changes."""
        found = self
        # Two, because a place below zero and one above it are never in the same bucket.
        while found.size > max(buckets, 2 * len(found.groups)):
            copied = {name: dict(group) for name, group in found.groups.items()}
            found = Envelope(found.capacity, found.width, copied, found.first, found.last)
            found.coarsen()
        return found

    def record(self, group: str) -> dict[str, Any]:
        """A group's curve as JSON: `x` is the first place of each bucket, `y` the mean.

        `low` and `high` are there where any bucket has values that differ; `bad` has [place, how many] of the buckets
        with values that are not finite.
        """
        buckets = sorted(self.groups.get(group, {}).items())
        finite = [(number, bucket) for number, bucket in buckets if bucket.count]
        curve: dict[str, Any] = {
            "width": self.width,
            "x": [number * self.width for number, _ in finite],
            "y": [bucket.low if bucket.low == bucket.high else bucket.mean for _, bucket in finite],
        }
        if any(bucket.low != bucket.high for _, bucket in finite):
            curve["low"] = [bucket.low for _, bucket in finite]
            curve["high"] = [bucket.high for _, bucket in finite]
        if bad := [[number * self.width, bucket.bad] for number, bucket in buckets if bucket.bad]:
            curve["bad"] = bad
        return curve
