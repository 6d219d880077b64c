"""Text that stands within text in another form: torn records in a ledger, as base64, and binary files in a patch."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator

from recorder.ledger.torn import TORN

_TYPES = tuple(f'"type":"{kind}"'.encode() for kind in TORN)
_BASE64 = re.compile(rb'(?<="base64":")[A-Za-z0-9+/]+={0,2}(?=")')

_HUNK = re.compile(rb"(?:literal|delta) [0-9]+\r?")


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


def binary_hunks(lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """What a patch of git holds of binary files, before the change and after it, each with the index of its first line.

    Of a file that changed little it is what was put in, between instructions. A damaged one is left out.
    """
    for index, line in enumerate(lines):
        if _HUNK.fullmatch(line):
            end = next((place for place in range(index + 1, len(lines)) if not lines[place].strip()), len(lines))
            try:
                yield index, zlib.decompress(b"".join(map(_base85, lines[index + 1 : end])))
            except (ValueError, IndexError, zlib.error):
                continue


def _base85(line: bytes) -> bytes:
    """The bytes of one line, which begins with their number as a letter."""
    letter = line[:1]
    count = ord(letter) - (ord("A") - 1 if letter.isupper() else ord("a") - 27)
    return base64.b85decode(line[1:].strip())[:count]
