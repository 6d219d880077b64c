from __future__ import annotations

import json
from typing import Any

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.canonical import canonical_json
from recorder.ledger.chain import chained_line, check_line

GENESIS = blake3(b"genesis").hexdigest()
RECORDS = st.lists(
    st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)),
    min_size=2,
    max_size=6,
)


def chain(records: list[dict[str, Any]]) -> list[bytes]:
    lines, last = [], GENESIS
    for record in records:
        content = {key: value for key, value in record.items() if key not in {"prev", "hash"}}
        last, line = chained_line(last, content)
        lines.append(line)
    return lines


def problems(lines: list[bytes]) -> list[str]:
    """What a reader finds that goes through the lines in order, each after the hash of the one before."""
    found, last = [], GENESIS
    for line in lines:
        try:
            record = json.loads(line)
            if wrong := check_line(line, record, last):
                found.append(wrong)
            last = record["hash"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return [*found, repr(error)]
    return found


@given(RECORDS)
@settings(deadline=None)
def test_what_was_written_is_valid_and_follows_the_stated_formula(records: list[dict[str, Any]]) -> None:
    lines = chain(records)
    assert problems(lines) == []
    last = GENESIS
    for line in lines:
        content = json.loads(line)
        own, prev = content.pop("hash"), content.pop("prev")
        assert prev == last
        last = blake3(bytes.fromhex(prev) + canonical_json(content)).hexdigest()
        assert own == last


@given(RECORDS, st.data())
@settings(deadline=None)
def test_a_changed_byte_is_found(records: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = chain(records)
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 2))
    changed = bytearray(lines[number])
    changed[place] ^= data.draw(st.integers(1, 255))
    lines[number] = bytes(changed)
    assert problems(lines)


@given(RECORDS, st.data())
@settings(deadline=None)
def test_a_dropped_line_is_found(records: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = chain(records)
    # The end alone can be cut off unseen: that is what the next segment's first line, and the seal, are for.
    del lines[data.draw(st.integers(0, len(lines) - 2))]
    assert problems(lines)


@given(RECORDS, st.data())
@settings(deadline=None)
def test_swapped_lines_are_found(records: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = chain(records)
    one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    assert problems(lines)


@given(RECORDS, st.data())
@settings(deadline=None)
def test_an_inserted_line_is_found(records: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = chain(records)
    place = data.draw(st.integers(0, len(lines)))
    forged = data.draw(
        st.sampled_from(lines) | st.builds(lambda prev: chained_line(prev, {"forged": 1})[1], st.just("00" * 32))
    )
    assert problems([*lines[:place], forged, *lines[place:]])


def test_white_space_and_double_keys_are_found() -> None:
    (line,) = chain([{"a": 1}])
    assert problems([line.replace(b":1", b": 1")]) == ["its bytes are not canonical JSON"]
    assert problems([line.replace(b'"a":1', b'"a":2,"a":1')]) == ["its bytes are not canonical JSON"]
