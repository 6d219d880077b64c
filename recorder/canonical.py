"""One byte string for one value: what every digest in a bundle is taken over.

Canonical JSON is UTF-8, keys sorted, no spaces, `ensure_ascii` off, floats as Python's shortest round-trip `repr`.
JSON has no NaN and no infinities: they are the strings "NaN", "Infinity" and "-Infinity". A key that is a number, a
truth value or None is the text that JSON has for it. UTF-8 has no lone surrogates, which stand in Python for bytes of a
file name that are no text: each is the six characters of its escape, such as `\\udcff`. What was read from canonical
JSON gives the same bytes again. Times are UTC, RFC 3339, with microseconds and a final Z.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any

from blake3 import blake3

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SURROGATE = re.compile("[\ud800-\udfff]")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def json_encoder(*, sort_keys: bool) -> Callable[[Any], str]:
    """A function that gives a value's JSON without spaces, as `json.JSONEncoder` would, in about half its time.

    `JSONEncoder.encode` makes a new encoder for each value; this is made once. What it returns raises ValueError for
    NaN and infinities, TypeError for what JSON cannot hold, and RecursionError for a value that contains itself.
    """
    encode = c_make_encoder(
        None, json.JSONEncoder().default, encode_basestring, None, ":", ",", sort_keys, False, False
    )
    return lambda value: "".join(encode(value, 0))


_compact = json_encoder(sort_keys=True)
_indented = json.JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False).encode


def encode_non_finite(value: Any) -> Any:
    """A copy of `value` in which every NaN and infinity is its stated string, and every key text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _key(key): encode_non_finite(item) for key, item in value.items()}
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
    return _utf8(_compact, encode_non_finite(value))


def readable_json(value: Any) -> bytes:
    """The canonical form of a JSON *file*: the same rules, indented by two spaces, with a final newline."""
    return _utf8(_indented, encode_non_finite(value)) + b"\n"


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
    # A tenth of the time of strptime, which a long run's rows would feel.
    if _UTC.fullmatch(text) is None:
        raise ValueError(f"{text!r} does not match format 2026-11-21T08:00:00.000000Z")
    return datetime.fromisoformat(text).timestamp()


def _key(key: Any) -> str:
    if not isinstance(key, bool | int | float | None):
        raise TypeError(f"keys must be text or a number, not {type(key).__name__}")
    text = encode_non_finite(key)
    return text if isinstance(text, str) else _compact(text)


def _utf8(encode: Callable[[Any], str], value: Any) -> bytes:
    text = encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = _SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", text)
        return encode(json.loads(escaped)).encode()
