"""Which names of a folder may belong to its source, and which are left out before anything is read.

A name is bytes relative to the folder. One that ends in "/" stands for a folder with everything below it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.capture.exclusions import tool_folder
from recorder.capture.git import Repository

LEFT_OUT = "left out by the caller"
TOOL_FOLDER = "a folder that tools fill"
IGNORED = "ignored by git"
SUBMODULE = "a submodule, recorded by its commit"
NESTED = "a repository of its own"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Exclusion:
    """Why a name is not in the archive; size in bytes where it is a file, `target` where it is a symbolic link."""

    reason: str
    size: int | None = None
    target: str | None = None


@dataclass
class Listing:
    """Names to be read, those of them that git does not track, and what is already known to stay out."""

    names: list[bytes] = field(default_factory=list)
    untracked: set[bytes] = field(default_factory=set)
    excluded: dict[bytes, Exclusion] = field(default_factory=dict)
    submodules: list[dict[str, Any]] = field(default_factory=list)


def path_text(name: bytes) -> str:
    r"""`name` as text, reversibly: UTF-8, a backslash doubled, a byte that is not UTF-8 written as `\xNN`."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def names_below(root: Path, paths: Sequence[Path]) -> list[bytes]:
    """The names of those `paths` that lie below `root`, without those that do not; relative ones are relative to it."""
    top = root.resolve()
    resolved = [(root / path).resolve() for path in paths]
    return [os.fsencode(path.relative_to(top)) for path in resolved if path.is_relative_to(top) and path != top]


def holder(name: bytes, folders: Sequence[bytes]) -> bytes | None:
    """The one of `folders` that `name` is or lies in, or None."""
    return next((folder for folder in folders if name == folder or name.startswith(folder + b"/")), None)


def list_repository(repository: Repository, left_out: Sequence[bytes]) -> Listing:
    """What git tracks, and what it neither tracks nor ignores. Raises GitError."""
    listing = Listing()
    for name, commit in repository.tracked().items():
        if folder := holder(name, left_out):
            listing.excluded[folder + b"/"] = Exclusion(LEFT_OUT)
        elif commit is not None:
            checked_out, dirty = repository.submodule(name)
            fields = {"path": path_text(name), "commit": commit, "checked_out": checked_out, "dirty": dirty}
            listing.submodules.append(fields)
            listing.excluded[name + b"/"] = Exclusion(SUBMODULE)
        else:
            listing.names.append(name)
    for name in repository.ignored():
        listing.excluded[name] = Exclusion(IGNORED)
    for name in repository.untracked():
        if folder := holder(name.removesuffix(b"/"), left_out):
            listing.excluded[folder + b"/"] = Exclusion(LEFT_OUT)
        elif folder := tool_folder(name):
            listing.excluded[folder + b"/"] = Exclusion(TOOL_FOLDER)
        elif name.endswith(b"/"):
            listing.excluded[name] = Exclusion(NESTED)
        else:
            listing.names.append(name)
            listing.untracked.add(name)
    return listing


def list_folder(root: Path, left_out: Sequence[bytes]) -> Listing:
    """Every file below `root`, for want of git; virtual environments stay out under any name."""
    listing = Listing()

    def name_of(path: Path) -> bytes:
        return os.fsencode(path.relative_to(root))

    def unreadable(error: OSError) -> None:
        listing.excluded[name_of(Path(error.filename)) + b"/"] = Exclusion(UNREADABLE)

    for folder, below, files in os.walk(root, onerror=unreadable):
        for base in list(below):
            path = Path(folder, base)
            if reason := _folder_reason(path, name_of(path), left_out):
                listing.excluded[name_of(path) + b"/"] = Exclusion(reason)
                below.remove(base)
            elif path.is_symlink():
                listing.names.append(name_of(path))
        listing.names += [name_of(Path(folder, base)) for base in files]
    return listing


def _folder_reason(path: Path, name: bytes, left_out: Sequence[bytes]) -> str | None:
    if holder(name, left_out):
        return LEFT_OUT
    return TOOL_FOLDER if tool_folder(name + b"/") or (path / "pyvenv.cfg").exists() else None
