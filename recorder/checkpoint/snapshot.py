"""Snapshots of the resume state as they lie in a node's memory: they outlive every process of the run, not a boot.

A snapshot is a folder with the files of a checkpoint in a tmpfs. Only its name says that it is complete, and it gets
it last, by a rename; in memory nothing needs to be synced for that to hold against a kill. The records in its
`state.json` have no MD5, for nothing in memory goes into DVC.

    <root>/run-recorder-<uid>/<run id>-<8 digits of the bundle's genesis>/<node>/step-00000100/
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from recorder.bundle import layout
from recorder.checkpoint.record import damage, read_commit_marker
from recorder.ledger.ledger import genesis

_ROOT = Path("/dev/shm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: the state after `step` steps, the fingerprint recorded with it, and its folder."""

    step: int
    fingerprint: str
    path: Path


def memory_folder(bundle: Path, node: str, root: Path | None = None) -> Path:
    """Where the snapshots of a run are on `node`. Bundles of the same id in different folders have different ones.

    `root` is a tmpfs, /dev/shm unless told. Raises OSError when the bundle's run.json cannot be read.
    """
    return _run_folder(bundle, root) / node


def remove_memory(bundle: Path, *, root: Path | None = None) -> None:
    """Remove all that a run has in this machine's memory.

    No process may be saving there. Raises OSError when the bundle's run.json cannot be read.
    """
    run = _run_folder(bundle, root)
    shutil.rmtree(run, ignore_errors=True)
    remove_empty(run)


def remove_empty(run: Path) -> None:
    """Remove the folder of a run, and that of the user, if nothing is left in it."""
    with suppress(OSError):
        run.rmdir()
    with suppress(OSError):
        run.parent.rmdir()


def local_node_key() -> str:
    """The name of this machine as a node of a cluster that is nowhere else: the same until the next boot."""
    try:
        boot = _BOOT_ID.read_text()
    except OSError:  # not Linux: then the time of the boot tells boots apart
        boot = f"{int(psutil.boot_time()):08x}"
    return f"local-{boot[:8]}"


def offers(folder: Path) -> list[Snapshot]:
    """The complete snapshots in `folder`, newest first; of those, `check` tells whether their bytes are as written.

    There are none if the folder is missing, or if somebody else could have written in it.
    """
    found = []
    if is_private(folder):
        with suppress(OSError):
            found = [snapshot for path in folder.iterdir() if (snapshot := read_snapshot(path)) is not None]
    return sorted(found, key=lambda snapshot: -snapshot.step)


def check(snapshot: Snapshot) -> str | None:
    """What is wrong with a snapshot, in one line; None when every byte of its tensors is as it was written."""
    marker = read_commit_marker(snapshot.path)
    if marker is None or read_snapshot(snapshot.path) != snapshot:
        return "it is not what was offered any more"
    return damage(snapshot.path, marker["files"])


def read_snapshot(path: Path) -> Snapshot | None:
    """The snapshot in the folder `path`; None if it is none, or not complete."""
    marker = read_commit_marker(path)
    if marker is None or layout.checkpoint_step(path.name) != marker["step"]:
        return None
    try:
        fingerprint = json.loads((path / layout.CHECKPOINT_STATE).read_bytes())["state"]["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Snapshot(marker["step"], str(fingerprint), path)


def is_private(folder: Path) -> bool:
    """Whether `folder` is a folder that this user alone can write in: /dev/shm is open to everybody."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _run_folder(bundle: Path, root: Path | None) -> Path:
    user = (root or _ROOT) / f"run-recorder-{os.getuid()}"
    return user / f"{bundle.name}-{genesis(bundle)[:8]}"
