"""The files of a bundle as they are on disk, against the manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.alterations import Alterations
from recorder.bundle.files import blake3_file
from recorder.bundle.findings import Findings
from recorder.bundle.not_fetched import not_fetched_of

# Called with the bytes digested so far and those there are.
Progress = Callable[[int, int], None]

_LONGEST_LINE = 64 << 20


class Files:
    """The regular files of a bundle but the manifest, with their sizes; links are found and never followed.

    A file is `sound` until something is found wrong with it as a whole. Only sound files are looked into: what is
    wrong inside a damaged one would be said twice. `absent` are files that are known not to have been fetched.

    `altered` is what the addenda say. Of a file that they list as edited, and that is here as they say, size and digest
    are those it had before, so that everything recorded about it can be compared. Of one that was withheld they are
    those of its tombstone.
    """

    def __init__(self, bundle: Path, findings: Findings, altered: Alterations | None = None) -> None:
        self.bundle = bundle
        self.altered = altered or Alterations()
        self.sizes: dict[str, int] = {}
        self.odd: set[str] = set()
        self._findings = findings
        self._damaged: set[str] = set()
        self._digests: dict[str, str] = {}
        for name, status in _walk(bundle):
            if stat.S_ISREG(status.st_mode):
                self.sizes[name] = status.st_size
            else:
                self.odd.add(name)
                findings.add(name, "link", "it is not a regular file; a bundle holds no links, pipes or devices")
        self.sizes.pop(layout.MANIFEST, None)
        self.absent = not_fetched_of(bundle) - self.sizes.keys() - self.odd

    def below(self, folder: str) -> list[str]:
        """The files below `folder`, sorted."""
        return sorted(name for name in self.sizes if name.startswith(f"{folder}/"))

    def any_absent(self, folder: str) -> bool:
        """Whether a file below `folder` was not fetched."""
        return any(name.startswith(f"{folder}/") for name in self.absent)

    def sound(self, name: str) -> bool:
        """Whether the file is there and nothing is wrong with it as a whole."""
        return name in self.sizes and name not in self._damaged

    def withheld(self, name: str) -> bool:
        """Whether the file is not there, and a tombstone is."""
        return name in self.altered.tombstones and name not in self.sizes

    def has(self, name: str) -> bool:
        """Whether the file, or its tombstone, is there, or was left behind when the bundle was fetched."""
        return name in self.sizes or self.withheld(name) or name in self.absent

    def known(self, name: str) -> bool:
        """Whether its size and digest can be compared: it is sound, or was withheld."""
        return self.sound(name) or self.withheld(name)

    def size(self, name: str) -> int:
        """The size that was recorded, if the file is as the addenda say, else the one it has."""
        if self.withheld(name):
            return int(self.altered.tombstones[name]["size"])
        edit = self.altered.edits.get(name)
        is_as_listed = edit is not None and edit.released["size"] == self.sizes[name]
        return int(edit.original["size"]) if edit is not None and is_as_listed else self.sizes[name]

    def damage(self, name: str, reason: str) -> None:
        """Record that the file as a whole is not what it should be."""
        self._damaged.add(name)
        self._findings.add(name, "digest", reason)

    def digest(self, name: str) -> str | None:
        """BLAKE3 of the file as it was recorded, taken once; None when it cannot be read, which is a finding."""
        if self.withheld(name):
            return str(self.altered.tombstones[name]["blake3"])
        if name not in self._digests:
            try:
                found = blake3_file(self.bundle / name)
            except OSError as error:
                self._damaged.add(name)
                self._findings.add(name, "missing", f"it cannot be read: {error.strerror}")
                return None
            self._digests[name] = self._before_edit(name, found)
        return self._digests[name]

    def _before_edit(self, name: str, found: str) -> str:
        """The digest that the file had before it was edited as the addenda say; another edit is a finding."""
        edit = self.altered.edits.get(name)
        if edit is None:
            return found
        if found != edit.released["blake3"]:
            self.damage(name, "it was edited otherwise than the addenda say")
            return found
        return str(edit.original["blake3"])

    def digest_all(self, progress: Progress | None) -> None:
        """Take the digests of all sound files, the biggest first so that all cores have work to the end."""
        names = sorted(filter(self.sound, self.sizes), key=lambda name: -self.sizes[name])
        done, total = 0, sum(self.sizes[name] for name in names)
        for name in names:
            self.digest(name)
            done += self.sizes[name]
            if progress is not None:
                progress(done, total)

    def difference(self, name: str, record: dict[str, Any]) -> str | None:
        """How a known file differs from a recorded size and digest; None when it does not."""
        if self.size(name) != record.get("size"):
            return f"it has {self.size(name)} bytes instead of {record.get('size')}"
        if self.digest(name) != record.get("blake3"):
            return "it does not match its digest"
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file with their newlines; the last may have none. Longer ones than 64 MiB come in parts."""
        with (self.bundle / name).open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                yield line


def check_manifest(
    files: Files, manifest: dict[str, Any], added: Set[str], findings: Findings, progress: Progress | None
) -> None:
    """Compare every file with the manifest, which must be a JSON object with a valid root.

    `added` are files that came after the seal, which the addenda account for.
    """
    recorded = manifest.get("files")
    if not isinstance(recorded, dict):
        findings.add(layout.MANIFEST, "manifest", "it names no files")
        return
    for name in sorted(recorded.keys() - files.sizes.keys() - files.odd - files.absent):
        if not files.withheld(name):
            findings.add(name, "missing", "the manifest has it, the bundle has not")
    for name in sorted(files.sizes.keys() - recorded.keys() - added):
        findings.add(name, "extra", "the bundle has it, the manifest has not")
    known = {
        name: record if isinstance(record, dict) else {}
        for name, record in recorded.items()
        if files.has(name) and name not in files.absent
    }
    for name, record in sorted(known.items()):
        if files.size(name) != record.get("size"):
            files.damage(name, f"it has {files.size(name)} bytes instead of {record.get('size')}")
    files.digest_all(progress)
    for name, record in sorted(known.items()):
        if files.known(name) and (difference := files.difference(name, record)):
            files.damage(name, difference)
    if external := manifest.get("external"):
        findings.note(f"{len(external)} files are kept elsewhere and were not looked at")


def _walk(bundle: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `bundle` that is no folder, with its status."""
    for folder, below, names in os.walk(bundle):
        links = [name for name in below if Path(folder, name).is_symlink()]
        for name in (*names, *links):
            path = Path(folder, name)
            try:
                yield path.relative_to(bundle).as_posix(), path.lstat()
            except FileNotFoundError:
                # A file of a run that is being written may go while we look.
                continue
