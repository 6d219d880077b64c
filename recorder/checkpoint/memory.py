"""Saving snapshots to a node's memory beside training, without ever getting in its way."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle import layout
from recorder.checkpoint.memory_space import MemorySpace, memory_space
from recorder.checkpoint.safetensors_file import write_with_blake3
from recorder.checkpoint.snapshot import (
    Snapshot,
    check,
    is_private,
    local_node_key,
    memory_folder,
    offers,
    read_snapshot,
    remove_empty,
    remove_memory,
)
from recorder.checkpoint.writer import copy_tensors, write_files
from recorder.errors import RecordingError
from recorder.ledger.processes import is_alive, start_ticks

if TYPE_CHECKING:
    import torch

    from recorder.checkpoint.writer import Tensors

__all__ = [
    "MemorySnapshots",
    "MemorySpace",
    "Snapshot",
    "check",
    "local_node_key",
    "memory_folder",
    "offers",
    "remove_memory",
]

_MEGABYTE = 10**6
# Beside the tensors a snapshot has a header for each file and the marker, and files end within a page.
_FILES_MARGIN = _MEGABYTE
# Ray's memory monitor kills workers when 5% of a node's memory are left.
_MEMORY_MARGIN = 0.1


class MemorySnapshots:
    """Saves snapshots in `folder` from one process; several processes of a node may save there, best one at a time.

    `save` returns when the state has been copied to memory of its own; a thread writes it. The snapshot before stays
    whole until the new one is complete, older ones make room, and then both are kept.

    Nothing that hinders a snapshot is an error: it is skipped, and `skipped` called with the step and the reason in
    one line. `saved` is called, in the thread, with `step`, `bytes`, `seconds`, `blocked_seconds` and `fingerprint`.
    Only what these two raise is raised: by `save` if it was called there, else by the next call.

    Two snapshots must have room, so a snapshot is skipped unless, with the state's size S and counting those already
    there as free, the tmpfs has 2 S and 1 MB free, and the node (or the process's control group) 2 S, and S more if
    the copy has not been made yet, and a tenth of its memory available. `space` is asked for both.
    """

    def __init__(
        self,
        folder: Path,
        saved: Callable[[dict[str, Any]], None],
        skipped: Callable[[int, str], None],
        space: Callable[[Path], MemorySpace] = memory_space,
    ) -> None:
        self._folder = folder
        self._saved = saved
        self._skipped = skipped
        self._space = space
        self._copies: dict[str, torch.Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        # Another process may have this one's number later; it is not this one.
        self._mark = f"{os.getpid()}-{start_ticks(os.getpid())}"

    def save(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any]) -> None:
        """Save the tensors of each file and the JSON `state` after `step` steps, unless something hinders it.

        `state` has the `fingerprint` of the whole.
        """
        began = time.perf_counter()
        if self._thread is not None and self._thread.is_alive():
            self._skipped(step, "the snapshot before is still being written")
            return
        self.wait()
        try:
            self._require_room(files)
            copied = copy_tensors(files, self._copies)
            arguments = (step, copied, state, time.perf_counter() - began)
            thread = threading.Thread(target=self._run, args=arguments, name="memory-snapshots")
            thread.start()
        except Exception as error:
            self._copies.clear()
            self._skipped(step, _reason(error))
        else:
            self._thread = thread

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self, remove: bool) -> None:
        """Wait, and let go of the memory for the copy; with `remove` nothing stays of this node's snapshots."""
        try:
            self.wait()
        finally:
            self._copies.clear()
            if remove:
                shutil.rmtree(self._folder, ignore_errors=True)
                remove_empty(self._folder.parent)

    def _require_room(self, files: Mapping[str, Tensors]) -> None:
        """Raise RecordingError when there is no room for two snapshots, or the folder is no place for them."""
        space = self._space(self._folder)
        if space.file_system != "tmpfs":
            raise RecordingError(f"{self._folder} is not in memory: its file system is {space.file_system}, not tmpfs")
        size = sum(tensor.numel() * tensor.element_size() for tensors in files.values() for tensor in tensors.values())
        held = sum(_size(path) for path in itertools.chain(self._left_by_the_dead(), self._snapshots()))
        if space.free + held < (needed := 2 * size + _FILES_MARGIN):
            raise RecordingError(
                f"the tmpfs of {self._folder} has room for {_megabytes(space.free + held)}, two snapshots need "
                f"{_megabytes(needed)}; enlarge it"
            )
        needed = (2 if self._copies else 3) * size + int(_MEMORY_MARGIN * space.total)
        if space.available + held < needed:
            raise RecordingError(
                f"memory is short: {_megabytes(space.available + held)} available, snapshots and a tenth of the "
                f"memory to spare need {_megabytes(needed)}"
            )

    def _run(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any], blocked: float) -> None:
        try:
            try:
                fields = self._write(step, files, state)
            except Exception as error:
                self._skipped(step, _reason(error))
            else:
                self._saved({"step": step, **fields, "blocked_seconds": blocked})
        except Exception as error:
            self._failure = error

    def _write(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any]) -> dict[str, Any]:
        """Write one snapshot and give it its name; what `saved` is told of it."""
        began, fingerprint = time.perf_counter(), state["fingerprint"]
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_private(self._folder):
            raise RecordingError(f"{self._folder} is not a folder that only this user can write in; remove it")
        final = self._folder / Path(layout.checkpoint_folder(step)).name
        there = self._snapshots()
        # One of this very step, from before a return to an earlier one, is what may go first.
        before = next((path for path in there if path != final), final)
        # What is removed is no snapshot from the first file on that it lacks.
        for path in itertools.chain(self._left_by_the_dead(), there):
            if path != before:
                shutil.rmtree(path, ignore_errors=True)
        partial = final.with_name(f".{final.name}.{self._mark}{layout.PARTIAL}")
        try:
            records = write_files(partial, step, files, state, write_with_blake3)
            if final.exists():
                # It was the only one. A folder cannot be replaced in one go: a kill here leaves none, and the run goes
                # on from storage.
                shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return {
            "bytes": sum(record["size"] for record in records.values()),
            "seconds": time.perf_counter() - began,
            "fingerprint": fingerprint,
        }

    def _snapshots(self) -> list[Path]:
        """The folders with a snapshot's name, the one that was written last first: its step may be an earlier one."""
        return sorted(self._folder.glob("step-*"), key=lambda path: (_written(path), path.name), reverse=True)

    def _left_by_the_dead(self) -> Iterable[Path]:
        """What killed processes were writing."""
        for path in self._folder.glob(f".step-*{layout.PARTIAL}"):
            pid, _, started = path.name.removesuffix(layout.PARTIAL).rpartition(".")[2].partition("-")
            if not (pid.isdigit() and started.isdigit() and is_alive(int(pid), int(started))):
                yield path


def _written(path: Path) -> int:
    """When the snapshot in a folder was completed, in nanoseconds; -1 if it is none."""
    try:
        return (path / layout.CHECKPOINT_STATE).stat().st_mtime_ns if read_snapshot(path) else -1
    except OSError:
        return -1


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _megabytes(size: float) -> str:
    return f"{size / _MEGABYTE:.0f} MB"


def _reason(error: Exception) -> str:
    """One line for what went wrong."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the snapshot'} cannot be written: {error.strerror or error}"
    return str(error) if isinstance(error, RecordingError) else repr(error)
