"""The release that follows one from which a checkpoint is withdrawn, made in the stage from what is published.

The weights that are withdrawn are not fetched: their tombstones have the digests that the bundle's seal has of them.
"""

from __future__ import annotations

from typing import Any

from recorder.bundle.addenda import TOMBSTONES, append_addendum
from recorder.bundle.alterations import read_alterations
from recorder.bundle.files import DigestingHasher
from recorder.bundle.manifest import read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.canonical import parse_utc
from recorder.errors import BundleError, UsageError
from recorder.release import steps
from recorder.release.destinations.protocol import Source
from recorder.release.manifest import RUNS, FileRecord, Release, record_file
from recorder.release.receive import PARTIAL, receive
from recorder.release.secrets.gate import scan_text
from recorder.release.secrets.scanner import Scanner
from recorder.release.selection import checkpoint_steps
from recorder.release.stated_secrets import stated_secrets
from recorder.release.statement import STATEMENT
from recorder.release.withdrawal import Withdrawal, checkpoint_files, is_exported
from recorder.release.work import Work

# What is made again.
_AGAIN = (steps.export, steps.report, steps.describe, steps.list_files, steps.sign)


def make_successor(work: Work, request: Withdrawal, old: Release, run: str, source: Source) -> Release:
    """Put the release without the checkpoint into the stage, listed and signed; what was there before is thrown away.

    Raises UsageError for a secret in the reason or the statement, and for a release of an older version whose statement
    is not given, BundleError when what is left does
    not verify, and what fetching and the steps raise.
    """
    gone = checkpoint_files(old, run, request.step)
    _refuse_secrets(request)
    if STATEMENT not in old.files and request.statement is None:
        raise UsageError(
            f"the release at {request.url} was made by an earlier version and keeps no {STATEMENT}: "
            "name what was stated with --statement FILE (an empty one if nothing was)"
        )
    withdrawn = {f"{RUNS}/{run}/{path}" for path in gone}
    wanted = {path: old.files[path] for path in old.files if path not in withdrawn and not is_exported(path)}
    _fetch(work, source, wanted)
    stones = _bury(work, request, run, gone, source)
    _tell(work, request, old, run, stones)
    for step in _AGAIN:
        step(work)
    new = steps.staged_release(work)
    for path in sorted(old.files.keys() - new.files.keys() - withdrawn):
        # Of what is exported, the model at the top may go with the last checkpoint, and no other checkpoint's.
        if not is_exported(path) or checkpoint_steps([path]) not in ([], [request.step]):
            raise BundleError(f"{path} of {request.url} cannot be made again from the rest: nothing was changed there")
    return new


def _refuse_secrets(request: Withdrawal) -> None:
    found = stated_secrets(request.statement, ())
    found += [{"run": "--reason", **finding.record()} for finding in scan_text(request.reason, "", Scanner())]
    for record in found:
        raise UsageError(f"a secret ({record['kind']}) stands in {record['run']}, which is published: leave it out")


def _fetch(work: Work, source: Source, wanted: dict[str, FileRecord]) -> None:
    """Have in the stage what is wanted, and nothing else; what an earlier call has fetched is not fetched again."""
    partial = work.folder / PARTIAL
    for path in [path for path in sorted(work.stage.rglob("*")) if not path.is_dir()]:
        record = wanted.get(path.relative_to(work.stage).as_posix())
        if record is None or path.is_symlink() or record_file(path) != record:
            path.unlink()
    for name, record in sorted(wanted.items()):
        if not (work.stage / name).exists():
            receive(source, name, work.stage / name, partial, record)


def _bury(work: Work, request: Withdrawal, run: str, names: list[str], source: Source) -> list[dict[str, Any]]:
    """Write the tombstones of the files of a checkpoint into the staged bundle."""
    bundle = work.stage / RUNS / run
    manifest = read_manifest(bundle)
    sealed = manifest["files"] if manifest is not None else {}
    edits = read_alterations(bundle).edits
    stones = []
    for name in names:
        recorded = edits[name].original if name in edits else sealed.get(name)
        if recorded is None:
            hasher = DigestingHasher()
            for block in source.read(f"{RUNS}/{run}/{name}"):
                hasher.update(block)
            recorded = hasher.digest().record()
        stones.append({"path": name, **recorded, "reason": request.reason, "date": work.created[:10]})
    append_addendum(bundle, TOMBSTONES, {"tombstones": stones}, clock=lambda: parse_utc(work.created))
    return stones


def _tell(work: Work, request: Withdrawal, old: Release, run: str, stones: list[dict[str, Any]]) -> None:
    """Leave for the steps what they would have found out. Raises BundleError when what is left does not verify."""
    problems, edited = [], []
    for name in old.runs:
        bundle = work.stage / RUNS / name
        fault = steps.fault_of(verify_bundle(bundle))
        if fault is not None and not old.as_is:
            raise BundleError(f"without checkpoint {request.step} {name} {fault}: nothing was changed at {request.url}")
        problems += [f"{name} {fault}"] if fault else []
        edits = read_alterations(bundle).edits
        edited += [{"run": name, "path": path, "original": edit.original} for path, edit in sorted(edits.items())]
    superseded = {
        "previous_root": old.root,
        "date": work.created[:10],
        "run": run,
        "checkpoint": request.step,
        "reason": request.reason,
    }
    work.facts = {
        "runs": [{key: value for key, value in known.items() if key != "root"} for known in old.document["runs"]],
        "problems": problems,
        "edited": edited,
        "secrets": [],
        "allowed": old.document["allowed"],
        "withheld": [*old.document["withheld"], *({"run": run, **stone} for stone in stones)],
        "superseded": [*old.superseded, superseded],
    }
