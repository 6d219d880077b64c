"""How the driver asks workers to stop: a small file in the spool folder that they look at once a step."""

from __future__ import annotations

import json
from pathlib import Path

from recorder.bundle.files import write_file

_NAME = "stop.json"


class Mailbox:
    """The request to stop of one attempt. Looking costs one `stat` call."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def request_stop(self, reason: str) -> None:
        """Ask all workers to save a checkpoint and stop at the next step boundary. A second request changes nothing."""
        if not self._path.exists():
            write_file(self._path, json.dumps({"reason": reason}).encode())

    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._path.exists()
