"""Text that stands within text in another form: what a ledger keeps of torn records, as base64."""

from __future__ import annotations

import base64
import re

from recorder.ledger.torn import TORN

_TYPES = tuple(f'"type":"{kind}"'.encode() for kind in TORN)
_BASE64 = re.compile(rb'(?<="base64":")[A-Za-z0-9+/]+={0,2}(?=")')


def torn_record(line: bytes) -> bytes | None:
    """The bytes that a line of a ledger keeps of a torn record; None when it keeps none."""
    match = _BASE64.search(line) if any(kind in line for kind in _TYPES) else None
    return _decoded(match[0]) if match else None


def with_torn_record(line: bytes, record: bytes) -> bytes:
    """`line`, which keeps a torn record, with `record` in its place."""
    return _BASE64.sub(base64.b64encode(record), line, count=1)


def _decoded(data: bytes) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return None
