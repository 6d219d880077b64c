"""Pseudonyms: the same name has the same one wherever it stands, and only who holds the key can compute it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from blake3 import blake3

from recorder.bundle.files import recording_errors, sync_folder, temporary_path
from recorder.errors import UsageError
from recorder.release.secrets import private_rules

# Beside the bundles in the run folder, in none of them: with it every pseudonym can be tried against a list of names.
KEY_FILE = ".pseudonym-key"

_LABELS = {
    private_rules.HOST: "host",
    private_rules.USER: "user",
    private_rules.HOME: "user",
    private_rules.NODE_ADDRESS: "address",
    private_rules.ADDRESS: "address",
    private_rules.EMAIL: "email",
    private_rules.MAC: "device",
}
KINDS = tuple(_LABELS)


class Pseudonyms:
    """Names drawn from `key`, 32 bytes: `host-3fa9c1d27e`, 40 bits of a keyed BLAKE3 of the name."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, kind: str, name: str) -> str:
        """What stands in the place of `name`. A user has the same in a path and alone, an address whatever its kind."""
        label = _LABELS[kind]
        own = blake3(f"{label}\0{name}".encode(errors="surrogateescape"), key=self._key).hexdigest()
        return f"{label}-{own[:10]}"


def read_or_make_key(runs: Path) -> bytes:
    """The key of the run folder `runs`, made at the first call, readable by its owner alone.

    Raises UsageError when it is damaged: with another key the same names would get others than in earlier releases.
    """
    path = runs / KEY_FILE
    with recording_errors(path):
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    if len(key) != 32:
        raise UsageError(f"{path} is not the 32 bytes of a key: restore it, or delete it for new pseudonyms")
    return key


def _make_key(path: Path) -> None:
    """A new key, whole or not at all; where another call was first, its key stays."""
    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:
            # A file system without hard links.
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
