"""Verifying a bundle: is it, to the last byte, what was recorded? Needs no torch, Ray, Hydra or DVC, and no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings, Report
from recorder.bundle.manifest import read_manifest
from recorder.bundle.read_back import ReadBackNotes
from recorder.bundle.state import OPEN, RUNNING, SEALED, bundle_state
from recorder.bundle.verify_addenda import added_files, check_addenda, load_alterations, note_alterations
from recorder.bundle.verify_files import Files, Progress, check_manifest
from recorder.errors import BundleError

_TRIES = 3


def verify_bundle(path: Path, *, quick: bool = False, progress: Progress | None = None) -> Report:
    """Check the bundle at `path` and report everything that is wrong; what is wrong is never raised.

    A sealed bundle is compared with its manifest, so that any change to any file is found. Unless `quick`, the inside
    is checked as well: every hash chain, every event against the files, every JSON file against its schema, the order
    of the steps, and what was used against what was recorded. An open bundle (its run was killed) is checked as far
    as it goes. One that is being written may change while it is read, so it gets more than one try. Memory is bounded
    by the largest segment.
    """
    for _ in range(_TRIES):
        report = _examine(path, quick, progress)
        if report.ok or report.state != RUNNING:
            break
    return report


def _examine(path: Path, quick: bool, progress: Progress | None) -> Report:
    findings = Findings()
    state = bundle_state(path)
    files = Files(path, findings, load_alterations(path, findings))
    manifest = _read_manifest(path, findings)
    if manifest is not None:
        check_manifest(files, manifest, added_files(path), findings, progress)
        _note_read_back(path, manifest, findings)
    elif state != SEALED and quick:
        findings.note(f"{state}: there is no seal whose digests the files could be compared with")
    elif state != SEALED:
        when = "it is being written" if state == RUNNING else "its run ended without one"
        findings.note(f"{state}: no seal, nothing anchors it ({when})")
    check_addenda(files, manifest, findings)
    note_alterations(files, findings)
    if not quick:
        if manifest is None:
            files.digest_all(progress)
        _look_inside(files, manifest, state, findings)
    findings.counts.update({"files": len(files.sizes), "bytes": sum(files.sizes.values())})
    _note_not_fetched(files, findings)
    if more := findings.left_out():
        findings.note(f"{more} more findings of the same kinds in the same files")
    return Report(
        run=str(_run_document(files).get("id", path.name)),
        state=state,
        root=manifest["root"] if manifest is not None else None,
        anchored=False,
        findings=tuple(findings.items),
        notes=tuple(findings.notes),
        counts=dict(sorted(findings.counts.items())),
        edited=tuple(sorted(files.altered.edits)),
    )


def _note_not_fetched(files: Files, findings: Findings) -> None:
    """What was left behind when the bundle was fetched from a release, and so could not be looked at."""
    if files.absent:
        findings.counts["not_fetched"] = len(files.absent)
        folders = sorted({name.split("/")[0] for name in files.absent})
        findings.note(f"{len(files.absent)} files were not fetched, in {', '.join(folders)}: nothing is said of them")


def _note_read_back(path: Path, manifest: dict[str, Any], findings: Findings) -> None:
    """Which files were read back from this disk after they were written: DVC was told their digests before."""
    notes, recorded = ReadBackNotes(path), manifest.get("files")
    if not notes.exist() or not isinstance(recorded, dict):
        return
    records = {name: record for name, record in recorded.items() if isinstance(record, dict)}
    checked = len(notes.matching(records))
    findings.counts["read_back"] = checked
    findings.note(f"{checked} of {len(records)} files, and their objects in DVC's cache, were read back after writing")


def _read_manifest(path: Path, findings: Findings) -> dict[str, Any] | None:
    try:
        return read_manifest(path)
    except (BundleError, OSError) as error:
        findings.add(layout.MANIFEST, "manifest", str(error).removeprefix(f"{layout.MANIFEST} "))
        return None


def _look_inside(files: Files, manifest: dict[str, Any] | None, state: str, findings: Findings) -> None:
    """Everything that the manifest's digests alone do not tell."""
    from recorder.bundle.verify_config import check_configs
    from recorder.bundle.verify_documents import check_documents, check_identity
    from recorder.bundle.verify_events import check_captured, check_checkpoints, check_logs, check_segments
    from recorder.bundle.verify_ledger import check_ledger
    from recorder.bundle.verify_members import check_members
    from recorder.bundle.verify_seals import check_seals
    from recorder.bundle.verify_series import check_series
    from recorder.bundle.verify_steps import check_steps

    running = state == RUNNING
    run = _run_document(files)
    genesis = files.digest(layout.RUN) if files.sound(layout.RUN) else None
    try:
        check_documents(files, manifest, findings)
        ledger = check_ledger(files, genesis, running, findings)
        check_identity(manifest, run, ledger, findings)
        saved = {int(fields["step"]) for fields in ledger.saved.values()}
        metrics = check_series(files, layout.METRICS, genesis, running, saved, findings)
        system = check_series(files, layout.SYSTEM_METRICS, genesis, running, set(), findings)
        findings.counts["rows"] = sum(metrics.rows.values())
        findings.counts["attempts"] = len(ledger.attempts)
        promises = check_configs(files, ledger, findings)
        check_captured(files, ledger, findings)
        check_segments(files, ledger, [metrics, system], findings)
        check_logs(files, ledger, running, findings)
        check_checkpoints(files, ledger, metrics, state in {OPEN, RUNNING}, findings)
        check_seals(files, manifest, ledger, findings)
        parent = run.get("parent")
        origin = parent.get("step") if isinstance(parent, dict) else 0
        check_steps(files, ledger, metrics, promises, origin if isinstance(origin, int) else 0, findings)
        check_members(files, ledger, metrics, promises, running, findings)
    except OSError as error:
        name = Path(str(error.filename)).name
        findings.add(name, "missing", f"it could not be read: {error.strerror}")


def _run_document(files: Files) -> dict[str, Any]:
    """The content of run.json; empty when it is not there or damaged."""
    if not files.sound(layout.RUN):
        return {}
    try:
        document = json.loads((files.bundle / layout.RUN).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
