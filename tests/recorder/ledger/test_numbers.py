from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.ledger.numbers import pack_numbers, unpack_numbers


@given(st.dictionaries(st.text(max_size=6), st.floats(), max_size=12))
@settings(deadline=None)
def test_names_and_bits_come_back(numbers: dict[str, float]) -> None:
    read = unpack_numbers(json.loads(pack_numbers(numbers)))
    assert list(read) == list(numbers)
    assert [struct.pack("<d", value) for value in read.values()] == [
        struct.pack("<d", value) for value in numbers.values()
    ]


def test_the_payload_of_a_nan_is_kept() -> None:
    (odd,) = struct.unpack("<d", bytes.fromhex("efbeadde0000f87f"))
    assert math.isnan(odd)
    assert '"efbeadde0000f87f"' in pack_numbers({"odd": odd})


@pytest.mark.parametrize(
    "packed",
    [
        None,
        {},
        {"names": ["a"]},
        {"names": ["a"], "float64": "00"},
        {"names": ["a"], "float64": "zz" * 8},
        {"names": ["a", "b"], "float64": "00" * 8},
        {"names": 3, "float64": ""},
    ],
)
def test_anything_else_is_refused(packed: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        unpack_numbers(packed)
