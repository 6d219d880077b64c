from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.ledger.numbers import pack_numbers
from recorder.ledger.records import Event, Hello, Message, Part, read_record


def step_record(**changes: Any) -> dict[str, Any]:
    numbers = json.loads(pack_numbers({"loss": math.nan, "step_seconds": 0.5}))
    logged = json.loads(pack_numbers({"accuracy": 0.25}))
    identity = {"t": 1.5, "k": "step", "step": 7, "membership": 2, "rank": 1, "workers": 4}
    return identity | {"tokens": 64, "order_digest": "ab", "numbers": numbers, "logged": logged} | changes


def test_a_part_of_a_step() -> None:
    part = read_record(step_record())
    assert isinstance(part, Part)
    assert (part.step, part.membership, part.rank, part.workers) == (7, 2, 1, 4)
    assert part.time == "1970-01-01T00:00:01.500000Z"
    assert math.isnan(part.shared.pop("loss"))
    assert part.shared == {"tokens": 64, "order_digest": "ab"}
    assert (part.times, part.logged) == ({"step_seconds": 0.5}, {"accuracy": 0.25})


def test_other_records() -> None:
    assert read_record({"t": 0, "k": "hello", "pid": 5, "started": 6, "host": "h"}) == Hello(5, 6, "h")
    assert read_record({"t": 2.0, "k": "event", "type": "note", "fields": {"a": 1}}) == Event("note", {"a": 1}, 2.0)
    message = {"t": 3.0, "k": "log", "level": "INFO", "logger": "root", "text": "hi"}
    assert read_record(message) == Message("INFO root: hi", 3.0)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"k": "step"},
        {"k": "unknown", "t": 0.0},
        {"k": ["step"], "t": 0.0},
        step_record(step="7"),
        step_record(step=True),
        step_record(step=-1),
        step_record(tokens=1 << 63),
        step_record(tokens=1.5),
        step_record(order_digest=3),
        step_record(grad_norm="high"),
        step_record(logged={"names": ["loss"], "float64": "00" * 8}),
        step_record(logged={"names": ["hash"], "float64": "00" * 8}),
        step_record(numbers=None),
        step_record(t=1e300),
        step_record(t="now"),
        {"k": "event", "t": 0.0, "type": "", "fields": {}},
        {"k": "event", "t": 0.0, "type": "note", "fields": [1]},
        {"k": "event", "t": None, "type": "note", "fields": {}},
        {"k": "log", "t": 0.0, "level": "INFO", "logger": "root"},
        {"k": "hello", "t": 0.0, "pid": "5", "started": 6, "host": "h"},
    ],
)
def test_what_no_writer_writes_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no record of a spool"):
        read_record(record)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["hello", "step", "event", "log", "x"]), st.data())
@settings(deadline=None)
def test_nothing_but_a_value_error_ever_comes_out(kind: str, data: st.DataObject) -> None:
    record = step_record() | {"pid": 1, "started": 1, "host": "", "type": "t", "fields": {}} | {"k": kind}
    for name in data.draw(st.sets(st.sampled_from(sorted(record)), max_size=3)):
        record[name] = data.draw(JSON)
    with suppress(ValueError):
        read_record(record)
