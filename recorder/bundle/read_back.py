"""Notes on which files of a bundle were read back from this machine's disk after they were written, and matched.

They are about the disk, not about the run: beside the bundles, one JSON line a file, and no part of any bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest


class ReadBackNotes:
    """The notes on the bundle in the folder `bundle`."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self.path = bundle.parent / layout.READ_BACK / f"{bundle.name}.jsonl"

    def add(self, path: str, digests: FileDigest, status: os.stat_result) -> None:
        """Note that the file at the bundle's `path`, with this `status`, had these digests. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"path": path, "blake3": digests.blake3, "inode": status.st_ino, "mtime_ns": status.st_mtime_ns}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def matching(self, files: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Those of `files` (bundle path to manifest record) that were checked and are the same files still."""
        found = set()
        for line in self._lines():
            path = line.get("path")
            record = files.get(path) if isinstance(path, str) else None
            if record is None or record.get("blake3") != line.get("blake3"):
                continue
            try:
                status = (self._bundle / str(path)).lstat()
            except OSError:
                continue
            if (status.st_ino, status.st_mtime_ns) == (line.get("inode"), line.get("mtime_ns")):
                found.add(str(path))
        return found

    def exist(self) -> bool:
        """Whether there are any: a bundle that came from elsewhere has none."""
        return self.path.exists()

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        try:
            text = self.path.read_text(errors="replace")
        except OSError:
            return []
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                lines.append(value)
        return lines
