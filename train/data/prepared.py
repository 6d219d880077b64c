"""Prepared data as training reads it: batches by sequence number, straight from memory-mapped shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.files import blake3_file
from recorder.canonical import digest_json
from recorder.errors import DataError
from train.data.inputs import listed
from train.data.order import DataOrder
from train.data.shards import SplitReader
from train.data.spans import Span, spans
from train.data.split import SPLITS
from train.data.stories import STORY_PROMPT
from train.data.tokenizer import Tokenizer, tokenizer_from_json

DATASET_FORMAT = 1
DATASET_FILE = "dataset.json"
TOKENIZER_FILE = "tokenizer.json"

_PROMPT_CHARACTERS = 32
_PROMPT_TOKENS = 4 * _PROMPT_CHARACTERS  # a character is at most four bytes

Ids = npt.NDArray[np.int64]


class PreparedData:
    """A prepared folder. `record` is its dataset.json.

    A split is one stream of tokens. For sequences of length T, sequence i has the inputs tokens[i*T : i*T+T] and the
    targets one token further, so there are (tokens - 1) // T of them and each token is a target once, apart from the
    first and from the dropped tail.
    """

    def __init__(self, folder: Path, record: dict[str, Any], tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.record = record
        self.tokenizer = tokenizer
        self.vocabulary_size = tokenizer.vocabulary_size
        self._splits = {name: SplitReader(folder, record["splits"][name], record["token_type"]) for name in SPLITS}

    def sequences(self, split: str, length: int) -> int:
        """How many sequences a split has. Raises DataError where it has none."""
        tokens = self._splits[split].tokens
        if tokens > length:
            return (tokens - 1) // length
        names = listed([entry["path"] for entry in self.record["inputs"]]) or "the generated stories"
        more = "use more text" if self.record["inputs"] else "raise data.megabytes"
        share = f"data.validation_fraction ({self.record['split']['validation_fraction']} now)"
        raise DataError(
            f"the {split} part of {names} has {tokens} tokens, too few for one sequence of "
            f"data.sequence_length={length} and the token after it; {more}, "
            f"{'raise' if split == 'validation' else 'lower'} {share} or lower data.sequence_length"
        )

    def batch(self, split: str, indices: npt.ArrayLike, length: int) -> tuple[Ids, Ids]:
        """Inputs and targets, each [B, length], of the sequences numbered `indices` [B].

        Raises IndexError for a number the split does not have.
        """
        reader = self._splits[split]
        starts = [index * length for index in np.asarray(indices).tolist()]
        tokens = np.stack([reader.read(start, start + length + 1) for start in starts])
        return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])

    def summary(self, length: int) -> dict[str, Any]:
        """Counts of each split for this sequence length, ready for JSON."""
        return {"sequence_length": length, "vocabulary_size": self.vocabulary_size} | {
            name: self._counts(name, length) for name in SPLITS
        }

    def locate(self, step: int, micro_batch: int, order: DataOrder, length: int) -> list[Span]:
        """The stretches of documents that a micro-batch reads, row by row: its inputs and their targets."""
        rows = enumerate(order.sequences_of(step, micro_batch).tolist())
        inputs = self.record["inputs"]
        return [span for row, sequence in rows for span in spans(self._splits["train"], inputs, row, sequence, length)]

    def prompt(self) -> str:
        """A beginning to sample from: the stories' usual one, or that of the first validation document."""
        if self.record["source"]["kind"] == "stories":
            return STORY_PROMPT
        reader = self._splits["validation"]
        beginning = reader.read(0, min(_PROMPT_TOKENS, reader.tokens)).tolist()
        end = beginning.index(self.tokenizer.end_of_document) if self.tokenizer.end_of_document in beginning else None
        return self.tokenizer.decode(beginning[:end])[:_PROMPT_CHARACTERS]

    def check(self) -> None:
        """Compare every file with its digest in the record. Raises DataError where one differs."""
        for entry in _files(self.record):
            if blake3_file(self.folder / entry["file"]) != entry["blake3"]:
                raise _damaged(self.folder, f"{entry['file']} was changed")

    def _counts(self, split: str, length: int) -> dict[str, int]:
        tokens = self._splits[split].tokens
        sequences = max(0, tokens - 1) // length
        return {
            "documents": self.record["splits"][split]["documents"],
            "characters": self.record["splits"][split]["characters"],
            "tokens": tokens,
            "sequences": sequences,
            "dropped_tail_tokens": max(0, tokens - 1 - sequences * length),
        }


def open_prepared(folder: Path) -> PreparedData:
    """Open a folder that `prepare` made. Raises DataError where it is missing, incomplete or of another format."""
    try:
        record = json.loads((folder / DATASET_FILE).read_bytes())
        tokenizer_record = json.loads((folder / TOKENIZER_FILE).read_bytes())
        if record["format"] != DATASET_FORMAT:
            raise DataError(f"{folder} has dataset format {record['format']}; this version reads {DATASET_FORMAT}")
        if digest_json(tokenizer_record) != record["tokenizer"]["blake3"]:
            raise _damaged(folder, f"{TOKENIZER_FILE} was changed")
        for entry in _files(record):
            if (folder / entry["file"]).stat().st_size != entry["bytes"]:
                raise _damaged(folder, f"{entry['file']} was cut or changed")
        return PreparedData(folder, record, tokenizer_from_json(tokenizer_record))
    except OSError as error:
        raise DataError(
            f"prepared data in {folder} cannot be opened ({error.strerror}: {error.filename}); data.cache must be a "
            "folder that every node sees; if it is, delete that folder and run again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{DATASET_FILE} or {TOKENIZER_FILE} was changed") from error


def _files(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for split in record["splits"].values():
        yield from split["shards"]
        yield split["document_table"]


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"prepared data in {folder} is damaged ({what}); delete that folder and run again")
