"""What a source of text is: a stream of pieces of documents that never has to fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Piece(NamedTuple):
    """A stretch of a document's text. Pieces follow each other in document order."""

    text: str
    ends_document: bool
    input: int = 0  # which of the source's input files it is from


@dataclass(frozen=True)
class InputFile:
    """A file the text is read from: where it is, what the record calls it, its size in bytes and its BLAKE3 digest."""

    path: Path
    name: str
    size: int
    digest: str


class Source(Protocol):
    """Documents to learn from; each holds at least one character."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def inputs(self) -> Sequence[InputFile]:
        """The files it reads; none where the text is generated."""

    def describe(self) -> dict[str, Any]:
        """Kind and parameters: with the inputs, all that determines the text."""

    def pieces(self) -> Iterator[Piece]:
        """The text from its beginning; may be called again. Raises DataError for text that is unfit."""
