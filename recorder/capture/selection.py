"""Reading the files that make up a source: each at most once, none through a symbolic link, none that must stay out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from recorder.capture.archive import SourceFile
from recorder.capture.exclusions import LARGE, MAX_FILE_BYTES, excluded_by_content, excluded_by_name
from recorder.capture.listing import UNREADABLE, Exclusion, path_text
from recorder.errors import UsageError

MISSING = "missing from the working tree"
LINK = "a symbolic link, not followed"
BEHIND_LINK = "behind a symbolic link"
NOT_REGULAR = "not a regular file"

_MEGABYTE = 1e6
_NAMED = 5


def read_source(
    root: Path, names: Iterable[bytes], limit_bytes: int
) -> tuple[list[SourceFile], dict[bytes, Exclusion]]:
    """The files that belong in the archive, and why the other names do not.

    A file that changes meanwhile is taken as it was read; one that vanishes is excluded as missing. Raises UsageError
    when the files are larger than `limit_bytes` together, before any is read.
    """
    top = root.resolve()
    excluded: dict[bytes, Exclusion] = {}
    sizes: dict[bytes, int] = {}
    for name in sorted(set(names)):
        found = _examine(top, name)
        if isinstance(found, Exclusion):
            excluded[name] = found
        else:
            sizes[name] = found
    _check_total(sizes, limit_bytes)
    files = []
    for name in sizes:
        read = _read(top, name)
        if isinstance(read, Exclusion):
            excluded[name] = read
        else:
            files.append(read)
    return files, excluded


def _examine(top: Path, name: bytes) -> int | Exclusion:
    """The file's size where it may be read."""
    path = top / os.fsdecode(name)
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return Exclusion(LINK, target=path_text(os.fsencode(path.readlink())))
    except OSError as error:
        return _refused(error)
    if not stat.S_ISREG(status.st_mode):
        return Exclusion(NOT_REGULAR)
    if path.parent.resolve() != path.parent:
        return Exclusion(BEHIND_LINK)
    if reason := excluded_by_name(name):
        return Exclusion(reason, status.st_size)
    return status.st_size if status.st_size <= MAX_FILE_BYTES else Exclusion(LARGE, status.st_size)


def _read(top: Path, name: bytes) -> SourceFile | Exclusion:
    try:
        # What was a regular file a moment ago may by now be a link or a pipe, on which an open would wait.
        handle = os.open(top / os.fsdecode(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                return Exclusion(NOT_REGULAR)
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _refused(error)
    if reason := excluded_by_content(data):
        return Exclusion(reason, status.st_size)
    return SourceFile(name, data, executable=bool(status.st_mode & stat.S_IXUSR))


def _refused(error: OSError) -> Exclusion:
    return Exclusion(MISSING if isinstance(error, FileNotFoundError | NotADirectoryError) else UNREADABLE)


def _check_total(sizes: dict[bytes, int], limit_bytes: int) -> None:
    total = sum(sizes.values())
    if total <= limit_bytes:
        return
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_NAMED]
    listed = ", ".join(f"{path_text(name)} ({size / _MEGABYTE:.1f} MB)" for name, size in largest)
    raise UsageError(
        f"the source files take {total / _MEGABYTE:.1f} MB, more than recorder.source_limit_mb="
        f"{limit_bytes / _MEGABYTE:g}; the largest are {listed}: put data into .gitignore or raise "
        "recorder.source_limit_mb"
    )
