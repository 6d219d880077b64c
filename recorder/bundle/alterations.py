"""What the addenda say was edited in a bundle, or taken from it, since it was sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.addenda import Addendum, read_addenda
from recorder.bundle.step_ranges import Range

# What everything else is held against: without these there is nothing to verify.
INDISPENSABLE = (layout.RUN, layout.MANIFEST, f"{layout.LEDGER}/", f"{layout.METRICS}/", f"{layout.ADDENDA}/")


@dataclass(frozen=True)
class Edit:
    """A file that was edited: what it was, what it is here, and the chained lines or rows that are not as recorded."""

    original: dict[str, Any]
    released: dict[str, Any]
    lines: dict[int, str] = field(default_factory=dict)
    rows: tuple[Range, ...] = ()
    changes: int = 0


@dataclass
class Alterations:
    """Edits and tombstones by path. Of several addenda about one file the newest counts."""

    edits: dict[str, Edit] = field(default_factory=dict)
    tombstones: dict[str, dict[str, Any]] = field(default_factory=dict)

    def follow(self, addendum: Addendum) -> None:
        """Take the next addendum, which is as its schema says."""
        for edit in addendum.fields.get("edits", ()):
            self.edits[edit["path"]] = Edit(
                edit["original"],
                edit["released"],
                {int(number): blake3 for number, blake3 in edit.get("lines", {}).items()},
                tuple((first, last) for first, last in edit.get("rows", ())),
                len(edit["changes"]),
            )
        for tombstone in addendum.fields.get("tombstones", ()):
            self.tombstones[tombstone["path"]] = tombstone
            self.edits.pop(tombstone["path"], None)

    def __bool__(self) -> bool:
        return bool(self.edits or self.tombstones)


def read_alterations(bundle: Path) -> Alterations:
    """All that the addenda of `bundle` say. Raises BundleError when one is damaged."""
    alterations = Alterations()
    for addendum in read_addenda(bundle):
        if addendum.record["kind"] in {"redaction", "tombstones"}:
            alterations.follow(addendum)
    return alterations


def is_indispensable(path: str) -> bool:
    """Whether a bundle without this file could no longer be verified."""
    return any(path == name or (name.endswith("/") and path.startswith(name)) for name in INDISPENSABLE)
