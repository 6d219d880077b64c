"""Bringing a staged release to its destination, which never looks complete before every byte of it was read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder.errors import TransferError, UsageError
from recorder.release.destinations.protocol import Destination
from recorder.release.manifest import (
    RELEASE,
    SIGNATURE,
    FileRecord,
    Release,
    parse_release,
    record_blocks,
    record_file,
)
from recorder.release.receive import read_whole
from recorder.release.signature import parse_signature
from recorder.release.verify_release import check_files

# Called with the file's path, the bytes that are done, and all that there are to do.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Difference:
    """What a destination lacks of a release, in the order in which it goes; and whether it has its release.json."""

    waiting: tuple[str, ...]
    complete: bool


def staged_files(stage: Path, release: Release) -> dict[str, FileRecord]:
    """Every file of the staged release but release.json, the signature last."""
    signature = {SIGNATURE: record_file(stage / SIGNATURE)} if release.signed is not None else {}
    return dict(sorted(release.files.items())) | signature


def compare(destination: Destination, release: Release, files: dict[str, FileRecord]) -> Difference:
    """What `destination` lacks. Raises UsageError when it holds anything else: nothing is ever overwritten."""
    there = destination.list()
    complete = RELEASE in there
    if complete:
        _same_release(destination, release)
    strange = sorted(there.keys() - files.keys() - {RELEASE})
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise UsageError(f"{destination.url} holds {strange[0]}{more}, not of this release: choose an empty place")
    for path in sorted(there.keys() & files.keys()):
        if path == SIGNATURE and complete:
            # Two signatures of the same bytes differ; the one that was published stays.
            continue
        record = files[path]
        if not holds(destination, there, path, record):
            raise UsageError(f"{destination.url} holds another {path}: choose an empty place, or remove what is there")
    return Difference(tuple(path for path in files if path not in there), complete)


def same_signer(destination: Destination, stage: Path) -> None:
    """Raises UsageError when the release that is at the destination was signed with another key than the staged one."""
    there = parse_signature(read_whole(destination, SIGNATURE))
    if there.key_hint != parse_signature((stage / SIGNATURE).read_bytes()).key_hint:
        raise UsageError(f"{destination.url} holds this release, signed with another key: choose an empty place")


def put_files(
    destination: Destination,
    stage: Path,
    files: dict[str, FileRecord],
    waiting: tuple[str, ...],
    progress: Progress | None = None,
) -> None:
    """Put the files that wait. Raises TransferError, RecordingError; the next call goes on where this one was."""
    done, total = 0, sum(files[path].size for path in waiting)
    for path in waiting:
        if progress is not None:
            progress(path, done, total)
        destination.put(path, stage / path, files[path])
        done += files[path].size
    destination.flush()


def complete(destination: Destination, stage: Path, files: dict[str, FileRecord], difference: Difference) -> None:
    """Read every file back from the destination and, when all are as they were given, put release.json.

    What the destination got wrong is given once more. Raises TransferError when it gets it wrong again; release.json is
    not there then.
    """
    expected = {path: files[path] for path in files if path != SIGNATURE or not difference.complete}
    wrong = check_files(destination, expected)
    if wrong and not difference.complete:
        for path in wrong:
            destination.put(path, stage / path, files[path], replace=True)
        destination.flush()
        wrong = check_files(destination, {path: files[path] for path in wrong})
    if wrong:
        path, reason = next(iter(wrong.items()))
        mend = "remove it there and call again" if difference.complete else f"{RELEASE} was not put there"
        raise TransferError(f"{destination.url} does not give back what it was given: {path}: {reason}; {mend}")
    if not difference.complete:
        destination.put(RELEASE, stage / RELEASE, record_file(stage / RELEASE))
        destination.flush()


def _same_release(destination: Destination, release: Release) -> None:
    there = parse_release(read_whole(destination, RELEASE), destination.url)
    if (said := there.said_of(release.root)) is not None:
        raise UsageError(f"{destination.url} holds what followed this release, which was {said}: choose another")
    if there.root != release.root:
        what = ", ".join(there.runs)
        raise UsageError(f"{destination.url} holds another release, of {what} (root {there.root[:12]}): choose another")


def holds(destination: Destination, there: dict[str, int], path: str, record: FileRecord) -> bool:
    """Whether the destination, whose list is `there`, has this very file."""
    if there.get(path) != record.size:
        return False
    return (destination.sha256(path) or record_blocks(destination.read(path)).sha256) == record.sha256
