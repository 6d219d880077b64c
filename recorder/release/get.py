"""Fetching a release: what is wanted of it, each file whole and right, release.json last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import recording_errors, write_file
from recorder.bundle.not_fetched import write_not_fetched
from recorder.errors import BundleError, TransferError, UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Source
from recorder.release.manifest import (
    RELEASE,
    RUNS,
    SIGNATURE,
    FileRecord,
    Release,
    parse_release,
    record_blocks,
    record_file,
)
from recorder.release.receive import PARTIAL, clear_begun, read_whole, receive
from recorder.release.selection import Selection
from recorder.release.signature import parse_signature

# Called with the file's path, the bytes that there are, and all that are wanted.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Fetched:
    """What a fetch left: the release, how many files and bytes came now, and what was left behind.

    `superseded` says why what an earlier call fetched into the folder was replaced; None when it was not.
    """

    release: Release
    files: int
    bytes: int
    absent: tuple[str, ...]
    superseded: str | None = None


def get_release(source: Source, out: Path, selection: Selection, progress: Progress | None = None) -> Fetched:
    """Fetch what `selection` wants of the release at `source` into the folder `out`.

    A call that was killed leaves no release.json, and the next goes on where it was. Fetching more of a release that is
    there already adds to it; where that was superseded by this one, what is not of this one is deleted. Raises
    UsageError when `out` holds something else, BundleError when the release is damaged, TransferError when a file does
    not come or is not the recorded one, RecordingError when it cannot be kept.
    """
    release = _read(source)
    wanted = selection.of(release.files)
    superseded = _claim(out, release, source)
    have = _present(out, release)
    missing = sorted(wanted - have)
    count = _Count(sum(release.files[path].size for path in missing), progress)
    for path in missing:
        count.path = path
        receive(source, path, out / path, out / PARTIAL, release.files[path], count.add)
    absent = sorted(release.files.keys() - wanted - have)
    _finish(source, out, release, absent)
    return Fetched(release, len(missing), count.total, tuple(absent), superseded)


class _Count:
    """How far the transfer is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.path = total, ""
        self._done, self._progress = 0, progress

    def add(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self.path, self._done, self.total)


def _read(source: Source) -> Release:
    try:
        return parse_release(read_whole(source, RELEASE), source.url)
    except FileNotFoundError:
        raise UsageError(
            f"there is no release at {source.url}: it has no {RELEASE}, or its publication has not come to its end"
        ) from None


def _claim(out: Path, release: Release, source: Source) -> str | None:
    """Make `out` the folder of this release; why what it held was superseded, if it was.

    Raises UsageError when it is that of something else.
    """
    begun = out / PARTIAL / RELEASE
    for known in (out / RELEASE, begun):
        if known.exists():
            there = parse_release(known.read_bytes(), str(known.parent))
            if there.root == release.root:
                return None
            if (said := release.said_of(there.root)) is not None:
                _follow(out, known, there, release)
                return said
            raise UsageError(
                f"{out} holds another release (root {there.root[:12]}) than {source.url} (root {release.root[:12]}): "
                "choose another folder with --out"
            )
    if out.exists() and (not out.is_dir() or Folder(out).list() or any(path.name != PARTIAL for path in out.iterdir())):
        raise UsageError(f"{out} is there already, and is no release: choose another folder with --out")
    write_file(begun, release.data())
    return None


def _follow(out: Path, known: Path, old: Release, new: Release) -> None:
    """Make `out`, which holds `old`, the folder of the release that followed it: delete what is not of that.

    `known` is where its release.json is. Raises UsageError, before anything is deleted, for a file with other content.
    """
    gone = [path for path, record in old.files.items() if new.files.get(path) != record and _is_there(out / path)]
    for path in gone:
        target = out / path
        # What an earlier call has fetched already is of the new one.
        if target.is_symlink() or not target.is_file() or record_file(target) not in _either(old, new, path):
            raise UsageError(f"{target} is not the file of the release: move it away, and call again to fetch it")
    begun = out / PARTIAL / RELEASE
    with recording_errors(out):
        begun.parent.mkdir(exist_ok=True)
        known.replace(begun)
        (out / SIGNATURE).unlink(missing_ok=True)
    place = Folder(out)
    for path in gone:
        place.remove(path)
    write_file(begun, new.data())


def _either(old: Release, new: Release, path: str) -> list[FileRecord]:
    return [release.files[path] for release in (old, new) if path in release.files]


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _present(out: Path, release: Release) -> set[str]:
    """The files of the release that are in `out`. Raises UsageError when one has other content, and is not touched."""
    found = set()
    for path, record in release.files.items():
        target = out / path
        if not _is_there(target):
            continue
        if target.is_symlink() or not target.is_file() or record_file(target) != record:
            raise UsageError(f"{target} is not the file of the release: move it away, and call again to fetch it")
        found.add(path)
    return found


def _finish(source: Source, out: Path, release: Release, absent: list[str]) -> None:
    """Fetch the signature, note what was left behind, and put release.json, with which it is complete."""
    partial = out / PARTIAL
    if release.signed is not None:
        try:
            data = read_whole(source, SIGNATURE)
        except FileNotFoundError:
            raise TransferError(f"{source.url} has no {SIGNATURE}, although the release was signed") from None
        if parse_signature(data).digests().get(RELEASE) != record_blocks([release.data()]).sha256:
            raise BundleError(f"{SIGNATURE} at {source.url} is that of another release")
        write_file(partial / SIGNATURE, data)
        (partial / SIGNATURE).replace(out / SIGNATURE)
    with recording_errors(out):
        (out / RUNS).mkdir(parents=True, exist_ok=True)
        for stale in (out / RUNS).glob(f".{layout.NOT_FETCHED}.*"):
            stale.unlink()
        write_not_fetched(out / RUNS, release.root, absent)
        if not (out / RELEASE).exists():
            (partial / RELEASE).replace(out / RELEASE)
        clear_begun(partial)
