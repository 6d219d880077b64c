"""What a kill cost, from the committed steps before and after it: the same arithmetic for every arm."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A committed step: when (POSIX seconds), in which generation of workers, and how many workers that had.

    A generation is a membership here, and a start of all workers in the other arms.
    """

    time: float
    step: int
    generation: int
    workers: int


@dataclass(frozen=True)
class Workers:
    """A generation of workers that trains: process id and node of each rank."""

    generation: int
    pids: dict[int, int]
    nodes: dict[int, str]


@dataclass(frozen=True)
class Kill:
    """When the killer struck (POSIX seconds, just before), and which generation."""

    time: float
    generation: int


@dataclass(frozen=True)
class Cost:
    """Seconds from the kill to the next committed step, to one by all workers, to one that is new.

    `steps_lost` had been committed before the kill and were computed again.
    """

    first: float
    whole: float
    new: float
    steps_lost: int


def cost(kill: Kill, workers: int, marks: Sequence[Mark]) -> Cost:
    """The cost of a kill in a run of so many workers. Raises ValueError when training did not go on after it."""
    before = max(mark.step for mark in marks if mark.generation <= kill.generation)
    after = sorted((mark for mark in marks if mark.generation > kill.generation), key=lambda mark: mark.time)
    if not after:
        raise ValueError("no step was committed after the kill")
    first = after[0]
    return Cost(
        first.time - kill.time,
        next(mark.time for mark in after if mark.workers == workers) - kill.time,
        next(mark.time for mark in after if mark.step > before) - kill.time,
        before - first.step + 1,
    )


def step_seconds(marks: Sequence[Mark], workers: int) -> float:
    """The median time between two steps in a row of the same generation, with all workers."""
    pairs = itertools.pairwise(marks)
    whole = [(a, b) for a, b in pairs if a.generation == b.generation and a.workers == workers]
    return statistics.median(b.time - a.time for a, b in whole)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile, by the nearest rank: the largest where there are fewer than 20."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]
