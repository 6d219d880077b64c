"""Which rows count must be what `commit` says, which holds all rows at once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.committed import commit
from recorder.bundle.kept_steps import KeptSteps

ROWS = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(1, 12), "attempt": st.integers(1, 2), "membership": st.integers(0, 2)},
        optional={"late": st.just(1)},
    ),
    max_size=40,
    # A step is written once by a membership; what comes again is late.
    unique_by=lambda row: (row["step"], row["attempt"], row["membership"], row.get("late")),
)


def followed(rows: list[dict[str, Any]]) -> KeptSteps:
    kept = KeptSteps()
    for row in rows:
        kept.follow(row)
    return kept


@given(rows=ROWS)
def test_the_rows_that_count_are_those_that_commit_chooses(rows: list[dict[str, Any]]) -> None:
    kept = followed(rows)
    chosen = commit(rows).rows
    assert [row for row in sorted(rows, key=lambda row: row["step"]) if kept.kept(row) and not row.get("late")] == [
        row for row in chosen if not row.get("late")
    ]
    in_time = {row["step"] for row in rows if not row.get("late")}
    assert not [row for row in rows if row.get("late") and kept.kept(row) and row["step"] in in_time]
    # Of several late rows of a step of which nothing else is known, one counts there and all here.
    assert {row["step"] for row in rows if kept.kept(row)} == {row["step"] for row in chosen}


@given(rows=ROWS)
def test_superseded_steps_are_those_of_the_other_rows(rows: list[dict[str, Any]]) -> None:
    kept = followed(rows)
    found = {
        (*key, step) for key, ranges in kept.superseded.items() for low, high in ranges for step in range(low, high + 1)
    }
    others = [row for row in rows if not row.get("late") and not kept.kept(row)]
    assert found == {(row["attempt"], row["membership"], row["step"]) for row in others}


def test_a_run_that_went_well_is_one_range() -> None:
    kept = followed([{"step": step, "attempt": 1, "membership": 0} for step in range(1, 1001)])
    assert kept.recorded == {(1, 0): [(1, 1000)]}
    assert kept.superseded == {(1, 0): []}
