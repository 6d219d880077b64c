"""Whether the files are what the ledger's events say of them: captured files, segments, logs and checkpoints."""

from __future__ import annotations

import json
from typing import Any

from blake3 import blake3

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import LedgerFacts
from recorder.bundle.verify_series import SeriesFacts

Fields = dict[str, Any]


def check_captured(files: Files, ledger: LedgerFacts, findings: Findings) -> None:
    """Every captured file is there with the digest that was stated when it was written."""
    for path, stated in dict.fromkeys(ledger.captured):
        if not files.has(path):
            findings.add(path, "missing", "the ledger says it was captured")
        elif files.known(path) and files.digest(path) != stated:
            findings.add(path, "event", f"it was captured with digest {stated} and has {files.digest(path)}")


def check_segments(files: Files, ledger: LedgerFacts, series: list[SeriesFacts], findings: Findings) -> None:
    """Every closed segment is there with the size, digest and rows that were stated when it was closed."""
    rows = {path: count for facts in series for path, count in facts.rows.items()}
    for path, stated in ledger.closed.items():
        if not files.has(path):
            findings.add(path, "missing", "the ledger says this segment was closed")
        elif not files.known(path):
            continue
        elif wrong := files.difference(path, stated):
            findings.add(path, "event", f"{wrong}, says the event that closed it")
        elif path in rows and rows[path] != stated["rows"]:
            findings.add(path, "event", f"it has {rows[path]} rows, the event that closed it says {stated['rows']}")


def check_logs(files: Files, ledger: LedgerFacts, open_tail: bool, findings: Findings) -> None:
    """Every stated beginning of a log is still its beginning, and a closed log has nothing after it.

    `open_tail` allows a log to end in an unfinished line, as while it is being written.
    """
    for path, stated in ledger.logs.items():
        if not files.has(path):
            # A process that wrote nothing has no log.
            if any(fields["size"] for fields in stated):
                findings.add(path, "missing", "the ledger has digests of this log")
        elif files.known(path) and (wrong := _log_difference(files, path, stated)):
            findings.add(path, "event", wrong)
        elif files.known(path) and path in ledger.closed_logs and stated[-1]["size"] != files.size(path):
            findings.add(path, "event", f"it was closed with {stated[-1]['size']} bytes and has {files.size(path)}")
    for path in files.below(layout.LOGS):
        if files.sound(path) and not open_tail and (torn := _torn_bytes(files, path)):
            findings.add(path, "torn", f"it ends in the middle of a line, {torn} bytes")


def _log_difference(files: Files, path: str, stated: list[Fields]) -> str | None:
    """How the log differs from the stated sizes and digests of its beginnings; None when it does not."""
    if files.withheld(path) or path in files.altered.edits:
        # Its beginnings cannot be digested any more; the whole can be compared if it was closed.
        whole = max(stated, key=lambda fields: int(fields["size"]))
        return files.difference(path, whole) if whole["size"] == files.size(path) else None
    hasher, position = blake3(), 0
    with (files.bundle / path).open("rb") as file:
        for fields in sorted(stated, key=lambda fields: int(fields["size"])):
            while position < fields["size"] and (block := file.read(min(1 << 20, int(fields["size"]) - position))):
                hasher.update(block)
                position += len(block)
            if position != fields["size"]:
                return f"it has {position} bytes, the ledger has the digest of {fields['size']}"
            if hasher.hexdigest() != fields["blake3"]:
                return f"its first {position} bytes do not match the digest in the ledger"
    return None


def _torn_bytes(files: Files, path: str) -> int:
    from recorder.ledger.lines import torn_tail

    return len(torn_tail(files.bundle / path))


def check_checkpoints(
    files: Files, ledger: LedgerFacts, series: SeriesFacts, is_open: bool, findings: Findings
) -> None:
    """Checkpoints in the ledger are there as saved, those removed are gone, and none is there unrecorded.

    In an open bundle the event of the newest checkpoint or the removal of an old one may not have come about yet.
    """
    for path, saved in ledger.saved.items():
        _check_saved(files, path, saved, series, findings)
    findings.counts["checkpoints"] = len(ledger.saved)
    folders = {"/".join(name.split("/")[:2]) for name in files.below(layout.CHECKPOINTS)}
    for folder in sorted(folders - ledger.saved.keys()):
        if folder in ledger.set_aside:
            findings.note(f"{folder} holds a checkpoint that was found damaged and set aside")
        elif layout.is_partial(folder):
            findings.note(f"{folder} is a checkpoint whose writing was cut off")
        elif is_open:
            findings.note(f"{folder} is there, but the end of the run left no time to record it, or to remove it")
        else:
            said = "says it was removed" if folder in ledger.removed else "knows nothing of it"
            findings.add(folder, "checkpoint", f"this checkpoint is there, and the ledger {said}")


def _check_saved(files: Files, path: str, saved: Fields, series: SeriesFacts, findings: Findings) -> None:
    if path != layout.checkpoint_folder(int(saved["step"])):
        findings.add(path, "checkpoint", f"it is not the folder for a checkpoint of step {saved['step']}")
    names = {f"{path}/{name}": record for name, record in saved["files"].items()}
    for name, record in names.items():
        if not files.has(name):
            findings.add(name, "checkpoint", "the ledger says it was saved, and not that it was removed")
        elif files.known(name) and (wrong := files.difference(name, record)):
            findings.add(name, "checkpoint", f"{wrong}, says the event that saved it")
    for name in files.below(path):
        if name not in names:
            findings.add(name, "checkpoint", "it is not among the files that were saved")
    _check_marker(files, f"{path}/{layout.CHECKPOINT_STATE}", saved, series, findings)


def _check_marker(files: Files, name: str, saved: Fields, series: SeriesFacts, findings: Findings) -> None:
    """`state.json` agrees with the event and, by the fingerprint, with the row of its step."""
    if not files.sound(name):
        return
    try:
        marker = json.loads((files.bundle / name).read_bytes())
        fingerprint = marker["state"].get("fingerprint")
        others = {file: record for file, record in saved["files"].items() if file != layout.CHECKPOINT_STATE}
        agrees = marker["step"] == saved["step"] and marker["files"] == others
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # said where its schema was checked
    if not agrees:
        findings.add(name, "checkpoint", "it does not agree with the event that saved it")
    recorded = series.fingerprints.get(saved["step"])
    if fingerprint is not None and recorded is not None and fingerprint != recorded:
        wrong = f"its state has fingerprint {fingerprint}, the row of step {saved['step']} has {recorded}"
        findings.add(name, "checkpoint", wrong)
