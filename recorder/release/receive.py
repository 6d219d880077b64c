"""Fetching one file so that it is there whole and right, or not there; what came of it is kept for the next call."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from recorder.bundle.files import recording_errors, sync_folder
from recorder.errors import BundleError, TransferError, UsageError
from recorder.release.destinations.protocol import Source
from recorder.release.manifest import RELEASE, SIGNATURE, FileRecord, ReleaseHasher

PARTIAL = ".partial"
# What a transfer keeps there: files by the SHA-256 that they will have, and what goes last.
_BEGUN = re.compile(rf"[0-9a-f]{{64}}|\.?({re.escape(RELEASE)}|{re.escape(SIGNATURE)})(\.\d+\.tmp)?")

# A transfer that breaks is taken up again as long as it gets on; so often when it does not.
_TRIES = 3
_BLOCK = 1 << 20
# Of a file that is read into memory; a release of a hundred thousand files has a release.json of half that.
_LARGEST = 64 << 20

Progress = Callable[[int], None]


def receive(
    source: Source,
    path: str,
    target: Path,
    partial: Path,
    record: FileRecord,
    progress: Progress | None = None,
) -> None:
    """Fetch `path` from `source` to `target`, which must not exist, by way of a file in the folder `partial`.

    What an earlier call left in `partial` is gone on with. `progress` is called with the bytes of each block. Raises
    TransferError when the source ends early or what it gives has not the recorded digests (what came is thrown away:
    asking again asks for all of it), FileNotFoundError when it has no such file, RecordingError when the disk does not
    take it.
    """
    begun = partial / record.sha256
    with recording_errors(target):
        partial.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    for resumed in (True, False):
        had = begun.stat().st_size if begun.exists() else 0
        if _fetch(source, path, begun, record, progress) == record:
            break
        begun.unlink(missing_ok=True)
        # What an earlier call left may be what is wrong; what came in one piece is the source's fault.
        if not had or not resumed:
            raise TransferError(f"{source.url}: {path} is not what {RELEASE} says: other digests than recorded")
    with recording_errors(target):
        begun.chmod(0o444)
        begun.replace(target)
        sync_folder(target.parent)


def is_begun(name: str) -> bool:
    """Whether a file of this name in a folder `PARTIAL` is one that a transfer has begun."""
    return _BEGUN.fullmatch(name) is not None


def clear_begun(partial: Path) -> None:
    """Remove what transfers have begun in the folder `partial`, and the folder unless it holds something else."""
    for path in partial.glob("*"):
        if is_begun(path.name) and not path.is_dir():
            path.unlink()
    with suppress(OSError):
        partial.rmdir()


def read_whole(source: Source, path: str) -> bytes:
    """A small file, such as release.json, in memory; a transfer that breaks is taken up again.

    Raises FileNotFoundError when it is not there, TransferError when it does not come, BundleError when it is too large
    to be what it should be.
    """
    data, failures = bytearray(), 0
    while True:
        before = len(data)
        try:
            for block in source.read(path, before):
                data += block
                if len(data) > _LARGEST:
                    raise BundleError(f"{path} at {source.url} has more than {_LARGEST >> 20} MiB: it cannot be one")
        except TransferError:
            failures = 0 if len(data) > before else failures + 1
            if failures >= _TRIES:
                raise
        else:
            return bytes(data)


def _fetch(source: Source, path: str, begun: Path, record: FileRecord, progress: Progress | None) -> FileRecord:
    """Complete the file `begun`; the record of what is in it then."""
    hasher = ReleaseHasher()
    with recording_errors(begun), begun.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is writing {begun.parent.parent}; wait for it, or stop it") from None
        file.seek(0)
        while block := file.read(_BLOCK):
            hasher.update(block)
        have, failures = hasher.record().size, 0
        while have < record.size:
            before = have
            try:
                for kept in _blocks(source, path, have, record.size):
                    file.write(kept)
                    hasher.update(kept)
                    have += len(kept)
                    if progress is not None:
                        progress(len(kept))
                if have < record.size:
                    raise TransferError(f"{source.url}: {path} ended after {have} of {record.size} bytes")
            except TransferError:
                failures = 0 if have > before else failures + 1
                if failures >= _TRIES:
                    raise
        file.flush()
        os.fsync(file.fileno())
    return hasher.record()


def _blocks(source: Source, path: str, have: int, size: int) -> Iterator[bytes]:
    """What the source gives from the byte `have` on, but never more than one byte over `size`."""
    try:
        for block in source.read(path, have):
            yield block[: size + 1 - have]
            have += len(block)
            if have > size:
                return
    except FileNotFoundError:
        raise TransferError(f"{source.url} has no {path}") from None
