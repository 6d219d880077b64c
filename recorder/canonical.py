"""One byte string for one value: what every digest in a bundle is taken over.

Canonical JSON is UTF-8, keys sorted, no spaces, `ensure_ascii` off, floats as Python's shortest round-trip `repr`.
JSON has no NaN and no infinities: they are the strings "NaN", "Infinity" and "-Infinity". Times are UTC, RFC 3339,
with microseconds and a final Z.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_compact = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_indented = json.JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode


def encode_non_finite(value: Any) -> Any:
    """A copy of `value` in which every NaN and infinity is its stated string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: encode_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode_non_finite(item) for item in value]
    return value


def decode_float(value: float | int | str) -> float:
    """The number that `encode_non_finite` wrote. Raises ValueError for any other string."""
    if isinstance(value, str):
        if value not in _NON_FINITE:
            raise ValueError(f"{value!r} is not a number; allowed strings are {', '.join(_NON_FINITE)}")
        return _NON_FINITE[value]
    return float(value)


def canonical_json(value: Any) -> bytes:
    """Canonical JSON of `value`, without a newline. Raises TypeError for what JSON cannot hold."""
    try:
        return _compact(value).encode()
    except ValueError:
        return _compact(encode_non_finite(value)).encode()


def readable_json(value: Any) -> bytes:
    """The canonical form of a JSON *file*: the same rules, indented by two spaces, with a final newline."""
    return (_indented(encode_non_finite(value)) + "\n").encode()


def digest(data: bytes) -> str:
    """BLAKE3-256 of `data`, 64 hexadecimal digits."""
    return blake3(data).hexdigest()


def digest_json(value: Any) -> str:
    """BLAKE3-256 of the canonical JSON of `value`."""
    return digest(canonical_json(value))


def utc_text(seconds: float) -> str:
    """POSIX `seconds` as RFC 3339 text in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_utc(text: str) -> float:
    """POSIX seconds of a text that `utc_text` wrote. Raises ValueError for any other text."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
