"""Who trained when, for records that are as they should be, old ones, and ones in any order whatever."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.lanes import Lanes, lanes
from recorder.bundle.reader import Bundle
from recorder.canonical import utc_text
from recorder.ledger import events


def lanes_of(path: Path) -> Lanes:
    bundle = Bundle(path)
    return lanes(bundle.events(), bundle.rows())


def lives(found: Lanes) -> list[tuple[str | None, int, str, int, int, str | None]]:
    """Node, rank, process, begin and end in tenths of a second, and how it ended."""
    return [
        (lane.node, lane.rank, span.worker, round(10 * span.begin), round(10 * span.end), span.ended)
        for lane in found.lanes
        for span in lane.spans
    ]


def test_the_lives_of_the_workers_of_a_run_that_recovered(made: dict[str, Path]) -> None:
    found = lanes_of(made["recovered"])
    assert lives(found) == [
        ("node-a", 0, "rank-0.0", 20, 158, "finished"),
        ("node-b", 1, "rank-1.0", 20, 50, "lost"),
        ("node-b", 1, "rank-1.1", 78, 158, "finished"),
        ("node-c", 2, "rank-2.0", 20, 128, "drained"),
    ]
    assert [(seen.membership, seen.first, seen.last) for seen in found.stretches] == [
        (0, 1, 6),
        (1, 7, 8),
        (2, 9, 18),
        (3, 19, 24),
    ]
    lost = found.lanes[1].spans[0]
    assert (lost.cause, [(seen.first, seen.last) for seen in lost.stretches]) == ("signal SIGKILL", [(1, 6)])


def test_a_replacement_on_another_node_has_a_lane_of_its_own(tmp_path: Path) -> None:
    from helpers.recovery import RecoveryBuilder

    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 2)
    path = builder.lose(1).steps(3, 4).replace(1, "node-c").steps(5, 6).finish().close()
    assert [(lane.node, lane.rank, len(lane.spans)) for lane in lanes_of(path).lanes] == [
        ("node-a", 0, 1),
        ("node-b", 1, 1),
        ("node-c", 1, 1),
    ]


def test_a_worker_that_never_joined_is_a_moment(tmp_path: Path) -> None:
    from helpers.recovery import RecoveryBuilder

    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a").steps(1, 2)
    named = {"rank": 1, "worker": "rank-1.0", "node": None, "membership": None, "last_step": 2}
    builder.run.event(events.WORKER_LOST, **named, cause="unknown")
    spans = [span for lane in lanes_of(builder.finish().close()).lanes for span in lane.spans]
    assert [(span.worker, span.ended, span.begin == span.end) for span in spans] == [
        ("rank-0.0", "finished", False),
        ("rank-1.0", "lost", True),
    ]


def test_older_records_name_no_processes(made: dict[str, Path]) -> None:
    found = lanes_of(made["resumed"])
    assert [(node, rank, worker, ended) for node, rank, worker, _, _, ended in lives(found)] == [
        ("node-a", 0, "rank-0.0", None),
        ("node-a", 0, "rank-0.0", "finished"),
        ("node-a", 1, "rank-1.0", None),
        ("node-a", 1, "rank-1.0", "finished"),
    ]
    golden = lanes_of(Path(__file__).parents[2] / "golden/format-1/golden-1")
    ended = [span.ended for lane in golden.lanes if lane.rank == 1 for span in lane.spans]
    assert ended == [None, "lost", None, "finished"]


def test_rows_alone_are_enough(made: dict[str, Path]) -> None:
    found = lanes([], Bundle(made["recovered"]).rows())
    assert [(lane.node, lane.rank, [span.worker for span in lane.spans]) for lane in found.lanes] == [
        (None, 0, ["rank-0.0", "rank-0.1", "rank-0.2", "rank-0.3"]),
        (None, 1, ["rank-1.0", "rank-1.2", "rank-1.3"]),
        (None, 2, ["rank-2.0", "rank-2.1", "rank-2.2"]),
    ]


def test_a_late_row_does_not_say_when_its_step_was_computed(made: dict[str, Path]) -> None:
    bundle = Bundle(made["recovered"])
    happened, rows = list(bundle.events()), list(bundle.rows())
    late = rows[0] | {"time": rows[-1]["time"], "late": 1, "worker_rank": [0]}
    assert lanes(happened, [*rows, late]) == lanes(happened, rows)


def test_nothing_has_no_lanes() -> None:
    assert lanes([], []) == Lanes("1970-01-01T00:00:00.000000Z", 0.0, (), (), ())


def test_the_order_of_the_ledger_does_not_matter(made: dict[str, Path]) -> None:
    bundle = Bundle(made["recovered"])
    happened, rows = list(bundle.events()), list(bundle.rows())
    expected = lanes(happened, rows)
    for seed in range(5):
        random.Random(seed).shuffle(happened)
        random.Random(seed).shuffle(rows)
        assert lanes(happened, rows) == expected


RANKS = st.integers(0, 3)
TIMES = st.floats(1.0, 100.0).map(utc_text)
NAMES = st.one_of(st.none(), st.integers(0, 2))


@st.composite
def some_events(draw: st.DrawFn) -> dict[str, Any]:
    """A well-formed event about workers, with or without their names, at any time."""
    rank, number, membership = draw(RANKS), draw(NAMES), draw(st.integers(0, 3))
    worker = {"rank": rank, "node": draw(st.sampled_from(["a", "b", None]))}
    if number is not None:
        worker["worker"] = f"rank-{rank}.{number}"
    kinds: dict[str, dict[str, Any]] = {
        events.ATTEMPT_STARTED: {"previous_root": None},
        events.ATTEMPT_ENDED: {"outcome": "killed", "recovered": draw(st.booleans())},
        events.WORKER_JOINED: worker | {"membership": membership},
        events.WORKER_FINISHED: worker | {"step": 3},
        events.WORKER_DRAINED: worker | {"step": 3},
        events.WORKER_LOST: worker | {"cause": "unknown", "last_heard": draw(st.one_of(st.none(), TIMES))},
        events.MEMBERSHIP_CHANGED: {"membership": membership, "workers": [worker]},
        events.CHECKPOINT_RESTORED: {"step": 3, "path": None},
        events.NODE_LOST: {"node": "a", "cause": "unknown"},
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    return {"attempt": draw(st.integers(1, 3)), "time": draw(TIMES), "type": kind, "fields": kinds[kind]}


@st.composite
def some_rows(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "attempt": draw(st.integers(1, 3)),
        "membership": draw(st.integers(0, 3)),
        "step": draw(st.integers(1, 20)),
        "time": draw(TIMES),
        "step_seconds": draw(st.one_of(st.none(), st.floats())),
        "worker_rank": sorted(draw(st.sets(RANKS))),
        "late": draw(st.sampled_from([None, 1])),
    }


@given(st.lists(some_events()), st.lists(some_rows()))
def test_lanes_of_one_rank_never_overlap(happened: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    found = lanes(happened, rows)
    for rank in {lane.rank for lane in found.lanes}:
        spans = sorted(
            (span for lane in found.lanes if lane.rank == rank for span in lane.spans),
            key=lambda span: (span.begin, span.end),
        )
        assert all(before.end <= after.begin for before, after in pairwise(spans))
        for span in spans:
            assert 0 <= span.begin <= span.end <= found.seconds + 1e-6
            assert all(span.begin <= seen.begin <= seen.end <= span.end for seen in span.stretches)
