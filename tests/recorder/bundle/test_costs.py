from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from helpers.recovery import STEP_SECONDS, Clock, RecoveryBuilder

from recorder.bundle.committed import CommittedSeries
from recorder.bundle.costs import EffectiveTime, costs, effective_times, total_time
from recorder.bundle.course import Attempt
from recorder.bundle.reader import Bundle
from recorder.canonical import utc_text
from recorder.ledger import events


def times_of(path: Path) -> dict[int, EffectiveTime]:
    bundle = Bundle(path)
    return effective_times(bundle.attempts, bundle.committed)


def test_steps_that_were_kept_count_once(made: dict[str, Path]) -> None:
    """12 of 16 rows count; the attempt took 2 s to start, 16 steps and a moment for each event."""
    time = times_of(made["differed"])[1]
    assert time.training_seconds == 12 * STEP_SECONDS
    assert time.seconds == pytest.approx(2.0 + 16 * STEP_SECONDS, abs=0.001)
    assert time.ratio == time.training_seconds / time.seconds


def test_an_attempt_whose_driver_was_killed_ended_when_it_was_last_heard_of(tmp_path: Path) -> None:
    clock = Clock()
    builder = RecoveryBuilder(tmp_path / "runs", clock=clock).create().start("node-a", "node-b")
    builder.steps(1, 4).checkpoint(4).steps(5, 6).kill()
    assert times_of(builder.path)[1].seconds == pytest.approx(2.0 + 6 * STEP_SECONDS, abs=0.001)
    clock.advance(3600)
    builder.step = 4
    builder.resume().restored(4).start("node-a", "node-b", kind="storage").steps(5, 8)
    first, second = times_of(builder.finish().close()).values()
    # Steps 5 and 6 were computed in both attempts and kept of the second.
    assert (first.training_seconds, second.training_seconds) == (4 * STEP_SECONDS, 4 * STEP_SECONDS)
    assert first.seconds == pytest.approx(2.0 + 6 * STEP_SECONDS, abs=0.001)
    assert second.seconds == pytest.approx(2.0 + 4 * STEP_SECONDS, abs=0.001)
    assert total_time([first, second]).ratio == pytest.approx(4.0 / 9.0, abs=0.001)


def test_a_step_that_one_worker_begins_while_another_ends_the_last_counts_no_time_twice() -> None:
    """Two take 9 s of 10, each the longer for one step; of a third step one worker does not say."""
    rows: list[dict[str, Any]] = [
        {"step": 1, "attempt": 1, "time": utc_text(6), "step_seconds": 6.0, "worker_step_seconds": [6.0, 3.0]},
        {"step": 2, "attempt": 1, "time": utc_text(9), "step_seconds": 6.0, "worker_step_seconds": [3.0, 6.0]},
        {"step": 3, "attempt": 1, "time": utc_text(9), "worker_step_seconds": [math.nan, 0.5]},
    ]
    [time] = effective_times([Attempt(1, utc_text(0), ended=utc_text(10))], CommittedSeries(rows, [])).values()
    assert (time.training_seconds, time.seconds) == (9.5, 10.0)


def test_without_durations_or_time_there_is_no_ratio() -> None:
    start = utc_text(0)
    attempts = [Attempt(1, start, ended=utc_text(9)), Attempt(2, start, ended=start)]
    rows = [
        {"step": 1, "attempt": 1, "time": start},
        {"step": 2, "attempt": 1, "time": start, "step_seconds": float("nan")},
        {"step": 3, "attempt": 2, "time": start, "step_seconds": 1.0},
    ]
    times = effective_times(attempts, CommittedSeries(rows, []))
    assert [time.ratio for time in times.values()] == [None, None]
    assert total_time([]).ratio is None


def test_what_losses_cost(made: dict[str, Path]) -> None:
    found = costs(Bundle(made["lost_node"]).course)
    assert (found.nodes_lost, found.steps_redone, found.worker_seconds_lost) == (1, 2, 5.0)
    assert found.resume_seconds == (1.25, 1.25)
    assert [(loss.rank, loss.node, loss.cause, loss.steps_redone) for loss in found.losses] == [
        (2, "node-c", "node lost", 1),
        (1, "node-b", "expelled: hung", 1),
    ]


def test_two_that_were_lost_at_once_cost_once(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b", "node-c").steps(1, 2)
    for rank in (1, 2):
        builder.run.event(events.WORKER_LOST, rank=rank, worker=f"rank-{rank}.0", cause="node lost")
    together = {"workers": ["rank-1.0", "rank-2.0"], "steps_redone": 3, "worker_seconds_lost": 6.0, "seconds": 2.0}
    builder.run.event(events.TRAINING_RESUMED, membership=1, **together)
    found = costs(Bundle(builder.close("failed")).course)
    assert [loss.steps_redone for loss in found.losses] == [3, 3]
    assert (found.steps_redone, found.worker_seconds_lost, found.resume_seconds) == (3, 6.0, (2.0,))


def test_a_loss_after_which_training_did_not_go_on_has_no_cost(made: dict[str, Path]) -> None:
    golden = Bundle(Path(__file__).parents[2] / "golden/format-1/golden-1")
    found = costs(golden.course)
    assert [(loss.worker, loss.resume_seconds) for loss in found.losses] == [(None, None)]
    assert found.resume_seconds == ()
