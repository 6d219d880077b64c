"""The seals that a resumed run had before: each still valid, each naming the one before, and still true."""

from __future__ import annotations

from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.manifest import archived_seals, parse_manifest
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import LedgerFacts
from recorder.errors import BundleError


def check_seals(files: Files, manifest: dict[str, Any] | None, ledger: LedgerFacts, findings: Findings) -> None:
    """Check every archived seal, the chain of their roots up to `manifest`, and that what they sealed is unchanged."""
    root: str | None = None
    roots: list[str | None] = [None]
    for number, path in enumerate(archived_seals(files.bundle), 1):
        name = path.relative_to(files.bundle).as_posix()
        if name != layout.archived_seal(number):
            findings.add(name, "seal", f"{layout.archived_seal(number)} is not there")
        if not files.sound(name):
            root = None
            continue
        try:
            edit = files.altered.edits.get(name)
            seal = parse_manifest(path.read_bytes(), name, edit.released["blake3"] if edit else None)
        except BundleError as error:
            findings.add(name, "seal", str(error))
            root = None
            continue
        if (root is not None or number == 1) and seal.get("previous_root") != root:
            findings.add(name, "seal", f"it names {seal.get('previous_root')} as the root before it, that is {root}")
        _check_unchanged(files, name, seal, ledger, findings)
        root = seal["root"]
        roots.append(root)
    if manifest is not None and manifest.get("previous_root") != roots[-1]:
        wrong = f"it names {manifest.get('previous_root')} as the root before it, the newest seal has {roots[-1]}"
        findings.add(layout.MANIFEST, "seal", wrong)
    _check_attempts(ledger, roots, findings)


def _check_unchanged(files: Files, name: str, seal: dict[str, Any], ledger: LedgerFacts, findings: Findings) -> None:
    """What was sealed is still there with the same digest, but for removed checkpoints and segments closed since."""
    sealed = seal.get("files")
    if not isinstance(sealed, dict):
        findings.add(name, "seal", "it names no files")
        return
    for path, record in sealed.items():
        if "/".join(path.split("/")[:2]) in ledger.removed or _was_open(path):
            continue
        if not files.has(path):
            findings.add(path, "seal", f"{name} has it, the bundle has not")
        elif files.known(path) and (wrong := files.difference(path, record if isinstance(record, dict) else {})):
            findings.add(path, "seal", f"{wrong}, says {name}")


def _was_open(path: str) -> bool:
    """Whether it is a series' open segment, which a further attempt continues."""
    return path.endswith(".jsonl") and path.startswith((f"{layout.METRICS}/", f"{layout.SYSTEM_METRICS}/"))


def _check_attempts(ledger: LedgerFacts, roots: list[str | None], findings: Findings) -> None:
    """Each attempt named a seal that is there, and never an older one than the attempt before it."""
    place = 0
    for number, attempt in sorted(ledger.attempts.items()):
        if "previous_root" not in attempt.started:
            continue
        stated = attempt.started["previous_root"]
        if stated not in roots[place:]:
            findings.add(layout.ADDENDA, "seal", f"attempt {number} began after the seal {stated}, which is not there")
        else:
            place = roots.index(stated)
