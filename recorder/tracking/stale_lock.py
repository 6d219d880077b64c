"""DVC's lock of linked files (`core.hardlink_lock`) after its holder was killed: nothing ends it but its removal.

It does not tell who holds it, so whoever of us takes it says so in a file beside it. DVC's usual lock ends with the
process that holds it and needs none of this.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from recorder.ledger.processes import is_alive, start_ticks


def note_holder(lock: Path) -> None:
    """Say that this process holds the lock file `lock`."""
    note = {
        "claim": lock.read_text(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": start_ticks(os.getpid()),
    }
    _note(lock).write_text(json.dumps(note))


def take_stale(lock: Path) -> bool:
    """Remove the lock file when it is one of ours whose process is gone on this host; whether it was."""
    try:
        note = json.loads(_note(lock).read_text())
        claim = lock.read_text()
        if note["claim"] != claim or note["host"] != socket.gethostname():
            return False
        if is_alive(int(note["pid"]), int(note["started"])):
            return False
    except (OSError, ValueError, LookupError, TypeError):
        return False
    aside = lock.with_name(f"{lock.name}.{os.getpid()}.{secrets.token_hex(4)}.stale")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return True
    if aside.read_text() != claim:
        # Somebody was quicker and holds it by now: it is put back.
        with suppress(FileExistsError):
            os.link(aside, lock)
        aside.unlink()
        return False
    aside.unlink()
    Path(claim.strip()).unlink(missing_ok=True)
    return True


def _note(lock: Path) -> Path:
    return lock.with_name("recorder-lock.json")
