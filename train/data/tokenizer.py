"""Tokenizers: text to token ids and back. Both kinds need no training beyond the list of a text's characters."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recorder.canonical import digest_json
from recorder.errors import DataError

TOKENIZER_FORMAT = 1
END_OF_DOCUMENT_TEXT = "\n\n"  # how the end of a document reads in a sample

Ids = npt.NDArray[np.int64]


class Tokenizer(Protocol):
    """Ids are 0 to `vocabulary_size` - 1. `end_of_document` is the last of them and stands for no text."""

    kind: str
    vocabulary_size: int
    end_of_document: int

    @property
    def digest(self) -> str:
        """BLAKE3 of the canonical JSON of `to_json`."""

    def encode(self, text: str) -> Ids:
        """The ids of `text`, without an end of document. Raises DataError for text it has no ids for."""

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of `ids`; the end of a document reads as an empty line."""

    def to_json(self) -> dict[str, Any]:
        """All that `tokenizer_from_json` needs to make an equal tokenizer."""


class BytesTokenizer:
    """A token is a byte of the text's UTF-8. The end of a document is 255, a byte that UTF-8 never uses."""

    kind = "bytes"
    vocabulary_size = 256
    end_of_document = 255

    @property
    def digest(self) -> str:
        """BLAKE3 of the canonical JSON of `to_json`."""
        return digest_json(self.to_json())

    def encode(self, text: str) -> Ids:
        """The bytes of `text` in UTF-8. Raises DataError for a lone surrogate, which UTF-8 cannot hold."""
        try:
            return np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        except UnicodeEncodeError as error:
            raise DataError(f"{_named(text[error.start])} is half a character; leave it out") from error

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of `ids`; bytes that are no UTF-8 read as U+FFFD."""
        data = np.asarray(ids).astype(np.uint8).tobytes()
        end = bytes([self.end_of_document])
        return data.replace(end, END_OF_DOCUMENT_TEXT.encode()).decode(errors="replace")

    def to_json(self) -> dict[str, Any]:
        """All that `tokenizer_from_json` needs to make an equal tokenizer."""
        return _header(self)


class CharsTokenizer:
    """A token is a character (a Unicode code point): the id is its place among `characters`, sorted."""

    kind = "chars"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.end_of_document = len(characters)
        self.vocabulary_size = len(characters) + 1
        self._texts = [*characters, END_OF_DOCUMENT_TEXT]
        points = _code_points(characters)
        # The last entry answers for every code point beyond the largest known one.
        self._ids = np.full(int(points[-1]) + 2, -1, np.int64)
        self._ids[points] = np.arange(len(points))

    @property
    def digest(self) -> str:
        """BLAKE3 of the canonical JSON of `to_json`."""
        return digest_json(self.to_json())

    def encode(self, text: str) -> Ids:
        """The ids of the characters of `text`. Raises DataError for a character the corpus does not have."""
        ids: Ids = self._ids[np.minimum(_code_points(text), len(self._ids) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if unknown.size:
            raise DataError(
                f"{_named(text[unknown[0]])} is not one of the {len(self.characters)} characters of the corpus this "
                "tokenizer was made from; leave it out, or use data.tokenizer=bytes"
            )
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of `ids`. Raises IndexError for an id beyond the vocabulary."""
        return "".join([self._texts[index] for index in np.asarray(ids).tolist()])

    def to_json(self) -> dict[str, Any]:
        """All that `tokenizer_from_json` needs to make an equal tokenizer."""
        return _header(self) | {"characters": self.characters}


def tokenizer_from_json(value: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_json` described. Raises DataError for a kind or format this version does not know."""
    if value.get("format") == TOKENIZER_FORMAT:
        if value.get("kind") == BytesTokenizer.kind:
            return BytesTokenizer()
        if value.get("kind") == CharsTokenizer.kind:
            return CharsTokenizer(value["characters"])
    raise DataError(
        f"tokenizer of kind {value.get('kind')!r}, format {value.get('format')!r}: "
        f"this version knows bytes and chars, format {TOKENIZER_FORMAT}"
    )


class Alphabet:
    """Collects the distinct characters of a text that is seen piece by piece; 1.1 MB, however long the text."""

    def __init__(self) -> None:
        self._seen = np.zeros(0x110000, np.bool_)

    def add(self, text: str) -> None:
        """Take in the characters of `text`."""
        self._seen[_code_points(text)] = True

    def characters(self) -> str:
        """Every character seen, in code point order."""
        return "".join(map(chr, np.flatnonzero(self._seen).tolist()))


def _header(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "format": TOKENIZER_FORMAT,
        "kind": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "end_of_document": tokenizer.end_of_document,
    }


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _named(character: str) -> str:
    return f"the character {character!r} (U+{ord(character):04X})"
