from __future__ import annotations

import math
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.ledger.records import Part
from recorder.ledger.steps import StepAssembler, StepRow


def part(step: int, rank: int = 0, workers: int = 2, membership: int = 0, **values: Any) -> Part:
    shared = {"loss": 1 / (step + 1)} | {name: value for name, value in values.items() if name in {"loss", "tokens"}}
    times = {"step_seconds": step + rank / 8} if values.get("timed", True) else {}
    return Part(step, membership, rank, workers, f"time {rank}", shared, times, values.get("logged", {}))


def keys(rows: list[StepRow]) -> list[tuple[int, int, tuple[int, ...], int]]:
    """Membership, step, ranks and whether it was late, of each row."""
    return [
        (row.values["membership"], row.values["step"], tuple(row.values["worker_rank"]), row.values.get("late", 0))
        for row in rows
    ]


def run(assembler: StepAssembler, parts: list[Part]) -> list[StepRow]:
    return [row for item in parts for row in assembler.add(item)] + assembler.flush()


def test_a_row_holds_the_first_ranks_truth_and_every_ranks_times() -> None:
    assembler = StepAssembler(3)
    assert assembler.add(part(1, rank=1, logged={"a": 1.0, "b": 2.0})) == []
    (row,) = assembler.add(part(1, rank=0, tokens=64, logged={"a": 3.0}))
    assert row.values == {
        "step": 1,
        "attempt": 3,
        "membership": 0,
        "time": "time 0",
        "loss": 0.5,
        "tokens": 64,
        "worker_rank": [0, 1],
        "worker_step_seconds": [1.0, 1.125],
        "step_seconds": 1.125,
        "a": 3.0,
        "b": 2.0,
    }
    assert row.differing == ["tokens"]


def test_a_worker_without_times_has_nan_and_a_step_without_any_has_no_column() -> None:
    (row,) = run(StepAssembler(1), [part(1, 0, timed=False), part(1, 1)])
    assert math.isnan(row.values["worker_step_seconds"][0])
    assert row.values["step_seconds"] == 1.125
    (row,) = run(StepAssembler(1), [part(1, 0, timed=False), part(1, 1, timed=False)])
    assert not {"step_seconds", "worker_step_seconds"} & row.values.keys()


def test_workers_agree_bit_for_bit_or_differ() -> None:
    def differing(one: float, other: float) -> list[str]:
        (row,) = run(StepAssembler(1), [part(1, 0, loss=one), part(1, 1, loss=other)])
        return row.differing

    assert differing(math.nan, math.nan) == []
    assert differing(0.0, -0.0) == ["loss"]
    assert differing(0.1 + 0.2, 0.3) == ["loss"]


def test_a_part_after_its_row_is_late() -> None:
    assembler = StepAssembler(1)
    assembler.add(part(1, 0))
    assert keys(assembler.flush()) == [(0, 1, (0,), 0)]
    assert keys(assembler.add(part(1, 1))) == [(0, 1, (1,), 1)]


def test_a_step_that_a_worker_records_again_is_kept_as_well() -> None:
    assembler = StepAssembler(1)
    rows = run(assembler, [part(1, 0), part(1, 0), part(1, 1), part(1, 1), part(2, 0), part(2, 1), part(2, 0)])
    assert keys(rows) == [
        (0, 1, (0,), 0),
        (0, 1, (0,), 1),
        (0, 1, (1,), 1),
        (0, 1, (1,), 1),
        (0, 2, (0, 1), 0),
        (0, 2, (0,), 1),
    ]


def test_a_step_of_a_later_membership_is_another_one() -> None:
    rows = run(StepAssembler(1), [part(1, 0), part(1, 0, membership=1), part(1, 1, membership=1), part(1, 1)])
    assert keys(rows) == [(1, 1, (0, 1), 0), (0, 1, (0, 1), 0)]


def test_steps_of_earlier_memberships_can_be_given_up_alone() -> None:
    assembler = StepAssembler(1)
    for membership in (2, 0, 1):
        for step in (2, 1):
            assembler.add(part(step, membership=membership))
    assert assembler.flush(0) == []
    assert keys(assembler.flush(2)) == [(m, step, (0,), 0) for m in (0, 1) for step in (1, 2)]
    assert keys(assembler.add(part(1, 1, membership=2))) == [(2, 1, (0, 1), 0)]
    assert keys(assembler.add(part(1, 1, membership=1))) == [(1, 1, (1,), 1)]
    assert keys(assembler.flush()) == [(2, 2, (0,), 0)]


PARTS = st.lists(st.builds(part, st.integers(1, 4), st.integers(0, 2), st.just(3), st.integers(0, 1)), max_size=20)


@given(st.integers(1, 3), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_whatever_the_order_each_part_is_in_one_row(workers: int, steps: int, random: Any) -> None:
    parts = [part(step, rank, workers) for step in range(1, steps + 1) for rank in range(workers)]
    random.shuffle(parts)
    rows = run(StepAssembler(1), parts)
    assert sorted(keys(rows)) == [(0, step, tuple(range(workers)), 0) for step in range(1, steps + 1)]


@given(PARTS)
@settings(deadline=None)
def test_no_part_is_dropped_or_doubled(parts: list[Part]) -> None:
    rows = run(StepAssembler(1), parts)
    recorded = [(m, step, rank) for m, step, ranks, _ in keys(rows) for rank in ranks]
    assert sorted(recorded) == sorted((item.membership, item.step, item.rank) for item in parts)
    first = [(m, step) for m, step, _, late in keys(rows) if not late]
    assert len(first) == len(set(first)) == len({(item.membership, item.step) for item in parts})


@given(PARTS, st.integers(0, 20), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_an_earlier_collector_recorded_is_not_recorded_again(parts: list[Part], killed: int, random: Any) -> None:
    first = StepAssembler(1)
    recorded = [row for item in parts[:killed] for row in first.add(item)]
    rows = run(StepAssembler(1, [row.values for row in recorded]), parts)
    together = [(m, step, rank) for m, step, ranks, _ in keys([*recorded, *rows]) for rank in ranks]
    assert sorted(together) == sorted((item.membership, item.step, item.rank) for item in parts)


def test_memory_does_not_grow_with_the_run() -> None:
    assembler = StepAssembler(1)
    for step in range(1, 5000):
        for rank in range(2):
            assembler.add(part(step, rank))
    kept = assembler._written[0]
    assert not assembler._pending
    assert not kept._others
    assert sys.getsizeof(kept._run) < 100
