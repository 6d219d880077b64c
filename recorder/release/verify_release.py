"""Verifying a release where it lies: every file against release.json, the signature, and the bundles in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.findings import Findings, Report
from recorder.bundle.not_fetched import read_not_fetched
from recorder.bundle.verify import verify_bundle
from recorder.errors import BundleError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import NotListed, Source
from recorder.release.manifest import (
    RELEASE,
    RUNS,
    SIGNATURE,
    FileRecord,
    Release,
    parse_release,
    record_blocks,
)
from recorder.release.receive import read_whole
from recorder.release.signature import Signature, load_public_key, parse_signature

# Called with the bytes of each block that was looked at.
Progress = Callable[[int], None]

_ROOT = re.compile(r"[0-9a-f]{64}")


def read_release(source: Source) -> Release:
    """The release at `source`. Raises BundleError when it is damaged, FileNotFoundError when there is none."""
    return parse_release(read_whole(source, RELEASE), source.url)


def verify_release(
    source: Source, anchor: str | None = None, progress: Progress | None = None, *, files_checked: bool = False
) -> Report:
    """Check the release at `source`: every byte, its signature and, in a folder, the bundles in it.

    `anchor` is the root that somebody was given, or the path of the public key in PEM that should have signed it.
    Without it the signature is compared with the files, and nothing outside vouches for it. `files_checked` leaves out
    what the caller has just done: reading every file. What is wrong is never
    raised; TransferError is when the place cannot be reached, UsageError for an anchor that is none.
    """
    findings = Findings()
    key = _key_of(anchor)
    try:
        release = read_release(source)
    except (BundleError, FileNotFoundError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "it is not there: this is no release, or its transfer has not come to its end"
        findings.add(RELEASE, "missing" if missing else "manifest", reason if missing else str(error))
        return _report(source, None, False, findings)
    absent = _absent(source.path, release) if isinstance(source, Folder) else set()
    _check_files(source, release, absent, findings, progress, files_checked)
    anchored = _check_signature(source, release, key, findings)
    if anchor is not None and key is None:
        anchored = _check_root(release, anchor, findings)
    if isinstance(source, Folder):
        _check_bundles(source.path, release, absent, findings)
    else:
        findings.note("its bundles were compared by their digests; `recorder get` fetches it and looks inside them")
    return _report(source, release, anchored and not findings.items, findings)


def _absent(folder: Path, release: Release) -> set[str]:
    """The files of the release that are not in the folder, because they were not fetched."""
    return {path for path in read_not_fetched(folder / RUNS) & release.files.keys() if not (folder / path).exists()}


def check_files(source: Source, files: dict[str, FileRecord], progress: Progress | None = None) -> dict[str, str]:
    """What is wrong with each of `files` as `source` gives it, by path; nothing when they are as recorded."""
    wrong = {}
    for path, record in sorted(files.items()):
        try:
            found = record_blocks(_counted(source, path, progress))
        except FileNotFoundError:
            wrong[path] = f"{RELEASE} has it, {source.url} has not"
            continue
        if found.size != record.size:
            wrong[path] = f"it has {found.size} bytes instead of {record.size}"
        elif found != record:
            wrong[path] = "it does not match its digests"
    return wrong


def _counted(source: Source, path: str, progress: Progress | None) -> Iterator[bytes]:
    for block in source.read(path):
        if progress is not None:
            progress(len(block))
        yield block


def _check_files(
    source: Source,
    release: Release,
    absent: set[str],
    findings: Findings,
    progress: Progress | None,
    files_checked: bool,
) -> None:
    wanted = {path: record for path, record in release.files.items() if path not in absent}
    for path, reason in check_files(source, {} if files_checked else wanted, progress).items():
        findings.add(path, "missing" if reason.startswith(RELEASE) else "digest", reason)
    findings.counts.update({"files": len(wanted), "bytes": sum(record.size for record in wanted.values())})
    if absent:
        findings.note(f"{len(absent)} files were not fetched, and not looked at: {_some(sorted(absent))}")
    _check_nothing_is_added(source, release, findings)


def _check_nothing_is_added(source: Source, release: Release, findings: Findings) -> None:
    try:
        there = source.list().keys()
    except NotListed as error:
        findings.note(f"{error}: whether there are files that {RELEASE} does not name was not looked at")
        return
    known = {*release.files, RELEASE, SIGNATURE, *(_of_the_reader(release) if isinstance(source, Folder) else ())}
    for path in sorted(there - known):
        findings.add(path, "extra", f"{source.url} has it, {RELEASE} has not")


def _of_the_reader(release: Release) -> set[str]:
    """What commands of this project leave beside bundles that they work on."""
    left = {layout.NOT_FETCHED}
    for run in release.runs:
        left |= {f"{layout.LOCKS}/{run}.lock", f"{layout.LOCKS}/{run}.workers", f"{layout.READ_BACK}/{run}.jsonl"}
    return {f"{RUNS}/{name}" for name in left}


def _check_signature(source: Source, release: Release, key: Path | None, findings: Findings) -> bool:
    """Compare the signature with release.json; whether it was made with `key`."""
    try:
        data = read_whole(source, SIGNATURE)
    except FileNotFoundError:
        if release.signed is not None:
            findings.add(SIGNATURE, "missing", f"{RELEASE} says that the release is signed")
        elif key is not None:
            findings.add(SIGNATURE, "missing", "the release is not signed: no key vouches for it")
        else:
            findings.note("it is not signed")
        return False
    except BundleError as error:
        findings.add(SIGNATURE, "signature", str(error))
        return False
    try:
        signature = parse_signature(data)
        _compare(signature, release, findings)
        if key is None:
            findings.note(f"it is signed ({release.signed or 'unknown how'}); whose signature it is was not asked")
            return False
        if not signature.has_key:
            raise BundleError("it was signed with Sigstore, not with a key: check it with `model_signing verify`")
        signature.check_key(key)
    except BundleError as error:
        findings.add(SIGNATURE, "signature", str(error).removeprefix(f"{SIGNATURE} "))
        return False
    return True


def _compare(signature: Signature, release: Release, findings: Findings) -> None:
    """What was signed is what release.json names, and release.json."""
    signed = signature.digests()
    named = {path: record.sha256 for path, record in release.files.items()}
    named[RELEASE] = record_blocks([release.data()]).sha256
    for path in sorted(named.keys() | signed.keys()):
        if path not in signed:
            findings.add(path, "signature", "it is not signed")
        elif path not in named:
            findings.add(path, "signature", f"it is signed, and {RELEASE} does not name it")
        elif named[path] != signed[path]:
            findings.add(path, "signature", "it was signed with other content")


def _check_root(release: Release, anchor: str, findings: Findings) -> bool:
    if anchor == release.root:
        return True
    if (run := next((run for run, root in release.runs.items() if root == anchor), None)) is not None:
        findings.note(
            f"the root that was given is that of {run}: it vouches for what was sealed there, not for what was edited "
            "since or is beside it"
        )
        return False
    differs = f"its root is {release.root}, not the {anchor} that was given"
    if (said := release.said_of(anchor)) is not None:
        # Whoever made this release can have written that; the root that was given does not vouch for it.
        differs += f", which it says was {said}; check it with the signer's key, or ask for the new root"
    findings.add(RELEASE, "manifest", differs)
    return False


def _check_bundles(folder: Path, release: Release, absent: set[str], findings: Findings) -> None:
    for run, root in release.runs.items():
        bundle = folder / RUNS / run
        if f"{RUNS}/{run}/{layout.RUN}" in absent:
            findings.note(f"{run} was not fetched")
            continue
        report = verify_bundle(bundle)
        if report.root != root:
            findings.add(f"{RUNS}/{run}", "seal", f"its root is {report.root}, {RELEASE} has {root}")
        for note in report.notes:
            findings.note(f"{run}: {note}")
        if release.as_is and report.findings:
            first = report.findings[0]
            known = f"{len(report.findings)} findings, the first in {first.file}: {first.reason}"
            findings.note(f"{run} was published as it is, with {known}")
            continue
        for finding in report.findings:
            findings.add(f"{RUNS}/{run}/{finding.file}", finding.kind, finding.reason)


def _key_of(anchor: str | None) -> Path | None:
    """The public key that `anchor` names; None when it is a root, or there is none."""
    if anchor is None or _ROOT.fullmatch(anchor):
        return None
    path = Path(anchor)
    load_public_key(path)
    return path


def _report(source: Source, release: Release | None, anchored: bool, findings: Findings) -> Report:
    if more := findings.left_out():
        findings.note(f"{more} more findings of the same kinds in the same files")
    state = "no release" if release is None else "released as is" if release.as_is else "released"
    return Report(
        run=source.url,
        state=state,
        root=release.root if release is not None else None,
        anchored=anchored,
        findings=tuple(findings.items),
        notes=tuple(findings.notes),
        counts={"files": 0, "bytes": 0} | dict(sorted(findings.counts.items())),
    )


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
