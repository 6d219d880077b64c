"""Placing a closed file into a cache of objects: by reflink or hard link, which copy nothing, or by copying."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from recorder.errors import TrackingError

LinkType = Literal["reflink", "hardlink", "copy"]

OBJECT_MODE = 0o444

_ALL: tuple[LinkType, ...] = ("reflink", "hardlink", "copy")
# The request of Linux's ioctl that shares the blocks of one file with another.
_FICLONE = 0x40049409


def link_types(configured: Iterable[str] | None) -> list[LinkType]:
    """The ways to try, in order, of those DVC is configured with; a bundle holds no symbolic links."""
    if not configured:
        return list(_ALL)
    return [way for name in configured for way in _ALL if way == name] or ["copy"]


def probe_link_type(source: Path, cache: Path, ways: Iterable[LinkType]) -> LinkType:
    """The first of `ways` that gets a file from the file system of `source` into `cache`; copying when none does."""
    target = cache.parent / f".probe.{os.getpid()}.{secrets.token_hex(4)}"
    cache.mkdir(parents=True, exist_ok=True)
    for way in ways:
        try:
            _transfer(source, target, way)
        except OSError:
            continue
        else:
            return way
        finally:
            target.unlink(missing_ok=True)
    return "copy"


def place(source: Path, target: Path, way: LinkType) -> None:
    """Make the object `target` of the file `source`, atomically and read-only; what is there is replaced.

    Linked, both names are one file, which becomes read-only under both. A link that cannot be made for this one file (a
    file has only so many names) is a copy. Raises OSError, and TrackingError when `source` is no regular file.
    """
    if source.is_symlink() or not source.is_file():
        if not source.is_symlink() and not source.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))
        raise TrackingError(f"{source} is no regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent.parent / f".{target.parent.name}{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        try:
            _transfer(source, temporary, way)
        except OSError as error:
            if way == "copy" or error.errno not in {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP}:
                raise
            _transfer(source, temporary, "copy")
        if temporary.stat().st_mode & 0o777 != OBJECT_MODE:
            temporary.chmod(OBJECT_MODE)
        temporary.replace(target)
    finally:
        # Renaming a link over another link to the same file does nothing and leaves both.
        temporary.unlink(missing_ok=True)


def _transfer(source: Path, target: Path, way: LinkType) -> None:
    if way == "hardlink":
        os.link(source, target)
    elif way == "reflink":
        with source.open("rb") as origin, target.open("xb") as clone:
            fcntl.ioctl(clone.fileno(), _FICLONE, origin.fileno())
    else:
        with source.open("rb") as origin, target.open("xb") as copy:
            shutil.copyfileobj(origin, copy, 1 << 22)
            copy.flush()
            os.fsync(copy.fileno())
