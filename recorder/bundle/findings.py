"""What a verification found: what is wrong, what is worth knowing, and how much was looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from recorder.bundle import layout

Kind = Literal[
    "manifest",  # bundle.json itself is damaged, edited or disagrees with run.json
    "digest",  # a file is not what its recorded size or digest says
    "missing",  # a recorded file is not there or cannot be read
    "extra",  # a file that nothing recorded
    "link",  # a symbolic link, or something else that is no regular file
    "chain",  # a hash chain is broken: a record was changed, dropped, inserted or moved
    "event",  # an event and a file, or two events, contradict each other
    "schema",  # JSON that is not as its published schema says
    "steps",  # a step is missing, or was recorded twice with different results
    "worker",  # how a worker ended is not recorded, or contradictory
    "membership",  # who computed which micro-batches of which steps does not add up
    "checkpoint",  # a checkpoint and its record contradict each other
    "config",  # what was used is not what was recorded
    "addendum",  # what came after the seal is damaged, or does not fit
    "seal",  # an earlier seal is damaged, or does not fit
    "signature",  # a release's signature is not valid, or is over other files
    "torn",  # a file ends in the middle of a record, as a killed writer leaves it
]

# One cause may break every line of a file; the first ones tell where it is.
_MOST_OF_A_KIND = 20
_INSTEAD = "verify the release that it is in, with its signer's key or its own root"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `file` is a path in the bundle."""

    file: str
    reason: str
    kind: Kind


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    `anchored` tells whether something outside the bundle vouches for it; without that a bundle can be consistent and
    still be made up. `notes` are honest gaps and limits: they do not make it less consistent. `edited` are the files
    that the addenda say were edited since: of those the addenda alone say what they were.
    """

    run: str
    state: str
    root: str | None
    anchored: bool
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]
    edited: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def record(self) -> dict[str, Any]:
        """As JSON, with the keys `ok`, `anchored` and `findings` that others rely on."""
        return {"ok": self.ok, **asdict(self)}


def anchored_by_root(report: Report, root: str) -> Report:
    """`report` with what it says of the `root` that somebody was given.

    A root stands for the bytes that were sealed. Where some were edited since, it vouches for nothing: anybody can add
    an addendum that lists an edit. With an edited manifest it is no more than a claim, which is a finding.
    """
    if report.root != root:
        return _refuted(report, f"its root is {report.root}, not the {root} that was given")
    if layout.MANIFEST in report.edited:
        return _refuted(report, f"it was edited, so that its root is only claimed; {_INSTEAD}")
    if report.edited:
        note = f"the root that was given vouches for the original, not for what was edited in this copy; {_INSTEAD}"
        return replace(report, notes=(*report.notes, note))
    return replace(report, anchored=report.ok)


def _refuted(report: Report, reason: str) -> Report:
    return replace(report, findings=(*report.findings, Finding(layout.MANIFEST, reason, "manifest")))


@dataclass
class Findings:
    """Collects findings and notes while a bundle is checked."""

    items: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, file: str, kind: Kind, reason: str) -> None:
        """Something is wrong with `file`."""
        self._seen[file, kind] += 1
        if self._seen[file, kind] <= _MOST_OF_A_KIND:
            self.items.append(Finding(file, reason, kind))

    def note(self, text: str) -> None:
        """Something worth knowing that is not wrong."""
        if text not in self.notes:
            self.notes.append(text)

    def left_out(self) -> int:
        """How many findings were not kept because there were too many of their kind in one file."""
        return sum(max(0, count - _MOST_OF_A_KIND) for count in self._seen.values())
