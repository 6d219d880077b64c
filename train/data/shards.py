"""A split on disk: its tokens in shards of bounded size, and a table of where each document begins.

`<split>-00000.bin`, ... hold token ids, little endian, in the smallest unsigned type; every shard but the last is
full. `<split>-documents.bin` has a row of three little-endian 64-bit integers for every stretch of a document: its
first token in the split, the document's number, and how many of the document's tokens come before the stretch.
A stretch ends with an end-of-document token.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from train.data.tokenizer import Tokenizer

SHARD_BYTES = 64 * 2**20
TABLE_COLUMNS = ("first_token", "document", "offset_in_document")

_TOKEN_TYPES = ("uint8", "uint16", "uint32")


def token_type(vocabulary_size: int) -> str:
    """The smallest unsigned type, by NumPy's name, that holds every id."""
    return next(name for name in _TOKEN_TYPES if vocabulary_size - 1 <= np.iinfo(name).max)


class _DigestedFile:
    """A new file that is digested while it is written, and on disk when `close` returns its record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("xb", buffering=1 << 20)
        self._hasher = blake3()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._hasher.update(data)
        self.size += len(data)

    def abandon(self) -> None:
        """Let go of the file if it was not closed, as after an error."""
        self._stream.close()

    def close(self) -> dict[str, Any]:
        with self._stream:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        return {"file": self._path.name, "bytes": self.size, "blake3": self._hasher.hexdigest()}


class SplitWriter:
    """Writes one split inside a `with` block: `add` the text of documents in order, then `close`. Raises OSError."""

    def __init__(self, folder: Path, split: str, tokenizer: Tokenizer, shard_bytes: int) -> None:
        self._folder = folder
        self._split = split
        self._tokenizer = tokenizer
        self._type = _little_endian(token_type(tokenizer.vocabulary_size))
        self._end = np.array([tokenizer.end_of_document])
        self._shard_bytes = shard_bytes
        self._table = _DigestedFile(folder / f"{split}-documents.bin")
        self._shard: _DigestedFile | None = None
        self._shards: list[dict[str, Any]] = []
        self._tokens = self._characters = self._stretches = 0
        self._document = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._table.abandon()
        if self._shard is not None:
            self._shard.abandon()

    def add(self, document: int, offset: int, text: str) -> int:
        """More text of a document, after `offset` of its tokens in any split; how many tokens it is."""
        if not text:
            return 0
        if document != self._document:
            self._end_stretch()
            self._table.write(np.array([self._tokens, document, offset], "<i8").tobytes())
            self._document = document
            self._stretches += 1
        tokens = self._tokenizer.encode(text)
        self._write(tokens)
        self._characters += len(text)
        return len(tokens)

    def close(self) -> dict[str, Any]:
        """Complete the files; the record of this split for dataset.json."""
        self._end_stretch()
        self._end_shard()
        table = self._table.close() | {"columns": list(TABLE_COLUMNS), "type": "int64"}
        counts = {"documents": self._stretches, "characters": self._characters, "tokens": self._tokens}
        return counts | {"shards": self._shards, "document_table": table}

    def _end_stretch(self) -> None:
        if self._document >= 0:
            self._write(self._end)

    def _write(self, tokens: npt.NDArray[np.int64]) -> None:
        data = memoryview(tokens.astype(self._type).tobytes())
        self._tokens += len(tokens)
        while data:
            if self._shard is None:
                name = f"{self._split}-{len(self._shards):05}.bin"
                self._shard = _DigestedFile(self._folder / name)
            room = self._shard_bytes - self._shard.size
            self._shard.write(data[:room])
            data = data[room:]
            if self._shard.size == self._shard_bytes:
                self._end_shard()

    def _end_shard(self) -> None:
        if self._shard is not None:
            self._shards.append(self._shard.close())
            self._shard = None


class SplitReader:
    """Reads one split by memory map: opening it reads nothing, and memory is the page cache's."""

    def __init__(self, folder: Path, record: dict[str, Any], kind: str) -> None:
        dtype = _little_endian(kind)
        self._shards = [np.memmap(folder / shard["file"], dtype, "r") for shard in record["shards"]]
        self._shard_tokens = len(self._shards[0]) if self._shards else 1
        self.tokens: int = record["tokens"]
        table = record["document_table"]
        shape = (record["documents"], len(TABLE_COLUMNS))
        self.table: npt.NDArray[np.int64] = (
            np.memmap(folder / table["file"], "<i8", "r", shape=shape) if shape[0] else np.empty(shape, np.int64)
        )

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens `start` to `stop` (exclusive), a copy. Raises IndexError outside the split."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        result = np.empty(stop - start, np.int64)
        done = 0
        while done < len(result):
            number, place = divmod(start + done, self._shard_tokens)
            part = self._shards[number][place : place + len(result) - done]
            result[done : done + len(part)] = part
            done += len(part)
        return result


def _little_endian(kind: str) -> np.dtype[Any]:
    return np.dtype(kind).newbyteorder("<")
