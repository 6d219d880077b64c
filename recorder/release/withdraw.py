"""`recorder withdraw`: one checkpoint is taken from a published release, and a release without it stands in its place.

At the destination release.json goes first and comes last, so that in between nothing looks complete. Tombstones and
the new descriptions come before anything is deleted. What is done is kept in a folder below the runs; a call that was
killed is gone on with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.bundle.findings import Report
from recorder.bundle.not_fetched import read_not_fetched
from recorder.canonical import utc_text
from recorder.errors import BundleError, TransferError, UsageError
from recorder.lock import RunLock
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Changeable
from recorder.release.manifest import RELEASE, RUNS, SIGNATURE, FileRecord, Release, parse_release, record_file
from recorder.release.signing import check_private_key, public_pem
from recorder.release.steps import staged_release
from recorder.release.successor import make_successor
from recorder.release.upload import holds, staged_files
from recorder.release.verify_release import check_files, read_release, verify_release
from recorder.release.withdrawal import Withdrawal, checkpoint_files, earlier_withdrawal, is_exported, run_of
from recorder.release.work import FOLDER, Work

# Called with what was done, in a line.
Told = Callable[[str], None]

_PREVIOUS, _KEY, _MADE = "previous.json", "key.pub", "made"


@dataclass(frozen=True)
class Withdrawn:
    """What came of it: the release that stands there now, and the files that went and came.

    After a dry run `report` is None, `release` the one that is there, `put` empty, and `removed` has what would be
    deleted or replaced. `stays` says what the place keeps of what was deleted, `before` when and why the checkpoint was
    withdrawn by an earlier call.
    """

    release: Release
    previous_root: str
    removed: tuple[str, ...]
    put: tuple[str, ...]
    report: Report | None
    stays: str | None = None
    before: str | None = None


def withdraw(
    request: Withdrawal, destination: Changeable, *, dry_run: bool = False, told: Told = lambda _: None
) -> Withdrawn:
    """Take a checkpoint from the release at `destination`; a dry run says what would go, and changes nothing.

    What is there is verified first, with the signer's key where it is signed with one: nothing is signed anew that was
    not signed before. Raises UsageError for another signer, a checkpoint that is not there, or a place without a
    release; BundleError when what is there does not verify; TransferError, RecordingError, MachineError.
    """
    if request.key is not None:
        check_private_key(request.key)
    lock = RunLock(request.runs / FOLDER, request.name)
    try:
        work = Work(request)
        work.load()
        there = _there(destination, work)
        if there is not None:
            run = run_of(there, request.run, request.url)
            work.request = replace(request, bundles=tuple(request.runs / name for name in there.runs))
            if earlier_withdrawal(there, run, request.step) is not None:
                return _nothing_to_do(destination, there, run, request.step)
            if not _is_made(work) or _previous(work).root != there.root:
                _check_there(request, destination, there, work)
                if dry_run:
                    shutil.rmtree(work.folder, ignore_errors=True)
                    return _planned(there, run, request.step)
                _make(work, request, there, run, destination, told)
        if dry_run:
            raise UsageError(f"the withdrawal from {request.url} has begun: call again without --dry-run to go on")
        return _exchange(request, destination, work, told)
    finally:
        lock.release()


def _there(destination: Changeable, work: Work) -> Release | None:
    """The release that is there; None when a call that was killed has taken its release.json away already."""
    try:
        return read_release(destination)
    except FileNotFoundError:
        if _is_made(work):
            return None
        raise UsageError(f"there is no release at {destination.url}: it has no {RELEASE}") from None


def _is_made(work: Work) -> bool:
    return _MADE in work.done


def _previous(work: Work) -> Release:
    return parse_release((work.folder / _PREVIOUS).read_bytes(), str(work.folder))


def _check_there(request: Withdrawal, destination: Changeable, there: Release, work: Work) -> None:
    """Raises UsageError for another signer or a part of a release, BundleError when what is there does not verify."""
    if isinstance(destination, Folder) and read_not_fetched(destination.path / RUNS):
        raise UsageError(f"{request.url} is a part that was fetched of a release: name the place of the whole")
    if request.signed != there.signed:
        ways = {"key": "with a key: name it with --key", "sigstore": "with Sigstore: sign with --sigstore"}
        how = ways.get(there.signed or "", "by nobody: leave --key and --sigstore out")
        raise UsageError(f"the release at {request.url} was signed {how}")
    anchor = None
    if request.key is not None:
        anchor = work.folder / _KEY
        write_file(anchor, public_pem(request.key))
    report = verify_release(destination, str(anchor) if anchor is not None else None)
    if report.findings:
        first = report.findings[0]
        raise BundleError(f"{request.url} does not verify ({first.file}: {first.reason}): nothing was withdrawn")


def _planned(there: Release, run: str, step: int) -> Withdrawn:
    inside = {f"{RUNS}/{run}/{path}" for path in checkpoint_files(there, run, step)}
    gone = {there.files[path].sha256 for path in inside if path.endswith(".safetensors")}
    folder = f"{layout.checkpoint_folder(step)}/"
    outside = {path for path in there.files if path.startswith(folder) or (is_exported(path) and "/" not in path)}
    outside = {path for path in outside if path.startswith(folder) or there.files[path].sha256 in gone}
    return Withdrawn(there, there.root, tuple(sorted(inside | outside)), (), None)


def _nothing_to_do(destination: Changeable, there: Release, run: str, step: int) -> Withdrawn:
    earlier = earlier_withdrawal(there, run, step) or {}
    before = f"on {earlier['date']}: {earlier['reason']}"
    return Withdrawn(there, earlier["previous_root"], (), (), verify_release(destination), None, before)


def _make(work: Work, request: Withdrawal, there: Release, run: str, destination: Changeable, told: Told) -> None:
    """Make the release that is to follow, and keep both; from here on a killed call can be gone on with."""
    work.done.clear()
    work.created = utc_text(work.clock())
    work.save()
    write_file(work.folder / _PREVIOUS, there.data())
    new = make_successor(work, request, there, run, destination)
    work.done[_MADE] = new.root
    work.save()
    told(f"made the release that follows: {len(new.files)} files, root {new.root}")


def _exchange(request: Withdrawal, destination: Changeable, work: Work, told: Told) -> Withdrawn:
    """Bring the destination from the one release to the other, from wherever an earlier call has left it."""
    old, new = _previous(work), staged_release(work)
    if (reason := new.superseded[-1]["reason"]) != request.reason:
        told(f"going on with what was begun, for the reason that was given then: {reason}")
    if RELEASE in destination.list():
        root = read_release(destination).root
        if root != old.root:
            raise UsageError(f"{destination.url} holds another release by now (root {root[:12]}): call again")
        destination.remove(RELEASE)
    files = {path: record for path, record in staged_files(work.stage, new).items() if old.files.get(path) != record}
    _put(destination, work.stage, files)
    told(f"put {len(files)} files: tombstones, descriptions, what is made anew")
    removed = sorted(old.files.keys() - new.files.keys())
    there = destination.list()
    for path in removed:
        if path in there:
            destination.remove(path)
    told(f"deleted {len(removed)} files")
    destination.put(RELEASE, work.stage / RELEASE, record_file(work.stage / RELEASE))
    destination.flush()
    report = verify_release(destination)
    shutil.rmtree(work.folder)
    return Withdrawn(new, old.root, tuple(removed), tuple(sorted(files)), report, destination.what_stays())


def _put(destination: Changeable, stage: Path, files: dict[str, FileRecord]) -> None:
    """Put what the destination does not hold yet, and read it back. Raises TransferError when it is not given back."""
    there = destination.list()
    # Addenda first: a bundle never says less than what is gone from it.
    for path in sorted(files, key=lambda path: (not path.startswith(f"{RUNS}/"), path == SIGNATURE, path)):
        if not holds(destination, there, path, files[path]):
            destination.put(path, stage / path, files[path], replace=True)
    destination.flush()
    for path, reason in check_files(destination, files).items():
        raise TransferError(f"{destination.url} does not give back what it was given: {path}: {reason}; call again")
