"""The first thing that runs in a worker. It brings the code: what runs is the recorded source archive.

Pickled by value, so it imports nothing of this project until the archive is on `sys.path`.
"""

from __future__ import annotations

from typing import Any


class Worker:
    """The Ray actor that is a worker."""

    def run(self, arguments: dict[str, Any]) -> None:
        """Run one worker to its end."""
        start_worker(arguments)


def forget(arguments: dict[str, Any]) -> None:
    """Remove what the run of `job` has in the memory of this node, where workers have brought the code before."""
    import sys
    from pathlib import Path

    job = arguments["job"]
    sys.path.insert(0, str(Path(arguments["code"]) / job["source_digest"]))
    from recorder.checkpoint.snapshot import remove_memory

    remove_memory(Path(job["bundle"]))


def start_worker(arguments: dict[str, Any]) -> None:
    """Unpack `archive` into `code/<digest>` unless it is there, and hand `job` over to `train.worker`.

    Raises RuntimeError when the archive is not the recorded one, or when other code is imported in its place.
    """
    import io
    import os
    import shutil
    import sys
    import tarfile
    import tempfile
    from pathlib import Path

    import ray
    from blake3 import blake3

    digest = arguments["job"]["source_digest"]
    root = Path(arguments["code"]) / digest
    if not root.is_dir():
        archive = ray.get(arguments["archive"])
        if blake3(archive).hexdigest() != digest:
            raise RuntimeError("the source archive that reached this worker is not the one that was recorded")
        root.parent.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(dir=root.parent))
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(unpacked, filter="data")
        try:
            unpacked.rename(root)
        except OSError:
            # Another worker of this node was first.
            shutil.rmtree(unpacked)
    sys.path.insert(0, str(root))
    os.environ["OMP_NUM_THREADS"] = str(arguments["job"]["config"]["cluster"]["threads"])

    import train

    if not str(train.__file__).startswith(str(root)):
        raise RuntimeError(f"the worker would run code that was not recorded: {train.__file__}")
    from train.worker import run_in_ray

    run_in_ray(arguments["job"])
