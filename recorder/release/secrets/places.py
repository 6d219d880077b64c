"""Where in a file text may stand: its lines, the members of an archive, the strings of a table, a binary's header."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from recorder.errors import BundleError
from recorder.release.secrets.embedded import binary_hunks, torn_record
from recorder.release.secrets.tables import table_texts

_BLOCK = 8 << 20
# A private key that begins in one block ends in the same: this much more is read where one is in sight.
_KEY_BYTES = 64 << 10
_LONGEST_HEADER = 100 << 20
_UNPACKED_AT_ONCE = 64 << 10
# What Python raises for compressed data that is damaged or cut off; of zip and xz also what is encrypted or unknown.
DAMAGED = (EOFError, OSError, zlib.error)
_UNFIT = (*DAMAGED, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, ValueError, struct.error)
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
_ZIP, _BZIP2, _XZ = b"PK\x03\x04", b"BZh", b"\xfd7zX"
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# What a file begins with whose text is not its bytes, and can be looked at but not edited.
PACKED = (_ZIP, _BZIP2, _XZ, *_ENCODINGS)
PATCHES = (".patch", ".diff")
# A zip file can hold itself.
_DEEPEST = 8
# Programs, patches, and documents that show pieces of them. In scripts of a shell a plain word is a value.
_PROGRAMS = (
    *(".py", ".pyi", ".pyx", ".ipynb", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".go", ".java", ".jl", ".js"),
    *(".lua", ".r", ".R", ".rb", ".rs", ".scala", ".ts", ".tsx", ".html", ".md", ".rst", ".patch", ".diff"),
)


@dataclass(frozen=True)
class Piece:
    """Lines of one place in a file: `place` is a member, column or header, or empty.

    `first` is the number of the first line. Where lines have numbers of their own, as rows do, these are `numbers`.
    `is_code` is for lines of a program, where a plain word after `password=` is a name and no password.
    """

    place: str
    lines: list[bytes]
    first: int = 1
    numbers: list[int] | None = None
    is_code: bool = False

    def number(self, index: int) -> int:
        """The number of the line at `index`."""
        return self.numbers[index] if self.numbers is not None else self.first + index


def is_code(name: str) -> bool:
    """Whether the file of this name is a program's text, or holds pieces of one."""
    return name.endswith(_PROGRAMS)


def pieces(path: Path) -> Iterator[Piece]:
    """All text of the file at `path`, in bounded memory. What is damaged or of no known form is read as lines."""
    with path.open("rb") as file:
        yield from pieces_in(file, path.name)


def pieces_in(file: IO[bytes], name: str, depth: int = 0) -> Iterator[Piece]:
    """As `pieces`, of an open file that can be searched; `depth` is in how many others it is packed."""
    magic = file.read(4)
    file.seek(0)
    if magic == PARQUET:
        yield from _table_or_lines(file)
    elif magic[:2] == GZIP and depth < _DEEPEST:
        yield from _archive(file, depth)
    elif magic.startswith(PACKED) and depth < _DEEPEST:
        yield from _packed(file, magic, depth)
    elif name.endswith(PATCHES):
        yield from _patch(file, depth)
    elif name.endswith(".safetensors"):
        yield from _tensor_header(file)
    elif name.endswith(".jsonl"):
        yield from _ledger(file)
    else:
        yield from (replace(piece, is_code=is_code(name)) for piece in _lines(file))


def _ledger(file: IO[bytes]) -> Iterator[Piece]:
    """Lines, and after them what they keep of torn records."""
    for piece in _lines(file):
        yield piece
        for index, line in enumerate(piece.lines):
            if (record := torn_record(line)) is not None:
                lines = record.split(b"\n")
                yield Piece("base64", lines, numbers=[piece.number(index)] * len(lines))


def _lines(file: IO[bytes]) -> Iterator[Piece]:
    first = 1
    while block := file.read(_BLOCK):
        block += file.readline(_BLOCK)
        if b"PRIVATE KEY" in block[-_KEY_BYTES:]:
            block += file.read(_KEY_BYTES) + file.readline(_BLOCK)
        lines = block.removesuffix(b"\n").split(b"\n")
        yield Piece("", lines, first)
        first += len(lines)


def _tensor_header(file: IO[bytes]) -> Iterator[Piece]:
    """The header alone: tensors are numbers, and gigabytes."""
    header = tensor_header(file)
    if header is not None:
        yield Piece("header", header.split(b"\n"))
    else:
        file.seek(0)
        yield from _lines(file)


def tensor_header(file: IO[bytes]) -> bytes | None:
    """The JSON header of a safetensors file, after which `file` then stands; None when it has none."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    header = file.read(length) if 0 < length <= _LONGEST_HEADER else b""
    try:
        return header if isinstance(json.loads(header), dict) else None
    except (ValueError, RecursionError):
        return None


def _packed(file: IO[bytes], magic: bytes, depth: int) -> Iterator[Piece]:
    """What is in a zip, bzip2, xz or UTF-16 file; its bytes as lines where it is damaged, or may be none."""
    try:
        if magic == _ZIP:
            yield from _zip(file, depth)
            return
        if (encoding := _ENCODINGS.get(magic[:2])) is not None:
            text = file.read().decode(encoding, errors="replace")
            yield Piece(encoding, text.encode().split(b"\n"))
        else:
            with bz2.open(file) if magic.startswith(_BZIP2) else lzma.open(file) as stream:
                yield from _within("unpacked", io.BytesIO(stream.read()), "", depth)
            return
    except _UNFIT:
        pass
    file.seek(0)
    yield from _lines(file)


def _zip(file: IO[bytes], depth: int) -> Iterator[Piece]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            described = member.filename.encode(errors="surrogateescape") + b" " + member.comment
            yield Piece(member.filename, [described], 0)
            yield from _within(member.filename, io.BytesIO(archive.read(member)), member.filename, depth)


def _within(place: str, file: IO[bytes], name: str, depth: int) -> Iterator[Piece]:
    """The pieces of a file that is packed in another, where it is called `place`."""
    for piece in pieces_in(file, name, depth + 1):
        yield replace(piece, place=f"{place}!{piece.place}" if piece.place else place)


def _patch(file: IO[bytes], depth: int) -> Iterator[Piece]:
    """Lines, and what is in binary files; their numbers are those of the lines that they begin with."""
    lines = file.read().split(b"\n")
    yield Piece("", lines, is_code=True)
    for index, content in binary_hunks(lines):
        for piece in _within("binary", io.BytesIO(content), "", depth):
            yield replace(piece, numbers=[index + 1] * len(piece.lines))


def _archive(file: IO[bytes], depth: int) -> Iterator[Piece]:
    """Every member of a tar.gz, by name, and its name itself; another gzip file's lines.

    Of a damaged one the members before the damage, what can be unpacked as lines, and its bytes as lines.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:gz", errors="surrogateescape") as archive:
            for member in archive:
                described = f"{member.name} {member.linkname} {member.uname} {member.gname}".strip()
                yield Piece(member.name, [described.encode(errors="surrogateescape")], 0)
                if (opened := archive.extractfile(member)) is not None:
                    yield from _within(member.name, io.BytesIO(opened.read()), member.name, depth)
            return
    except (tarfile.TarError, *DAMAGED):
        file.seek(0)
    unpacked, is_whole = _unpacked(file)
    yield from _lines(io.BytesIO(unpacked))
    if not is_whole:
        file.seek(0)
        yield from _lines(file)


def _unpacked(file: IO[bytes]) -> tuple[bytes, bool]:
    """The content of a gzip file as far as it can be read, and whether that is all of it."""
    parts = []
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while block := stream.read1(_UNPACKED_AT_ONCE):
                parts.append(block)
    except DAMAGED:
        return b"".join(parts), False
    return b"".join(parts), True


def _table_or_lines(file: IO[bytes]) -> Iterator[Piece]:
    try:
        yield from (Piece(place, lines, numbers=numbers) for place, lines, numbers in table_texts(file))
    except BundleError:
        file.seek(0)
        yield from _lines(file)
