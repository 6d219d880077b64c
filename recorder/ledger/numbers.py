"""Floats in a spool's record: names and, in hexadecimal, their eight bytes each.

Turning a float into the digits that JSON wants is most of the cost of a JSON line; this is ten times faster and keeps
every bit, of NaN too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from recorder.canonical import json_encoder

_encode = json_encoder(sort_keys=False)


def pack_numbers(numbers: Mapping[str, float]) -> str:
    """`numbers` as JSON text: `{"names": [...], "float64": "<16 digits each>"}`, little-endian."""
    beginning, pack = _form(tuple(numbers))
    return f'{beginning}{pack(*numbers.values()).hex()}"}}'


def unpack_numbers(packed: Any) -> dict[str, float]:
    """What was packed. Raises LookupError, TypeError or ValueError for anything else."""
    names, data = packed["names"], bytes.fromhex(packed["float64"])
    if len(data) != 8 * len(names):
        raise ValueError("names and numbers differ in length")
    return dict(zip(names, struct.unpack(f"<{len(names)}d", data), strict=True))


@lru_cache(256)
def _form(names: tuple[str, ...]) -> tuple[str, Callable[..., bytes]]:
    """Everything but the numbers: a run logs the same names again and again."""
    return f'{{"names":{_encode(names)},"float64":"', struct.Struct(f"<{len(names)}d").pack
