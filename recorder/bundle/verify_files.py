"""The files of a bundle as they are on disk, against the manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import blake3_file
from recorder.bundle.findings import Findings

# Called with the bytes digested so far and those there are.
Progress = Callable[[int, int], None]

_LONGEST_LINE = 64 << 20


class Files:
    """The regular files of a bundle but the manifest, with their sizes; links are found and never followed.

    A file is `sound` until something is found wrong with it as a whole. Only sound files are looked into: what is
    wrong inside a damaged one would be said twice.
    """

    def __init__(self, bundle: Path, findings: Findings) -> None:
        self.bundle = bundle
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

    def below(self, folder: str) -> list[str]:
        """The files below `folder`, sorted."""
        return sorted(name for name in self.sizes if name.startswith(f"{folder}/"))

    def sound(self, name: str) -> bool:
        """Whether the file is there and nothing is wrong with it as a whole."""
        return name in self.sizes and name not in self._damaged

    def damage(self, name: str, reason: str) -> None:
        """Record that the file as a whole is not what it should be."""
        self._damaged.add(name)
        self._findings.add(name, "digest", reason)

    def digest(self, name: str) -> str | None:
        """BLAKE3 of the file, taken once; None when it cannot be read, which is a finding."""
        if name not in self._digests:
            try:
                self._digests[name] = blake3_file(self.bundle / name)
            except OSError as error:
                self._damaged.add(name)
                self._findings.add(name, "missing", f"it cannot be read: {error.strerror}")
                return None
        return self._digests[name]

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
        """How a sound file differs from a recorded size and digest; None when it does not."""
        if self.sizes[name] != record.get("size"):
            return f"it has {self.sizes[name]} bytes instead of {record.get('size')}"
        if self.digest(name) != record.get("blake3"):
            return "it does not match its digest"
        return None

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file with their newlines; the last may have none. Longer ones than 64 MiB come in parts."""
        with (self.bundle / name).open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                yield line


def check_manifest(files: Files, manifest: dict[str, Any], findings: Findings, progress: Progress | None) -> None:
    """Compare every file with the manifest, which must be a JSON object with a valid root."""
    recorded = manifest.get("files")
    if not isinstance(recorded, dict):
        findings.add(layout.MANIFEST, "manifest", "it names no files")
        return
    for name in sorted(recorded.keys() - files.sizes.keys() - files.odd):
        findings.add(name, "missing", "the manifest has it, the bundle has not")
    for name in sorted(files.sizes.keys() - recorded.keys()):
        findings.add(name, "extra", "the bundle has it, the manifest has not")
    known = {
        name: record if isinstance(record, dict) else {} for name, record in recorded.items() if name in files.sizes
    }
    for name, record in sorted(known.items()):
        if files.sizes[name] != record.get("size"):
            files.damage(name, f"it has {files.sizes[name]} bytes instead of {record.get('size')}")
    files.digest_all(progress)
    for name, record in sorted(known.items()):
        if files.sound(name) and (difference := files.difference(name, record)):
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
