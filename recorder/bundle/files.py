"""Writing whole files so that they are either there and complete, or not there; and taking their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from recorder.errors import RecordingError

_BLOCK = 1 << 20
TEMPORARY = ".tmp"


@dataclass(frozen=True)
class FileDigest:
    """Size in bytes and digests of one file; MD5 is there because DVC addresses by it."""

    size: int
    blake3: str
    md5: str

    def record(self) -> dict[str, Any]:
        """As it stands in a manifest or an event."""
        return asdict(self)


class DigestingHasher:
    """BLAKE3 and MD5 of the bytes passed through `update`, taken in one pass."""

    def __init__(self) -> None:
        self._blake3 = blake3()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Add `data`."""
        self._blake3.update(data)
        self._md5.update(data)
        self.size += len(data) if isinstance(data, bytes) else data.nbytes

    def digest(self) -> FileDigest:
        """The digest of everything so far; more may be added afterwards."""
        return FileDigest(self.size, self._blake3.hexdigest(), self._md5.hexdigest())


def digest_file(path: Path) -> FileDigest:
    """Read `path` once and return its size and digests."""
    hasher = DigestingHasher()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.digest()


def blake3_file(path: Path) -> str:
    """BLAKE3-256 of `path` by memory map on all cores, the fastest there is."""
    if path.stat().st_size < _BLOCK:
        return blake3(path.read_bytes()).hexdigest()
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


@contextmanager
def recording_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into one clear line."""
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the disk quota is used up; free some space",
            errno.EACCES: "permission denied; make the folder writable",
            errno.EPERM: "permission denied; make the folder writable",
            errno.EROFS: "the file system is read-only; choose another folder with run.dir",
        }.get(error.errno or 0, error.strerror or str(error))
        raise RecordingError(f"cannot write {path}: {reason}") from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> FileDigest:
    """Write `data` to `path` atomically and durably; an interrupted call leaves `path` as it was.

    Raises RecordingError when the file cannot be written.
    """
    hasher = DigestingHasher()
    hasher.update(data)
    temporary = temporary_path(path)
    with recording_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    return hasher.digest()


def temporary_path(path: Path) -> Path:
    """Where this process writes what becomes `path` once it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes had begun to write below `folder`; call it while nobody writes there."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def append_whole(handle: int, data: bytes) -> None:
    """Append `data` to a file that this process alone writes: all of it or, when that fails, nothing. Raises OSError.

    Without this, what is written after a failure would go on in the middle of a line.
    """
    written = os.write(handle, data)
    try:
        while written < len(data):
            written += os.write(handle, data[written:])
    except OSError:
        os.ftruncate(handle, os.fstat(handle).st_size - written)
        raise


def make_read_only(path: Path) -> None:
    """Mark a closed file: nobody opens it for writing again."""
    path.chmod(0o444)


def make_writable(path: Path) -> None:
    """Let a file be written to again, alone: who has it by another hard link keeps it as it was. Raises OSError."""
    if path.stat().st_nlink > 1:
        temporary = temporary_path(path)
        try:
            shutil.copyfile(path, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    path.chmod(0o644)
