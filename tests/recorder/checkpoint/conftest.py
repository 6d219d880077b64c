from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.checkpoint.memory_space import memory_space


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in this machine's real tmpfs."""
    root = Path("/dev/shm")
    if not root.is_dir() or memory_space(root).file_system != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs")
    folder = Path(tempfile.mkdtemp(prefix="run-recorder-test-", dir=root))
    yield folder
    shutil.rmtree(folder)
