"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recorder.canonical import parse_utc

_BARS = "▁▂▃▄▅▆▇█"


def size(count: float) -> str:
    """Bytes in powers of 1000: `812 B`, `4.1 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 5 s`, `2 h 7 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for above, name, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= above:
            return f"{whole // above} {name} {whole % above // below} {part}"
    return f"{whole} s"


def between(start: str, end: str) -> str:
    """The time between two recorded UTC times; empty when one is not a time."""
    try:
        return duration(max(0.0, parse_utc(end) - parse_utc(start)))
    except ValueError:
        return ""


def clock(seconds: float) -> str:
    """Time since the beginning, `   0:02:05.3`, in eleven characters up to 10,000 hours."""
    tenths = int(seconds * 10)
    return f"{tenths // 36000:4d}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"


def minute(time: str) -> str:
    """A recorded UTC time to the minute."""
    return time[:16].replace("T", " ")


def count(number: int, noun: str) -> str:
    """`1 step`, `2 steps`, `1,200 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` bars, each the mean of a stretch; one that is not finite is `!`."""
    cells = min(width, len(values))
    stretches = [values[len(values) * i // cells : len(values) * (i + 1) // cells] for i in range(cells)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    # Halves, because the difference of two floats can be more than a float holds.
    span = high / 2 - low / 2
    steps = [(len(_BARS) - 1) * ((mean / 2 - low / 2) / span) if span else 0.0 for mean in means]
    return "".join(_BARS[round(step)] if math.isfinite(mean) else "!" for mean, step in zip(means, steps, strict=True))
