"""What the processes of one run tell the test, as files: nothing else is left of a process that was killed."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


class Folder:
    """Who lives on which node, whom a fault hit, and who computed what."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def enter(self, worker: str, node: str, pid: int, started: int) -> None:
        """A worker has been started."""
        self._write(self.path / "alive" / worker, {"node": node, "pid": pid, "started": started})

    def leave(self, worker: str) -> None:
        """A worker has ended."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "alive" / worker).unlink()

    def alive(self) -> dict[str, dict[str, Any]]:
        """The workers that have been started and have not ended."""
        found = {}
        for path in (self.path / "alive").glob("rank-*"):
            with contextlib.suppress(OSError, ValueError):
                found[path.name] = json.loads(path.read_text())
        return found

    def strike(self, worker: str, said: dict[str, Any]) -> None:
        """A fault of `worker` hits: what it is, its `victims`, and the `node` that is lost with them, if one is."""
        self._write(self.path / "struck" / f"{worker} {said['point']}", said)

    def struck(self) -> list[dict[str, Any]]:
        """The faults that have hit."""
        return [json.loads(path.read_text()) for path in sorted((self.path / "struck").glob("rank-*"))]

    def failed(self, worker: str) -> Path:
        """The file for the exception that ended a worker."""
        return self.path / f"{worker}.exception"

    def computed(self, worker: str) -> Path:
        """The file in which a worker writes down each micro-batch it computes: membership, step, micro-batch."""
        return self.path / f"{worker}.computed"

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(content))
        partial.rename(path)
