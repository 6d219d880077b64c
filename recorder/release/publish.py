"""`recorder release`: from recorded bundles to a published, checked release, step by step.

Each step is done once: what is done is kept in a folder below the runs, and a call that was killed is gone on with.
What is at the destination is asked of the destination, every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle.find import is_bundle
from recorder.bundle.findings import Report
from recorder.errors import UsageError
from recorder.lock import RunLock
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Destination
from recorder.release.manifest import RELEASE, SIGNATURE, Release
from recorder.release.signing import check_private_key, is_signed_with
from recorder.release.steps import STEPS, SecretsFound, staged_release
from recorder.release.upload import Progress, compare, complete, put_files, same_signer, staged_files
from recorder.release.verify_release import verify_release
from recorder.release.work import FOLDER, Request, Work

# Called when a step has come to its end: number, how many there are, name, what it says, whether it was done before.
Told = Callable[[int, int, str, str, bool], None]


@dataclass(frozen=True)
class Published:
    """What a release came to; `report` is None after a dry run, `waiting` is what went, or would have gone.

    `secrets` are what a dry run found that would bar the release, `names` those that are replaced in it.
    """

    release: Release
    stage: Path
    waiting: tuple[str, ...]
    report: Report | None
    secrets: tuple[dict[str, Any], ...] = ()
    names: tuple[dict[str, Any], ...] = ()


_AT_THE_DESTINATION = ("publish", "check")


def release_runs(
    request: Request,
    destination: Destination,
    *,
    dry_run: bool = False,
    told: Told = lambda *_: None,
    progress: Progress | None = None,
) -> Published:
    """Release what `request` names to `destination`; a dry run ends before anything is signed or sent.

    Raises BundleError for a bundle that is open or does not verify, SecretsFound for one that holds secrets, UsageError
    for a destination that holds something else, and what the steps raise. Nothing is lost then: a call that can go on
    does.
    """
    if request.key is not None:
        check_private_key(request.key)
    if isinstance(destination, Folder):
        _check_is_apart(destination.path, request.runs)
    lock = RunLock(request.runs / FOLDER, request.name)
    try:
        work = Work(request)
        work.load()
        work.save()
        _do_steps(work, dry_run, told)
        release = staged_release(work)
        if dry_run:
            difference = compare(destination, release, release.files)
            found, names = (tuple(work.facts.get(kind, ())) for kind in ("secrets", "names"))
            return Published(release, work.stage, difference.waiting, None, found, names)
        return _publish(work, release, destination, told, progress)
    finally:
        lock.release()


def _check_is_apart(folder: Path, runs: Path) -> None:
    """Raises UsageError for a folder inside of what would no longer verify with it: a bundle, the work, a release."""
    kept = (runs / FOLDER).resolve()
    for around in (place := folder.resolve(), *place.parents):
        what = "the folder in which releases are made" if around == kept else _what_is(around, place)
        if what is not None:
            raise UsageError(f"{folder} is inside {what}, {around}: publish to a folder of its own")


def _what_is(around: Path, place: Path) -> str | None:
    if is_bundle(around):
        return "a bundle"
    return "another release" if around != place and (around / RELEASE).is_file() else None


def _do_steps(work: Work, dry_run: bool, told: Told) -> None:
    steps = [step for step in STEPS if not dry_run or step.name != "sign"]
    total = len(STEPS) + len(_AT_THE_DESTINATION)
    for number, step in enumerate(steps, 1):
        before = step.name in work.done and (step.name != "sign" or _is_signed_as_asked(work))
        if not before:
            work.done[step.name] = step.run(work)
            work.save()
        told(number, total, step.name, work.done[step.name], before)
        if step.name == "secrets" and work.facts["secrets"] and not dry_run:
            raise SecretsFound(work.facts["secrets"])


def _is_signed_as_asked(work: Work) -> bool:
    """Whether the signature that is staged is by the key that is asked for now."""
    return work.request.signed is None or is_signed_with(work.stage, work.request.key)


def _publish(
    work: Work, release: Release, destination: Destination, told: Told, progress: Progress | None
) -> Published:
    total = len(STEPS) + len(_AT_THE_DESTINATION)
    files = staged_files(work.stage, release)
    difference = compare(destination, release, files)
    if difference.complete and release.signed is not None and SIGNATURE not in difference.waiting:
        same_signer(destination, work.stage)
    put_files(destination, work.stage, files, difference.waiting, progress)
    said = f"{len(difference.waiting)} files to {destination.url}, {len(files) - len(difference.waiting)} were there"
    told(total - 1, total, "publish", said, not difference.waiting and difference.complete)
    complete(destination, work.stage, files, difference)
    report = verify_release(destination, files_checked=True)
    told(total, total, "check", f"read back from {destination.url}: {'consistent' if report.ok else 'NOT'}", False)
    return Published(release, work.stage, difference.waiting, report)
