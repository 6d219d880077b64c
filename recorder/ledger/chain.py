"""Hash chains: each record's hash covers its content and the hash before it, so no record can be changed,
dropped, inserted or moved without every later hash changing.

    hash = BLAKE3-256(previous hash, 32 bytes, then the canonical JSON of the record without `prev` and `hash`)
"""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from recorder.canonical import canonical_json


def link(previous: str, content: bytes) -> str:
    """The hash of the record with canonical `content` that follows `previous` (64 hexadecimal digits)."""
    return blake3(bytes.fromhex(previous) + content).hexdigest()


def chained_line(previous: str, record: dict[str, Any]) -> tuple[str, bytes]:
    """The hash of `record` after `previous`, and its line in a segment: canonical JSON with `prev` and `hash`."""
    own = link(previous, canonical_json(record))
    return own, canonical_json(record | {"prev": previous, "hash": own}) + b"\n"


def check_line(line: bytes, record: dict[str, Any], previous: str, edited: str | None = None) -> str | None:
    """What is wrong with a line that was parsed to `record` and should follow `previous`; None when all is well.

    A line that was edited keeps the hash it had; `edited` is the BLAKE3 of the line as it should be now.
    """
    content = {key: value for key, value in record.items() if key not in {"prev", "hash"}}
    if record.get("prev") != previous:
        return f"its prev is {record.get('prev')}, the record before it has hash {previous}"
    if edited is not None:
        if blake3(line).hexdigest() != edited:
            return "it was edited otherwise than the addenda say"
    elif record.get("hash") != link(previous, canonical_json(content)):
        return "its hash does not match its content"
    if canonical_json(record) + b"\n" != line:
        return "its bytes are not canonical JSON"
    return None
