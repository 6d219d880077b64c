"""The arithmetic behind the figures of recovery, and the comparison behind those of the soak."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY
from helpers.recovery import RecoveryBuilder

# Last, since one of the benchmarks has the name of a package.
sys.path.append(str(REPOSITORY / "benchmarks"))

import soak
from arms.costs import Cost, Kill, Mark, cost, p95, step_seconds

from recorder.bundle import layout
from recorder.bundle.rows import read_rows


def marks(*entries: tuple[float, int, int, int]) -> list[Mark]:
    return [Mark(*entry) for entry in entries]


def test_a_worker_lost_in_place_costs_until_the_survivors_next_step() -> None:
    found = cost(Kill(12.5, 0), 2, marks((10, 1, 0, 2), (12, 2, 0, 2), (13, 3, 1, 1), (14, 4, 1, 1), (20, 5, 2, 2)))
    assert found == Cost(first=0.5, whole=7.5, new=0.5, steps_lost=0)


def test_steps_that_are_computed_again_are_lost_and_not_new() -> None:
    found = cost(
        Kill(13, 1), 2, marks((11, 4, 1, 2), (12, 5, 1, 2), (20, 3, 2, 2), (21, 4, 2, 2), (22, 5, 2, 2), (23, 6, 2, 2))
    )
    assert found == Cost(first=7, whole=7, new=10, steps_lost=3)


def test_a_step_committed_by_the_old_generation_after_the_kill_is_no_recovery() -> None:
    found = cost(Kill(11, 0), 2, marks((10, 1, 0, 2), (11.1, 2, 0, 2), (15, 2, 1, 2), (16, 3, 1, 2)))
    assert found == Cost(first=4, whole=4, new=5, steps_lost=1)


def test_a_run_that_did_not_go_on_has_no_cost() -> None:
    with pytest.raises(ValueError, match="no step was committed after the kill"):
        cost(Kill(11, 0), 2, marks((10, 1, 0, 2)))


def test_the_time_of_a_step_is_taken_where_all_workers_are() -> None:
    whole, alone, again = [(0, 1, 0, 2), (1, 2, 0, 2)], [(9, 3, 1, 1), (19, 4, 1, 1)], [(30, 5, 2, 2), (32, 6, 2, 2)]
    assert step_seconds(marks(*whole, *alone, *again), 2) == 1.5


def test_p95_is_a_value_that_occurred() -> None:
    assert p95([3.0, 1.0, 2.0]) == 3.0
    assert p95([float(number) for number in range(1, 101)]) == 95.0


def a_run(root: Path, last: int = 4, **values: object) -> Path:
    """Two workers, one of them lost after step 2; `values` are of the last step."""
    builder = RecoveryBuilder(root).create().start("node-a", "node-b").steps(1, 2).lose(1).steps(3, last - 1)
    return builder.steps(last, last, **values).checkpoint(last).finish().close()


def test_runs_with_the_same_bits_do_not_differ_whoever_was_lost(tmp_path: Path) -> None:
    straight = RecoveryBuilder(tmp_path / "b").create().start("node-a").steps(1, 4).checkpoint(4).finish().close()
    assert list(soak.differences(a_run(tmp_path / "a"), straight, 4)) == []


@pytest.mark.parametrize("values", [{"loss": 9.5}, {"fingerprint": "f" * 16}, {"gradient_digest": "f" * 16}])
def test_a_bit_that_differs_is_named_by_its_step(tmp_path: Path, values: dict[str, object]) -> None:
    found = list(soak.differences(a_run(tmp_path / "a", **values), a_run(tmp_path / "b"), 4))
    assert found == ["step 4, recorded in membership 1"]


def test_a_step_too_few_differs(tmp_path: Path) -> None:
    shorter = RecoveryBuilder(tmp_path / "a").create().start("node-a").steps(1, 2).steps(4, 4).checkpoint(4)
    found = list(soak.differences(shorter.finish().close(), a_run(tmp_path / "b"), 4))
    assert found == ["the steps that were recorded"]


def test_a_byte_of_the_last_checkpoint_that_differs_is_named_by_its_file(tmp_path: Path) -> None:
    a, b = a_run(tmp_path / "a"), a_run(tmp_path / "b")
    model = b / layout.checkpoint_folder(4) / layout.CHECKPOINT_MODEL
    model.chmod(0o644)
    model.write_bytes(b"other")
    assert list(soak.differences(a, b, 4)) == [f"{layout.checkpoint_folder(4)}/{layout.CHECKPOINT_MODEL}"]


def test_the_effective_ratio_counts_a_step_once(tmp_path: Path) -> None:
    rows = list(read_rows(a_run(tmp_path), layout.METRICS))
    assert soak.effective_ratio([*rows, rows[-1]]) == soak.effective_ratio(rows)
