"""The code a run ran from: its commit, what differs from it, and an archive of the working tree that runs as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recorder.canonical import digest
from recorder.capture.archive import SourceFile, pack
from recorder.capture.exclusions import LARGE, MAX_FILE_BYTES, excluded_by_content, excluded_by_name
from recorder.capture.git import Change, GitError, Repository
from recorder.capture.listing import (
    LEFT_OUT,
    Exclusion,
    Listing,
    holder,
    list_folder,
    list_repository,
    names_below,
    path_text,
)
from recorder.capture.selection import BEHIND_LINK, LINK, MISSING, NOT_REGULAR, read_source
from recorder.errors import UsageError

_COMMITTED = "its committed content: "
# These say nothing about a content that should not be seen: git writes a link's target or a deletion.
_HARMLESS = {MISSING, LINK, BEHIND_LINK, NOT_REGULAR}


@dataclass(frozen=True)
class SourceCapture:
    """`record` is JSON and described by the schema `source`; `patch` is for `git apply`; `archive` is a tar.gz.

    Paths in `record` are UTF-8 text in which a backslash is doubled and a byte that is not UTF-8 is `\\xNN`; in the
    archive they are the file system's own bytes.
    """

    record: dict[str, Any]
    patch: bytes
    archive: bytes


def capture_source(root: Path, limit_bytes: int, exclude: Sequence[Path] = ()) -> SourceCapture:
    """Capture the files at and below `root` that git tracks or does not ignore; all of them where git cannot tell.

    Credentials, private keys, data (by suffix, or over 5 MiB), symbolic links, submodules and the folders in `exclude`
    stay out of the archive and of the patch, and are named in the record. `record["problem"]` says why git could not
    be asked, else it is null. Raises UsageError when `root` is no folder, or when the files are larger than
    `limit_bytes` together.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder: name the folder that holds the training script")
    left_out = names_below(root, exclude)
    try:
        return _capture_repository(root, limit_bytes, left_out)
    except GitError as error:
        listing = list_folder(root, left_out)
        facts = dict.fromkeys(("commit", "branch", "remote_url", "prefix", "dirty"))
        files, excluded = read_source(root, listing.names, limit_bytes)
        facts = {"is_repository": False, "problem": str(error), **facts}
        return _assemble(facts, listing, files, excluded, b"", {})


def _capture_repository(root: Path, limit_bytes: int, left_out: Sequence[bytes]) -> SourceCapture:
    repository = Repository(root)
    listing = list_repository(repository, left_out)
    files, excluded = read_source(root, listing.names, limit_bytes)
    commit = repository.commit()
    changes = repository.changes() if commit else []
    omitted = _omitted(repository, changes, excluded, left_out)
    wanted = [change.name for change in changes if change.name not in omitted]
    patch = repository.patch(wanted, list(omitted))
    dirty = bool(changes or listing.untracked or any(module["dirty"] for module in listing.submodules))
    facts = {
        "is_repository": True,
        "problem": None,
        "commit": commit,
        "branch": repository.branch(),
        "remote_url": repository.remote_url(),
        "prefix": path_text(repository.prefix),
        "dirty": dirty or commit is None,
    }
    return _assemble(facts, listing, files, excluded, patch, omitted)


def _omitted(
    repository: Repository, changes: Sequence[Change], excluded: dict[bytes, Exclusion], left_out: Sequence[bytes]
) -> dict[bytes, str]:
    """Changes that must not be in the patch: on either side of them is something that stays out of the archive."""
    omitted: dict[bytes, str] = {}
    for change in changes:
        if holder(change.name, left_out):
            omitted[change.name] = LEFT_OUT
        elif reason := excluded_by_name(change.name):
            omitted[change.name] = reason
        elif (found := excluded.get(change.name)) and found.reason not in _HARMLESS:
            omitted[change.name] = found.reason
    remaining = [change for change in changes if change.blob and change.name not in omitted]
    committed = repository.blobs({change.blob for change in remaining if change.blob}, MAX_FILE_BYTES)
    for change in remaining:
        data = committed[change.blob or ""]
        if reason := LARGE if data is None else excluded_by_content(data):
            omitted[change.name] = _COMMITTED + reason
    return omitted


def _assemble(
    facts: dict[str, Any],
    listing: Listing,
    files: Sequence[SourceFile],
    excluded: dict[bytes, Exclusion],
    patch: bytes,
    omitted: dict[bytes, str],
) -> SourceCapture:
    archive = pack(files)
    record = {
        **facts,
        "submodules": listing.submodules,
        "untracked": [_file(file) for file in files if file.name in listing.untracked],
        "files": [_file(file) for file in files],
        "excluded": _exclusions({**listing.excluded, **excluded}),
        "patch": {
            **_sized(patch),
            "omitted": [{"path": path_text(name), "reason": reason} for name, reason in sorted(omitted.items())],
        },
        "archive": _sized(archive),
    }
    return SourceCapture(record, patch, archive)


def _exclusions(excluded: dict[bytes, Exclusion]) -> list[dict[str, Any]]:
    return [
        {"path": path_text(name), **{key: value for key, value in asdict(why).items() if value is not None}}
        for name, why in sorted(excluded.items())
    ]


def _file(file: SourceFile) -> dict[str, Any]:
    return {"path": path_text(file.name), "executable": file.executable, **_sized(file.data)}


def _sized(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "blake3": digest(data)}
