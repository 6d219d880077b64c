"""Files of whole lines that may end in a torn one: what a writer killed in the middle of a write leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines of `data`, each with its newline, and the torn rest (empty when there is none)."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole], rest


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object on `line`. Raises ValueError for anything else."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_objects(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each whole line of `path` and its object, in bounded memory; a torn last line is left out.

    Raises ValueError, naming file and line, for a whole line that is not a JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield line, parse_object(line)
            except ValueError as error:
                raise ValueError(f"{path.name} line {number} is not a JSON object ({error})") from None


def torn_tail(path: Path) -> bytes:
    """The bytes after the last newline of `path`; empty when the file ends with a whole line."""
    with path.open("rb") as file:
        position = end = file.seek(0, 2)
        tail = b""
        while position > 0 and b"\n" not in tail:
            position = max(0, position - 4096)
            file.seek(position)
            tail = file.read(end - position)
    return tail.rpartition(b"\n")[2]
