from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.ledger.lines import parse_object, read_objects, split_lines, torn_tail


@given(st.binary(max_size=60))
def test_splitting_loses_no_byte(data: bytes) -> None:
    lines, rest = split_lines(data)
    assert b"".join(lines) + rest == data
    assert all(line.endswith(b"\n") and b"\n" not in line[:-1] for line in lines)
    assert b"\n" not in rest


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 20_000])
@pytest.mark.parametrize("before", [b"", b"{}\n", b"x" * 5000 + b"\n"])
def test_the_torn_tail_is_what_follows_the_last_newline(tmp_path: Path, size: int, before: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(before + b"t" * size)
    assert torn_tail(path) == b"t" * size


@pytest.mark.parametrize("line", [b"[1]\n", b'"text"\n', b"{\n", b"\n", b"\xff\n", b"[" * 100_000])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — the words are json's
        parse_object(line)


def test_a_damaged_line_is_named_and_a_torn_one_left_out(tmp_path: Path) -> None:
    path = tmp_path / "0001.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":')
    assert list(read_objects(path)) == [(b'{"a":1}\n', {"a": 1})]
    path.write_bytes(b'{"a":1}\nnonsense\n{"b":2}\n')
    with pytest.raises(ValueError, match=r"0001\.jsonl line 2 is not a JSON object"):
        list(read_objects(path))
