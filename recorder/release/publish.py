"""`recorder release`: one table of steps from recorded bundles to a published, checked release.

Each step is done once: what is done is kept in a folder below the runs, and a call that was killed is gone on with.
What is at the destination is asked of the destination, every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.findings import Report
from recorder.bundle.reader import Bundle
from recorder.bundle.state import RUNNING, SEALED
from recorder.bundle.verify import verify_bundle
from recorder.errors import BundleError, UsageError
from recorder.lock import RunLock
from recorder.release.destinations.protocol import Destination
from recorder.release.manifest import RELEASE, RUNS, SIGNATURE, Release, parse_release
from recorder.release.signing import check_private_key, is_signed_with, sign_release
from recorder.release.stage import copy_bundle, list_stage
from recorder.release.upload import Progress, compare, complete, put_files, same_signer, staged_files
from recorder.release.verify_release import verify_release
from recorder.release.work import FOLDER, Request, Work


@dataclass(frozen=True)
class Step:
    """One step: does its part of the work and returns what to say of it in a line."""

    name: str
    run: Callable[[Work], str]


# Called when a step has come to its end: number, how many there are, name, what it says, whether it was done before.
Told = Callable[[int, int, str, str, bool], None]


@dataclass(frozen=True)
class Published:
    """What a release came to; `report` is None after a dry run, `waiting` is what went, or would have gone."""

    release: Release
    stage: Path
    waiting: tuple[str, ...]
    report: Report | None


def verify(work: Work) -> str:
    """Refuse what is open or does not verify, unless the release is to be marked as it is."""
    runs, faults = [], []
    for path in work.request.bundles:
        report = verify_bundle(path)
        if report.state == RUNNING:
            raise UsageError(f"{path.name} is still being written: wait for its end, or stop it")
        if fault := _fault(report):
            faults.append(f"{path.name} {fault}")
        bundle = Bundle(path)
        runs.append(
            {
                "id": path.name,
                "state": "sealed" if report.state == SEALED else "open",
                "outcome": bundle.outcome,
            }
        )
    if faults and not work.request.as_is:
        raise BundleError(f"{'; '.join(faults)}; --as-is publishes it, and says so")
    work.facts |= {"runs": runs, "problems": faults}
    return f"{len(runs)} bundles, {'; '.join(faults) or 'consistent'}"


def copy(work: Work) -> str:
    """Stage the bundles."""
    counts = [copy_bundle(path, work.stage / RUNS / path.name) for path in work.request.bundles]
    return f"{sum(files for files, _ in counts)} files, {sum(size for _, size in counts)} bytes"


def list_files(work: Work) -> str:
    """Write release.json."""
    release = list_stage(work)
    return f"{len(release.files)} files, root {release.root}"


def sign(work: Work) -> str:
    """Sign every file, if a way to sign was named."""
    if work.request.signed is None:
        return "not signed: no --key and no --sigstore"
    release = staged_release(work)
    sign_release(work.stage, release.files, work.request.key)
    return f"{len(release.files) + 1} files, with {work.request.key or 'Sigstore'}"


# What is done here, in order. What is done at the destination follows.
STEPS = (
    Step("verify", verify),
    Step("copy", copy),
    Step("list", list_files),
    Step("sign", sign),
)
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

    Raises BundleError for a bundle that is open or does not verify, UsageError for a destination that holds something
    else, and what the steps raise. Nothing is lost then: a call that can go on does.
    """
    _check_request(request)
    lock = RunLock(request.runs / FOLDER, request.name)
    try:
        work = Work(request)
        work.load()
        work.save()
        _do_steps(work, dry_run, told)
        release = staged_release(work)
        if dry_run:
            difference = compare(destination, release, release.files)
            return Published(release, work.stage, difference.waiting, None)
        return _publish(work, release, destination, told, progress)
    finally:
        lock.release()


def staged_release(work: Work) -> Release:
    """The release.json in the stage."""
    return parse_release((work.stage / RELEASE).read_bytes(), str(work.stage))


def _check_request(request: Request) -> None:
    """Raises UsageError for what no step would heed, and for a key that cannot sign: before anything is done."""
    names = {step.name for step in STEPS}
    for asked, step in ((request.allow, "secrets"), (request.withhold, "redact")):
        if asked and step not in names:
            raise UsageError(
                f"there is no step {step!r} that would heed {asked[0]!r}; the steps are {', '.join(names)}"
            )
    if request.key is not None:
        check_private_key(request.key)


def _do_steps(work: Work, dry_run: bool, told: Told) -> None:
    steps = [step for step in STEPS if not dry_run or step.name != "sign"]
    total = len(STEPS) + len(_AT_THE_DESTINATION)
    for number, step in enumerate(steps, 1):
        before = step.name in work.done and (step.name != "sign" or _is_signed_as_asked(work))
        if not before:
            work.done[step.name] = step.run(work)
            work.save()
        told(number, total, step.name, work.done[step.name], before)


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


def _fault(report: Report) -> str | None:
    """Why a bundle is not fit to be published; None when it is."""
    if report.findings:
        first = report.findings[0]
        more = f" and {len(report.findings) - 1} more findings" if len(report.findings) > 1 else ""
        return f"does not verify ({first.file}: {first.reason}{more})"
    if report.state != SEALED:
        return "is open: its run ended without a seal (resume it, so that it ends in order)"
    return None
