"""A disk that is really full: a small tmpfs, where this user may mount one."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from recorder.errors import RecordingError


@contextmanager
def small_disk(path: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of that size at `path`; the test is skipped where it cannot be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte; unlink what is returned to free it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def write_until_full(write: Callable[[int], object]) -> int:
    """Call `write` with 0, 1, 2, … until it fails as it should on a full disk; how many calls went well."""
    for number in itertools.count():
        try:
            write(number)
        except RecordingError as error:
            reason = str(error)
            break
    assert reason.startswith("cannot write ")
    assert reason.endswith(": the disk is full; free some space")
    return number
