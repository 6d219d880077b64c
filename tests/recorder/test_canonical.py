from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.canonical import (
    canonical_json,
    decode_float,
    digest,
    digest_json,
    encode_non_finite,
    json_encoder,
    parse_utc,
    readable_json,
    utc_text,
)

ANY_TEXT = st.text(st.characters(), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
KEYS = ANY_TEXT | st.integers() | st.booleans() | st.none() | st.floats()


def values(keys: st.SearchStrategy[Any] = KEYS) -> st.SearchStrategy[Any]:
    return st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


@given(values())
@settings(deadline=None)
def test_reading_and_writing_again_gives_the_same_bytes(value: Any) -> None:
    written = canonical_json(value)
    assert canonical_json(json.loads(written)) == written
    assert readable_json(json.loads(written)) == readable_json(value)


@given(values(st.text(max_size=5)))
@settings(deadline=None)
def test_is_what_the_standard_encoder_writes(value: Any) -> None:
    plain = encode_non_finite(value)
    expected = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        encoded = expected.encode()
    except UnicodeEncodeError:
        return  # lone surrogates have a test of their own
    assert canonical_json(value) == encoded


@given(st.floats())
def test_every_float_comes_back_with_its_bits(number: float) -> None:
    read = decode_float(json.loads(canonical_json(number)))
    assert (
        math.isnan(read) if math.isnan(number) else (read, math.copysign(1, read)) == (number, math.copysign(1, number))
    )


def test_non_finite_numbers_are_their_stated_strings_at_any_depth() -> None:
    value = {"a": [math.nan, {"b": (math.inf, -math.inf)}], "c": -0.0}
    assert canonical_json(value) == b'{"a":["NaN",{"b":["Infinity","-Infinity"]}],"c":-0.0}'
    with pytest.raises(ValueError, match="allowed strings are NaN, Infinity, -Infinity"):
        decode_float("nan")


def test_keys_are_sorted_as_the_text_they_become() -> None:
    assert canonical_json({10: 1, 9: 2, "1": 3}) == b'{"1":3,"10":1,"9":2}'
    assert canonical_json({None: 0, True: 1, 1.5: 2, math.inf: 3}) == b'{"1.5":2,"Infinity":3,"null":0,"true":1}'


def test_bytes_of_a_file_name_that_are_no_text_are_escaped() -> None:
    name = b"caf\xff".decode(errors="surrogateescape")
    assert canonical_json({"file": name}) == b'{"file":"caf\\\\udcff"}'
    assert readable_json([name]) == b'[\n  "caf\\\\udcff"\n]\n'
    assert canonical_json({"a": 1, "\udcff": 2}) == b'{"\\\\udcff":2,"a":1}'
    assert canonical_json("\ud83d\ude00") == b'"\\\\ud83d\\\\ude00"'


def test_text_is_utf_8_and_not_escaped() -> None:
    assert canonical_json("é😀\u2028") == '"é😀\u2028"'.encode()


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json({"value": value})


def test_a_file_ends_with_a_newline_and_is_indented() -> None:
    assert readable_json({"b": 1, "a": [True, math.nan]}) == b'{\n  "a": [\n    true,\n    "NaN"\n  ],\n  "b": 1\n}\n'


def test_the_encoder_refuses_what_json_has_no_word_for() -> None:
    encode = json_encoder(sort_keys=False)
    assert encode({"b": 1, "a": None}) == '{"b":1,"a":null}'
    with pytest.raises(ValueError, match="JSON compliant"):
        encode([math.nan])
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        encode(endless)


def test_digests_are_blake3() -> None:
    assert digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_json({"a": 1}) == digest(b'{"a":1}')


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_keep_their_microseconds(microseconds: int) -> None:
    text = utc_text(microseconds / 1e6)
    assert len(text) == 27
    assert utc_text(parse_utc(text)) == text
    assert abs(parse_utc(text) - microseconds / 1e6) < 2e-6


def test_times_are_utc() -> None:
    assert utc_text(0.25) == "1970-01-01T00:00:00.250000Z"
    with pytest.raises(ValueError, match="does not match format"):
        parse_utc("1970-01-01T00:00:00Z")
