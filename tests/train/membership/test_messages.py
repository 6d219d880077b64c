"""One line a message: what is encoded is decoded, and nothing else is taken for a message."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from train.membership.messages import (
    Arrived,
    Busy,
    Commit,
    Dismiss,
    Ended,
    Form,
    Hello,
    Message,
    Ping,
    Position,
    Ready,
    Reform,
    Seat,
    Source,
    Stage,
    Vote,
    decode,
    encode,
)

NUMBERS = st.integers(0, 2**63)
POSITIONS = st.builds(Position, NUMBERS, st.sampled_from(Stage).map(int), st.booleans())
SEATS = st.builds(Seat, st.text(), NUMBERS, st.text())
KINDS = st.sampled_from(["live", "memory", "storage", "fork", "start"])
SOURCES = st.builds(Source, KINDS, NUMBERS, st.none() | st.text())
MESSAGES = st.one_of(
    st.builds(Hello, st.text(), st.text(), NUMBERS, st.text(), st.text(), NUMBERS, NUMBERS, st.text()),
    st.builds(Ready, st.none() | POSITIONS, st.lists(NUMBERS)),
    st.builds(Arrived, NUMBERS, NUMBERS),
    st.builds(Busy, NUMBERS, NUMBERS),
    st.builds(
        Vote, NUMBERS, NUMBERS, st.sampled_from(["sum", "state", "evaluation", "recorded", "end"]), NUMBERS, st.text()
    ),
    st.builds(Ended, st.text()),
    st.just(Ping()),
    st.builds(Form, NUMBERS, st.lists(SEATS), SOURCES, POSITIONS, st.lists(st.text()), st.lists(st.text())),
    st.builds(Commit, NUMBERS, NUMBERS, st.sampled_from(["go on", "reform", "leave"]), st.booleans()),
    st.builds(Reform, NUMBERS, st.booleans()),
    st.builds(Dismiss, st.text()),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=10,
)


@given(message=MESSAGES)
def test_what_is_sent_is_what_comes(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message


@given(line=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_message(line: bytes) -> None:
    with pytest.raises(ValueError, match="protocol"):
        decode(line)


@given(message=MESSAGES, name=st.text(min_size=1), value=JSON)
def test_a_message_with_an_unknown_field_is_none(message: Message, name: str, value: Any) -> None:
    content = json.loads(encode(message))
    if name not in content:
        with pytest.raises(ValueError, match="protocol"):
            decode(json.dumps(content | {name: value}).encode())


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "Nobody"},
        {"kind": ["Ping"]},
        {"kind": "Ready", "position": 3, "offers": []},
        {"kind": "Ready", "position": {"step": 3, "more": 1}, "offers": []},
        {"kind": "Form", "membership": 0, "seats": [1], "source": None, "position": None, "holders": []},
        {"kind": "Ping", "position": {"step": 1}},
    ],
)
def test_a_near_miss_is_no_message(content: Any) -> None:
    with pytest.raises(ValueError, match="protocol"):
        decode(json.dumps(content).encode())


def test_a_deep_nest_is_no_message() -> None:
    with pytest.raises(ValueError, match="protocol"):
        decode(b"[" * 100_000)
