"""Which text is for training and which for validation: by document where there are many, else by their tails."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from train.data.source import Source
from train.data.tokenizer import Alphabet

SPLITS = ("train", "validation")
SPLIT_VERSION = 1

_ENOUGH = 10  # documents expected on the smaller side, so that a split by document is no accident
_CONTEXT = f"run-recorder split {SPLIT_VERSION}"
_STATEMENTS = {
    "documents": (
        "A document is for validation where the first 8 bytes of BLAKE3 in key derivation mode, context "
        f"{_CONTEXT!r}, over its number as 8 bytes are less than floor(validation_fraction * 2^64), all little endian."
    ),
    "tail": (
        "Of every document the last floor(characters * validation_fraction) characters are for validation. This rule "
        f"holds where fewer than {_ENOUGH} documents would be expected on either side of a split by document."
    ),
}


@dataclass(frozen=True)
class Survey:
    """What one pass over a source finds. `lengths` are characters a document; empty where no split needs them."""

    documents: int
    characters: int
    documents_of_input: list[int]
    alphabet: str
    lengths: array[int]

    def split(self, fraction: float) -> Split:
        """The split of this text; see `Split`."""
        return Split("tail" if _few(self.documents, fraction) else "documents", fraction, self.lengths)


@dataclass(frozen=True)
class Split:
    """A deterministic split of documents into training and validation."""

    rule: str
    fraction: float
    lengths: array[int]

    def training_characters(self, document: int) -> int | None:
        """How many characters at the beginning of a document are for training; None: all of them."""
        if self.rule == "tail":
            return self.lengths[document] - int(self.lengths[document] * self.fraction)
        hashed = blake3(document.to_bytes(8, "little"), derive_key_context=_CONTEXT).digest(length=8)
        return 0 if int.from_bytes(hashed, "little") < int(self.fraction * 2**64) else None

    def describe(self) -> dict[str, Any]:
        """The rule as the record states it."""
        return {"rule": self.rule, "version": SPLIT_VERSION, "statement": _STATEMENTS[self.rule]}


def survey(source: Source, fraction: float) -> Survey:
    """Read a source once. Memory: 8 bytes a document while the documents are few for `fraction`, else none."""
    documents = characters = length = 0
    of_input: Counter[int] = Counter()
    alphabet = Alphabet()
    lengths = array("q")
    for piece in source.pieces():
        alphabet.add(piece.text)
        length += len(piece.text)
        if piece.ends_document:
            documents, characters = documents + 1, characters + length
            of_input[piece.input] += 1
            lengths.append(length)
            length = 0
            if not _few(documents, fraction):
                del lengths[:]
    per_input = [of_input[number] for number in range(len(source.inputs))]
    return Survey(documents, characters, per_input, alphabet.characters(), lengths)


def _few(documents: int, fraction: float) -> bool:
    return documents * min(fraction, 1 - fraction) < _ENOUGH
