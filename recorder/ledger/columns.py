"""Columns of the series and the types of their values: declared for ours, floats for what the user logs."""

from __future__ import annotations

from typing import Any

from recorder.canonical import encode_non_finite

INTEGER, FLOAT, TEXT, INTEGERS, FLOATS = "int64", "float64", "string", "list<int64>", "list<float64>"

# Columns of `metrics` that others rely on, with units. Steps count from 1: row N describes update N.
KNOWN = {
    "step": INTEGER,
    "attempt": INTEGER,
    "membership": INTEGER,
    "time": TEXT,
    "loss": FLOAT,  # mean cross entropy, nats per token
    "learning_rate": FLOAT,
    "grad_norm": FLOAT,  # L2, before clipping
    "tokens": INTEGER,  # trained on since step 0
    "step_seconds": FLOAT,  # the slowest worker's
    "order_digest": TEXT,
    "gradient_digest": TEXT,
    "fingerprint": TEXT,
    "skipped": INTEGER,  # 1 when the update was left out by policy
    "late": INTEGER,  # 1 when the row came after the step's row had been written
    "node": TEXT,
    "worker_rank": INTEGERS,
    "worker_compute_seconds": FLOATS,
    "worker_exchange_seconds": FLOATS,
    "worker_update_seconds": FLOATS,
    "worker_step_seconds": FLOATS,
}

# What a line of an open segment holds beside its row.
_OF_A_LINE = frozenset({"prev", "hash", "header"})
_INT64 = range(-(1 << 63), 1 << 63)


def column_type(name: str) -> str:
    """The type of column `name`: declared above, or a float for what the user logs."""
    return KNOWN.get(name, FLOAT)


def check_user_metric(name: object) -> None:
    """Raise ValueError unless `name` can name a column of the user's."""
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise ValueError(f"metric {name!r} has no usable name; choose printable text")
    if name in KNOWN or name in _OF_A_LINE or name.startswith("_"):
        raise ValueError(f"metric {name!r} is a name that the record uses itself; choose another")


def coerce_row(row: dict[str, Any]) -> dict[str, Any]:
    """`row` without nulls, every value of its column's type, non-finite numbers as their stated strings.

    Raises ValueError for a value that its column cannot hold.
    """
    return {name: _coerce(name, value) for name, value in row.items() if value is not None}


def _coerce(name: str, value: Any) -> Any:
    kind = column_type(name)
    try:
        if kind == TEXT:
            return str(value)
        if kind == INTEGER:
            return _int64(value)
        if kind == INTEGERS:
            return [_int64(item) for item in value]
        if kind == FLOATS:
            return [encode_non_finite(float(item)) for item in value]
        return encode_non_finite(float(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column {name!r} holds {kind} and cannot hold {value!r}") from None


def _int64(value: Any) -> int:
    number = int(value)
    if number not in _INT64:
        raise OverflowError
    return number
