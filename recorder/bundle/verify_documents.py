"""The JSON files: each as its schema says, and those that name the run in agreement."""

from __future__ import annotations

import json
from typing import Any

from recorder.bundle import layout, schema
from recorder.bundle.findings import Findings
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import LedgerFacts
from recorder.ledger import events

_SEGMENTED = (layout.LEDGER, layout.METRICS, layout.SYSTEM_METRICS)


def check_documents(files: Files, manifest: dict[str, Any] | None, findings: Findings) -> None:
    """Check every JSON file that has a schema, the manifest included."""
    if manifest is not None and (wrong := schema.violation("bundle", manifest)):
        findings.add(layout.MANIFEST, "schema", wrong)
    if layout.RUN not in files.sizes:
        findings.add(layout.RUN, "missing", "a bundle begins with it")
    for name in sorted(files.sizes):
        kind = schema.schema_of(name)
        if kind is None or not files.sound(name):
            continue
        try:
            value = json.loads((files.bundle / name).read_bytes())
        except (ValueError, RecursionError) as error:
            findings.add(name, "schema", f"it is no JSON: {error}")
            continue
        if wrong := schema.violation(kind, value):
            findings.add(name, "schema", wrong)


def check_identity(
    manifest: dict[str, Any] | None, run: dict[str, Any], ledger: LedgerFacts, findings: Findings
) -> None:
    """The manifest names the same run, outcome and segments as the rest of the bundle."""
    if manifest is None:
        return
    if run and manifest.get("run") != run.get("id"):
        wrong = f"it is the manifest of run {manifest.get('run')}, {layout.RUN} names {run.get('id')}"
        findings.add(layout.MANIFEST, "manifest", wrong)
    names = sorted(manifest["files"]) if isinstance(manifest.get("files"), dict) else []
    segments = {folder: [name for name in names if name.startswith(f"{folder}/")] for folder in _SEGMENTED}
    if manifest.get("segments") != segments:
        findings.add(layout.MANIFEST, "manifest", "its segments are not those among its files")
    if ledger.last_type is not None and ledger.last_type != events.RUN_ENDED:
        findings.add(layout.LEDGER, "event", f"the bundle is sealed, and its last event is {ledger.last_type}")
    elif ledger.outcome != manifest.get("outcome"):
        wrong = f"the outcome is {manifest.get('outcome')}, the ledger ended with {ledger.outcome}"
        findings.add(layout.MANIFEST, "manifest", wrong)
