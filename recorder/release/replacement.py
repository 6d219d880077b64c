"""Replacing what must not be seen in lines of text, and keeping the list of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle.step_ranges import Range
from recorder.release.pseudonyms import Pseudonyms
from recorder.release.secrets.masking import fingerprint, mask
from recorder.release.secrets.places import Piece
from recorder.release.secrets.rule import Span
from recorder.release.secrets.scanner import Hit, Scanner


@dataclass
class Replaced:
    """The lines after replacement, the numbers (from 0) of those that changed, and the list of changes."""

    lines: list[bytes]
    changed: list[int] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Edited:
    """The changes made to one file; `lines` are digests of edited chained lines by number, `rows` those of a table."""

    changes: list[dict[str, Any]]
    lines: dict[str, str] = field(default_factory=dict)
    rows: list[Range] = field(default_factory=list)


class Unreadable(ValueError):
    """A file is damaged, or not what it looks like, and cannot be read as what it should be."""


class Uneditable(ValueError):
    """What must be replaced stands where nothing can be; `fingerprints` are those of it."""

    def __init__(self, reason: str, fingerprints: Collection[str]) -> None:
        super().__init__(reason)
        self.fingerprints = fingerprints


class Replacer:
    """Private names become pseudonyms, credentials masks; what is `allowed`, by fingerprint, stays."""

    def __init__(self, scanner: Scanner, pseudonyms: Pseudonyms, allowed: Collection[str] = ()) -> None:
        self._scanner = scanner
        self._pseudonyms = pseudonyms
        self._allowed = frozenset(allowed)

    def replace(self, lines: list[bytes], place: str = "", is_code: bool = False) -> Replaced:
        """`lines` with everything replaced; `place` is for the list of changes, `is_code` for lines of a program."""
        result = Replaced(list(lines))
        for hit in self._scanner.hits(lines, is_code):
            if text := self._replaced(hit, place, 1 + hit.number, result.changes):
                result.lines[hit.number] = text.encode(errors="surrogateescape")
                result.changed.append(hit.number)
        return result

    def finds(self, pieces: Iterable[Piece]) -> set[str]:
        """The fingerprints of what in `pieces` would have to be replaced."""
        hits = (hit for piece in pieces for hit in self._scanner.hits(piece.lines, piece.is_code))
        found = {
            fingerprint(span.rule, hit.text[span.start : span.end])
            for hit in hits
            for span in hit.spans
            if not span.continued
        }
        return found - self._allowed

    def text(self, text: str, place: str = "", number: int = 0) -> tuple[str, list[dict[str, Any]]]:
        """One text, which may have several lines, after replacement, and the changes; `number` is that of its row."""
        replaced = self.replace([line.encode(errors="surrogateescape") for line in text.split("\n")])
        changes = [change | {"place": place, "line": number} for change in replaced.changes]
        return b"\n".join(replaced.lines).decode(errors="surrogateescape"), changes

    def _replaced(self, hit: Hit, place: str, line: int, changes: list[dict[str, Any]]) -> str | None:
        """The text of `hit` after replacement; None when all of it is allowed."""
        parts, reached = [], 0
        for span in hit.spans:
            secret = hit.text[span.start : span.end]
            if fingerprint(span.rule, secret) in self._allowed:
                continue
            instead = self._instead(span, secret)
            changes.append({"place": place, "line": line, "kind": span.kind, "to": instead})
            parts += [hit.text[reached : span.start], instead]
            reached = span.end
        return "".join([*parts, hit.text[reached:]]) if parts else None

    def _instead(self, span: Span, secret: str) -> str:
        return self._pseudonyms.of(span.kind, secret) if span.rule.private else mask(span.rule, secret)


def how_to_allow(fingerprints: Collection[str]) -> str:
    """The options with which these are let through."""
    return " ".join(f"--allow {own}" for own in sorted(fingerprints))
