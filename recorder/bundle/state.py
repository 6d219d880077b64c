"""Where a bundle is in its life."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle import layout
from recorder.lock import is_locked

SEALED = "sealed"  # it has a manifest; nothing in it changes any more
RUNNING = "running"  # a living process is writing it
OPEN = "open"  # its writer ended without sealing it


def bundle_state(path: Path) -> str:
    """`sealed`, `running` or `open`. Whether a seal is valid is for `verify` to say."""
    if (path / layout.MANIFEST).exists():
        return SEALED
    place = path.resolve()
    return RUNNING if is_locked(place.parent, place.name) else OPEN
