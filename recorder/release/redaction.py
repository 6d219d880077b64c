"""Redaction: a copy of a bundle for others, in which private names are pseudonyms, and which still verifies.

What is edited or left out is in the copy's addenda, see docs/bundle-format.md. The original is only read.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.addenda import REDACTION, append_addendum, is_addendum
from recorder.bundle.alterations import Alterations, read_alterations
from recorder.bundle.files import digest_file, make_read_only, recording_errors
from recorder.bundle.manifest import bundle_files, read_manifest
from recorder.bundle.step_ranges import merge
from recorder.canonical import digest, utc_text
from recorder.errors import RecorderError, UsageError
from recorder.release.edits import edit_file
from recorder.release.pseudonyms import Pseudonyms
from recorder.release.replacement import Edited, Replacer, how_to_allow
from recorder.release.secrets.gate import scan_file
from recorder.release.secrets.places import pieces
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.scanner import Scanner
from recorder.release.tombstones import chosen_files, tombstone


@dataclass(frozen=True)
class Redaction:
    """What was done: edits and tombstones as they stand in the addendum, whose path is None where there was nothing."""

    edits: tuple[dict[str, Any], ...]
    tombstones: tuple[dict[str, Any], ...]
    addendum: str | None


def redact(
    bundle: Path,
    target: Path,
    *,
    names: Names,
    key: bytes,
    allow: Collection[str] = (),
    withhold: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
) -> Redaction:
    """Make the copy `target` of `bundle`; files that are not edited are hard links to the original's where that works.

    `names` are hosts, users and addresses to replace, besides what shows what it is by itself; `key` is that of the
    pseudonyms; `allow` are fingerprints of findings that stay as they are; `withhold` maps files and folders to the
    reason why they are left out. Credentials that were not allowed are masked: to refuse them is for who calls.

    `target` appears whole or not at all. Raises UsageError when it exists, when a file cannot be edited, and when
    something is withheld that cannot be; RecordingError when the copy cannot be written.
    """
    if target.exists():
        raise UsageError(f"{target} exists; a redacted copy is made anew: choose another folder, or remove it")
    partial = target.with_name(f".{target.name}{layout.PARTIAL}")
    with recording_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            copy = _Copy(bundle, partial, Replacer(Scanner(names), Pseudonyms(key), allow))
            result = copy.make(withhold or {}, clock)
            _check_nothing_is_left(partial, result, Scanner(names), allow)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return result


class _Copy:
    """The copy while it is made."""

    def __init__(self, bundle: Path, target: Path, replacer: Replacer) -> None:
        self._bundle = bundle
        self._target = target
        self._replacer = replacer
        self._altered = read_alterations(bundle)

    def make(self, withhold: Mapping[str, str], clock: Callable[[], float]) -> Redaction:
        """Copy everything, and write down what was changed."""
        manifest = read_manifest(self._bundle)
        root = manifest["root"] if manifest is not None else digest((self._bundle / layout.RUN).read_bytes())
        stones = self._tombstones(withhold, utc_text(clock())[:10])
        absent = {stone["path"] for stone in stones}
        files = [*bundle_files(self._bundle), *([layout.MANIFEST] if manifest is not None else [])]
        edits = [edit for name in files if name not in absent and (edit := self._place(name))]
        for stone in stones:
            stone |= {key: self._replacer.text(stone[key])[0] for key in ("path", "reason")}
        if not edits and not stones:
            return Redaction((), (), None)
        fields = {"edits": edits, "tombstones": stones}
        name = append_addendum(self._target, REDACTION, fields, root=root, clock=clock)
        return Redaction(tuple(edits), tuple(stones), name)

    def _tombstones(self, withhold: Mapping[str, str], date: str) -> list[dict[str, Any]]:
        reasons = {name: reason for path, reason in withhold.items() for name in chosen_files(self._bundle, [path])}
        return [tombstone(self._bundle, name, reason, date) for name, reason in sorted(reasons.items())]

    def _place(self, name: str) -> dict[str, Any] | None:
        """Put one file into the copy; the edit when it had to be edited."""
        released, _ = self._replacer.text(name)
        source, target = self._bundle / name, self._target / released
        if source.is_symlink() or not source.is_file():
            raise UsageError(f"{name} is no regular file; run `recorder verify` on {self._bundle.name} first")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise UsageError(f"{name} would get the name of another file, {released}: withhold it")
        edited = edit_file(source, target, name, self._replacer)
        if edited is None:
            _link_or_copy(source, target)
            return None
        if is_addendum(name):
            allow = how_to_allow(self._replacer.finds(pieces(source)))
            raise UsageError(f"{name} holds private names, and its hash is part of a chain: let them through ({allow})")
        make_read_only(target)
        return _edit_record(released, source, target, edited, self._altered, name)


def _edit_record(
    released: str, source: Path, target: Path, edited: Edited, altered: Alterations, name: str
) -> dict[str, Any]:
    """The edit as it stands in the addendum; it also stands for what was edited before in a copy that is copied."""
    earlier = altered.edits.get(name)
    record: dict[str, Any] = {
        "path": released,
        "original": earlier.original if earlier else digest_file(source).record(),
        "released": digest_file(target).record(),
        "changes": edited.changes,
    }
    lines = dict(edited.lines)
    if earlier and earlier.lines:
        now = target.read_bytes().split(b"\n")
        lines |= {str(number): digest(now[number - 1] + b"\n") for number in earlier.lines}
    if lines:
        record["lines"] = lines
    if rows := merge([*edited.rows, *(earlier.rows if earlier else ())]):
        record["rows"] = [list(row) for row in rows]
    return record


def _link_or_copy(source: Path, target: Path) -> None:
    """One file on disk for both where the file system can; a copy, shared by reflink where it can, where it cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _check_nothing_is_left(target: Path, result: Redaction, scanner: Scanner, allow: Collection[str]) -> None:
    """Look at the edited files again: what an edit itself might have brought together must not be published."""
    for edit in result.edits:
        for finding in scan_file(target / edit["path"], edit["path"], scanner):
            if finding.fingerprint not in allow:
                raise RecorderError(
                    f"{finding.path} line {finding.line} still holds a {finding.kind} after redaction "
                    f"({finding.excerpt}): withhold the file, or allow {finding.fingerprint}"
                )
