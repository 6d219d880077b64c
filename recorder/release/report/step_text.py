"""Ranges of steps in words."""

from __future__ import annotations

from collections.abc import Sequence

from recorder.bundle.step_ranges import Range

_SHOWN = 4


def steps_text(ranges: Sequence[Range]) -> str:
    """`1 to 12, 20`; of many ranges the first few, and how many more there are."""
    told = [f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in ranges[:_SHOWN]]
    more = len(ranges) - _SHOWN
    return ", ".join([*told, *([f"and {more} more"] if more > 0 else [])]) or "-"
