"""Text files as documents: a .txt file is one, every line of a .jsonl file is one."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from blake3 import blake3

from recorder.errors import DataError
from train.data.inputs import TXT, input_files, listed, unreadable
from train.data.source import Piece

_CHUNK = 1 << 20
_KINDS = {
    dict: "an object", list: "an array", str: "empty", int: "a number", float: "a number", bool: "a boolean",
    type(None): "null",
}  # fmt: skip

TextAndEnd = tuple[str, bool]  # and whether it ends its document
Update = Callable[[bytes], object]


class TextSource:
    """The documents of `patterns`, in the order that `input_files` states.

    The files are digested when the source is made and again whenever they are read, so what is read is what the
    record says. Memory is bounded by 1 MiB of a .txt file and by the longest line of a .jsonl file. A byte order mark
    at the beginning of a file is no part of its text; line ends are kept as they are.
    """

    def __init__(self, patterns: Sequence[str], field: str) -> None:
        self.field = field
        self.inputs = input_files(patterns)
        self.name = listed([file.name for file in self.inputs])

    def describe(self) -> dict[str, Any]:
        """What determines the text, besides the inputs."""
        return {"kind": "text", "text_field": self.field}

    def pieces(self) -> Iterator[Piece]:
        """The text from its beginning. Raises DataError for bad UTF-8, bad JSON, no text, or a file that changed."""
        for number, file in enumerate(self.inputs):
            hasher = blake3()
            try:
                with file.path.open("rb") as stream:
                    if file.path.suffix.lower() == TXT:
                        found = _txt_pieces(file.name, stream, hasher.update)
                    else:
                        found = _jsonl_pieces(file.name, stream, hasher.update, self.field)
                    yield from (Piece(text, ends, number) for text, ends in found)
            except OSError as error:
                raise unreadable(file.name, error) from error
            if hasher.hexdigest() != file.digest:
                raise DataError(f"data.files: {file.name} changed while it was read; run again when it is complete")


def _txt_pieces(name: str, stream: BinaryIO, update: Update) -> Iterator[TextAndEnd]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    end = characters = 0
    chunk = b"first"
    while chunk:
        chunk = stream.read(_CHUNK)
        update(chunk)
        content = chunk if end else chunk.removeprefix(codecs.BOM_UTF8)
        end += len(chunk)
        try:
            text = decoder.decode(content, final=not chunk)
        except UnicodeDecodeError as error:
            # What the decoder looked at is the unfinished character of the chunk before, and this chunk.
            raise _bad_utf8(name, end - len(error.object) + error.start, error) from error
        characters += len(text)
        if text:
            yield text, False
    if not characters:
        raise DataError(f"data.files: {name} holds no text; leave it out or fill it")
    yield "", True


def _jsonl_pieces(name: str, stream: BinaryIO, update: Update, field: str) -> Iterator[TextAndEnd]:
    end = 0
    for number, line in enumerate(stream, 1):
        update(line)
        end += len(line)
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            text = _document(content.decode().rstrip("\r\n"), field)
        except UnicodeDecodeError as error:
            raise _bad_utf8(f"{name}, line {number}", end - len(content) + error.start, error) from error
        except ValueError as error:
            raise DataError(f"data.files: {name}, line {number}: {error}") from error
        yield text, True


def _document(line: str, field: str) -> str:
    """The text of one line. Raises ValueError that says what is wrong with it and how to mend it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        at = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise ValueError(f'no JSON object ({at}); each line must be one, such as {{"{field}": "..."}}') from error
    if not isinstance(value, dict):
        raise ValueError(f'JSON, but no object; each line must be one, such as {{"{field}": "..."}}')
    if field not in value:
        has = listed([repr(key) for key in sorted(value)]) or "none"
        raise ValueError(f"no field {field!r} (it has {has}); set data.text_field to the field that holds the text")
    text = value[field]
    if not isinstance(text, str) or not text:
        raise ValueError(f"field {field!r} is {_KINDS[type(text)]}; it must be a string with text in it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"field {field!r} has half a surrogate pair, {half}; take it out") from error
    return text


def _bad_utf8(name: str, place: int, error: UnicodeDecodeError) -> DataError:
    byte = error.object[error.start]
    return DataError(
        f"data.files: {name}: the byte at offset {place} (0x{byte:02x}) is no UTF-8; save the file as UTF-8"
    )
