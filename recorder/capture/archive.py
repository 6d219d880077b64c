"""The source archive: one deterministic tar.gz of files held in memory, and its safe extraction."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.files import recording_errors
from recorder.canonical import digest
from recorder.errors import BundleError

_LEVEL = 6
_BLOCK = 1 << 20
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


@dataclass(frozen=True)
class SourceFile:
    """A regular file as it was read; `name` is relative, as the file system's bytes."""

    name: bytes
    data: bytes
    executable: bool


def pack(files: Iterable[SourceFile]) -> bytes:
    """A tar.gz of `files`, sorted by name, without times and owners; mode 0755 or 0644.

    Equal files give equal bytes with one build of zlib; with another, the tar inside is equal but perhaps not the gzip.
    """
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=buffer, mtime=0) as stream,
        tarfile.open(
            fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding=_ENCODING, errors=_ERRORS
        ) as archive,
    ):
        for file in sorted(files, key=lambda file: file.name):
            entry = tarfile.TarInfo(file.name.decode(_ENCODING, _ERRORS))
            entry.size = len(file.data)
            entry.mode = 0o755 if file.executable else 0o644
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()


def extract_source(archive: bytes, destination: Path) -> Path:
    """Unpack `archive` into the folder `destination/<digest>` and return it; an existing one is returned as it is.

    The folder appears whole or not at all, also when several processes do this at once. Raises BundleError for an
    archive that is damaged or reaches outside its folder, RecordingError where it cannot be written.
    """
    target = destination / digest(archive)
    if target.is_dir():
        return target
    with recording_errors(target):
        destination.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".source-", dir=destination) as temporary:
            unpacked = Path(temporary) / "source"
            unpacked.mkdir()
            _unpack(archive, unpacked)
            try:
                unpacked.rename(target)
            except OSError:
                # Another process was first; after any other refusal there is no target.
                if not target.is_dir():
                    raise
    return target


def _unpack(archive: bytes, folder: Path) -> None:
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(archive)) as stream,
            tarfile.open(fileobj=stream, mode="r:", encoding=_ENCODING, errors=_ERRORS) as opened,
        ):
            opened.extractall(folder, filter="data")
            # The checksum stands at the end, which reading a tar alone does not reach.
            while stream.read(_BLOCK):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BundleError(f"the source archive cannot be unpacked: {error}") from error
