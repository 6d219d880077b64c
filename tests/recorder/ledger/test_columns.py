from __future__ import annotations

import math
from typing import Any

import pytest

from recorder.ledger.columns import KNOWN, check_user_metric, coerce_row


def test_values_take_their_columns_type_and_nulls_are_left_out() -> None:
    row = {"step": 3.0, "loss": 1, "fingerprint": None, "worker_rank": (0, 1), "worker_step_seconds": [1, math.nan]}
    coerced = coerce_row(row | {"accuracy": True, "node": "a", "grad_norm": math.inf})
    assert coerced == {
        "step": 3,
        "loss": 1.0,
        "worker_rank": [0, 1],
        "worker_step_seconds": [1.0, "NaN"],
        "accuracy": 1.0,
        "node": "a",
        "grad_norm": "Infinity",
    }
    assert [type(coerced[name]) for name in ("step", "loss", "accuracy")] == [int, float, float]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "high"),
        ("loss", [1.0]),
        ("accuracy", 10**400),
        ("step", math.nan),
        ("step", math.inf),
        ("tokens", 1 << 63),
        ("tokens", -(1 << 63) - 1),
        ("worker_rank", 3),
        ("worker_step_seconds", [None]),
    ],
)
def test_what_a_column_cannot_hold_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"column '{name}' holds"):
        coerce_row({name: value})


@pytest.mark.parametrize("name", [*KNOWN, "prev", "hash", "header", "_private", "", "a\nb", "\udcff", 3, None])
def test_names_that_the_record_needs_are_not_the_users(name: object) -> None:
    with pytest.raises(ValueError, match="choose"):
        check_user_metric(name)


@pytest.mark.parametrize("name", ["accuracy", "val/loss", "lr 2", "précision", "損失", "compute_seconds"])
def test_other_names_are(name: str) -> None:
    check_user_metric(name)
