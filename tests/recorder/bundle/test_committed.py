from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.committed import commit

ROWS = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(1, 6), "attempt": st.integers(1, 3), "membership": st.integers(0, 2)},
        optional={"late": st.just(1)},
    )
)


def row(step: int, attempt: int, membership: int = 0, **more: Any) -> dict[str, Any]:
    return {"step": step, "attempt": attempt, "membership": membership, **more}


def test_a_late_part_counts_only_where_there_is_nothing_else() -> None:
    whole, late = row(1, 1, loss=1.0), row(1, 2, late=1)
    assert commit([whole, late]).rows == [whole]
    assert commit([late, whole]).rows == [whole]
    assert commit([late]).rows == [late]


@given(ROWS)
def test_no_row_is_lost_and_every_step_has_one(rows: list[dict[str, Any]]) -> None:
    series = commit(rows)
    assert [item["step"] for item in series.rows] == sorted({item["step"] for item in rows})
    assert sorted(map(repr, series.rows + series.superseded)) == sorted(map(repr, rows))
    for chosen in series.rows:
        whole = [item for item in rows if item["step"] == chosen["step"] and not item.get("late")]
        if whole:
            newest = max((item["attempt"], item["membership"]) for item in whole)
            assert (chosen["attempt"], chosen["membership"]) == newest
