"""From token numbers back to the documents they came from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from train.data.shards import SplitReader


@dataclass(frozen=True)
class Span:
    """A stretch of one document that a row of a micro-batch read.

    `offset` and `tokens` count tokens of the document, so bytes or characters of its text; the document's end counts
    as one. `file` and `line` (from 1) say where the document is; None for generated text, and `line` also for .txt.
    """

    row: int
    sequence: int
    document: int
    offset: int
    tokens: int
    file: str | None
    line: int | None


def spans(
    reader: SplitReader, inputs: Sequence[dict[str, Any]], row: int, sequence: int, length: int
) -> Iterator[Span]:
    """The spans of one row: of its `length` inputs and the target of the last of them, `length` + 1 tokens in all."""
    start, stop = sequence * length, (sequence + 1) * length + 1
    number = bisect_right(reader.table, start, key=lambda entry: entry[0]) - 1
    while start < stop:
        first, document, offset = map(int, reader.table[number])
        end = int(reader.table[number + 1][0]) if number + 1 < len(reader.table) else reader.tokens
        tokens = min(stop, end) - start
        file, line = _place(inputs, document)
        yield Span(row, sequence, document, offset + start - first, tokens, file, line)
        start, number = start + tokens, number + 1


def _place(inputs: Sequence[dict[str, Any]], document: int) -> tuple[str | None, int | None]:
    if not inputs:
        return None, None
    entry = inputs[bisect_right(inputs, document, key=lambda item: item["first_document"]) - 1]
    is_txt = entry["path"].lower().endswith(".txt")
    return entry["path"], None if is_txt else document - entry["first_document"] + 1
