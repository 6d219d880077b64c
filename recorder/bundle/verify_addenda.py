"""The addenda: one chain from the seal on, and what they say is missing or edited, said again for who verifies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.addenda import Addendum, chain_problem, read_addenda
from recorder.bundle.alterations import Alterations, is_indispensable
from recorder.bundle.findings import Findings
from recorder.bundle.verify_files import Files
from recorder.errors import BundleError

_MOST_NAMED = 8


def load_alterations(bundle: Path, findings: Findings) -> Alterations:
    """What the addenda say; nothing when one is damaged, which is a finding."""
    alterations = Alterations()
    try:
        for addendum in read_addenda(bundle):
            alterations.follow(addendum)
    except BundleError as error:
        findings.add(str(error).split(" ", 1)[0], "addendum", str(error).partition(" ")[2])
        return Alterations()
    return alterations


def added_files(bundle: Path) -> set[str]:
    """The addenda themselves and the files that came with them."""
    try:
        addenda = read_addenda(bundle)
    except BundleError:
        return set()
    return {name for addendum in addenda for name in (addendum.name, *addendum.record["files"])}


def check_addenda(files: Files, manifest: dict[str, Any] | None, findings: Findings) -> None:
    """Check the chain, what it begins with, its files, and that what must not be withheld is there."""
    try:
        addenda = read_addenda(files.bundle)
    except BundleError:
        return  # said where they were loaded
    previous: str | None = None
    for number, addendum in enumerate(addenda, 1):
        if wrong := chain_problem(addendum, number, previous):
            findings.add(addendum.name, "addendum", wrong)
        if number == 1 and addendum.record["previous"] not in _beginnings(files, manifest):
            findings.add(
                addendum.name, "addendum", f"it follows {addendum.record['previous']}, which is no seal of this run"
            )
        previous = addendum.record["hash"]
        _check_files(files, addendum, findings)
    for path, tombstone in files.altered.tombstones.items():
        if path in files.sizes:
            findings.add(
                path, "addendum", f"it is there, and was withheld on {tombstone['date']}: {tombstone['reason']}"
            )
        if is_indispensable(path):
            findings.add(path, "addendum", "it was withheld, and nothing can be verified without it")
    for path in files.altered.edits.keys() - files.sizes.keys() - files.absent - {layout.MANIFEST}:
        findings.add(path, "missing", "the addenda say it was edited, and it is not there")


def _beginnings(files: Files, manifest: dict[str, Any] | None) -> set[str | None]:
    """The roots of this seal and those before it; the digest of run.json where there is none."""
    import json

    roots: set[str | None] = {manifest["root"]} if manifest is not None else set()
    for name in files.below(layout.ADDENDA):
        if name.startswith(f"{layout.ADDENDA}/seal-"):
            try:
                roots.add(json.loads((files.bundle / name).read_bytes())["root"])
            except (OSError, ValueError, LookupError, TypeError):
                continue  # said where the seals are checked
    return roots | ({files.digest(layout.RUN)} if files.sound(layout.RUN) else set())


def _check_files(files: Files, addendum: Addendum, findings: Findings) -> None:
    for path, record in addendum.record["files"].items():
        if not path.startswith(f"{layout.ADDENDA}/"):
            findings.add(addendum.name, "addendum", f"it brings {path}, which is not below {layout.ADDENDA}/")
        elif not files.has(path):
            findings.add(path, "missing", f"{addendum.name} has it, the bundle has not")
        elif files.known(path) and (wrong := files.difference(path, record)):
            findings.add(path, "addendum", f"{wrong}, says {addendum.name}")


def note_alterations(files: Files, findings: Findings) -> None:
    """Say what was edited and what was withheld: nobody should take a released copy for the whole."""
    edits, tombstones = files.altered.edits, files.altered.tombstones
    if edits:
        changes = sum(edit.changes for edit in edits.values())
        findings.counts["edited"] = len(edits)
        findings.note(
            f"edited since it was recorded: {changes} places in {_named(sorted(edits))}; "
            f"the rest of these files is as recorded if the publisher's list in {layout.ADDENDA}/ is true"
        )
    if layout.MANIFEST in edits:
        findings.note(
            f"the root is that of the original {layout.MANIFEST}, in which other names stand: it cannot be recomputed"
        )
    if tombstones:
        findings.counts["withheld"] = len(tombstones)
        size = sum(tombstone["size"] for tombstone in tombstones.values())
        reasons = Counter((tombstone["reason"], tombstone["date"]) for tombstone in tombstones.values())
        why = "; ".join(f"{reason} ({date})" for reason, date in reasons)
        findings.note(f"withheld: {_named(sorted(tombstones))}, {size} bytes: {why}")


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return ", ".join(paths[:_MOST_NAMED]) + more
