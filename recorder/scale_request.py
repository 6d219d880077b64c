"""How somebody else asks the driver of a running run for another number of workers: a file beside the run's lock."""

from __future__ import annotations

import contextlib
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import write_file


class ScaleRequest:
    """The request about the run `run_id` below `root`; the newest one counts. Looking costs one `stat` call."""

    def __init__(self, root: Path, run_id: str) -> None:
        self._path = root / layout.LOCKS / f"{run_id}.workers"

    def put(self, workers: int) -> None:
        """Ask for `workers` workers. Raises RecordingError."""
        self._path.unlink(missing_ok=True)
        write_file(self._path, f"{workers}\n".encode())

    def take(self) -> int | None:
        """What was asked for since the last look, if anything; what is no number is passed over."""
        if not self._path.exists():
            return None
        with contextlib.suppress(OSError, ValueError):
            text = self._path.read_text()
            self._path.unlink()
            return int(text)
        return None
