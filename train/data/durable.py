"""Files that are complete on disk before anything names them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from blake3 import blake3


def digest_file(path: Path) -> str:
    """BLAKE3-256 of a file's bytes, read in small blocks. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, blake3).hexdigest()


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it. Raises OSError."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
