"""Saving checkpoints beside training: a copy in memory, then a thread that writes, digests and commits it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle import layout
from recorder.bundle.files import make_read_only, recording_errors, sync_folder, write_file
from recorder.canonical import readable_json
from recorder.checkpoint.record import commit_marker, read_commit_marker
from recorder.checkpoint.safetensors_file import write_safetensors
from recorder.errors import RecorderError, RecordingError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]
    WriteTensors = Callable[[Path, Tensors, Mapping[str, str]], dict[str, Any]]

Announce = Callable[[dict[str, Any]], None]
Meanwhile = Callable[[], object]

_LOOK_SECONDS = 0.2


def nothing() -> None:
    """What is done while one waits, where nobody wants to know."""


def copy_tensors(files: Mapping[str, Tensors], kept: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Copy the tensors of each file into the memory `kept` from one time to the next.

    Fresh pages would cost more than the copy. What is missing in `kept` or has another shape or type is made anew.
    """
    return {
        file: {name: _copy(tensor, kept, f"{file}/{name}") for name, tensor in tensors.items()}
        for file, tensors in files.items()
    }


def _copy(tensor: torch.Tensor, kept: dict[str, torch.Tensor], key: str) -> torch.Tensor:
    import torch

    copy = kept.get(key)
    if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
        copy = kept[key] = torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format)
    return copy.copy_(tensor.detach())


def write_files(
    folder: Path, step: int, files: Mapping[str, Tensors], state: dict[str, Any], write: WriteTensors
) -> dict[str, dict[str, Any]]:
    """Write the files of one state into the new folder `folder`, the marker last; their records, by name.

    `write` writes the tensors of one file and returns its record. All files become read-only. Raises OSError.
    """
    # What an earlier process with this number left is no checkpoint.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    records = {}
    for file, tensors in files.items():
        records[file] = write(folder / file, tensors, {"format": "pt", "step": str(step)})
    marker = readable_json(commit_marker(step, state, records))
    records[layout.CHECKPOINT_STATE] = write_file(folder / layout.CHECKPOINT_STATE, marker).record()
    for file in records:
        make_read_only(folder / file)
    return records


class CheckpointWriter:
    """Writes checkpoints of one bundle from one process.

    `save` returns when the state has been copied to memory of its own; the rest happens in a thread. A checkpoint
    appears under its name only when it is complete and durable; `announce` is then called, in that thread, with what
    the `checkpoint.saved` event says, unless another process was first with this state. A failure is raised by the next
    `save` or `wait` and leaves nothing half-written.
    """

    def __init__(self, bundle: Path, announce: Announce) -> None:
        self._bundle = bundle
        self._announce = announce
        self._copies: dict[str, torch.Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: RecorderError | None = None

    def save(
        self, step: int, files: Mapping[str, Tensors], state: dict[str, Any], meanwhile: Meanwhile = nothing
    ) -> None:
        """Save the tensors of each file and the JSON `state` after `step` steps. Raises RecordingError.

        Waits for the checkpoint before this one when it is still being written, as `wait` does.
        """
        started = time.perf_counter()
        self.wait(meanwhile)
        copied = copy_tensors(files, self._copies)
        blocked = time.perf_counter() - started
        arguments = (step, copied, state, blocked)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
        self._thread.start()

    def wait(self, meanwhile: Meanwhile = nothing) -> None:
        """Wait until nothing is being written. Raises RecordingError when the last checkpoint could not be.

        `meanwhile` is called a few times a second; what it raises ends the waiting, and not the writing.
        """
        if self._thread is not None:
            while self._thread.is_alive():
                self._thread.join(_LOOK_SECONDS)
                meanwhile()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any], blocked: float) -> None:
        path = layout.checkpoint_folder(step)
        final = self._bundle / path
        partial = final.with_name(f".{final.name}.{os.getpid()}{layout.PARTIAL}")
        started = time.perf_counter()
        try:
            with recording_errors(final):
                records = write_files(partial, step, files, state, _write_with_digests)
                if not _place(partial, final):
                    return
                sync_folder(final.parent)
            seconds = time.perf_counter() - started
            self._announce(
                {
                    "step": step,
                    "path": path,
                    "files": records,
                    "blocked_seconds": blocked,
                    "seconds": seconds,
                    "cpu_seconds": time.thread_time(),
                }
            )
        except RecorderError as error:
            self._failure = error
        except Exception as error:
            self._failure = RecordingError(f"checkpoint of step {step} failed: {error!r}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _place(partial: Path, final: Path) -> bool:
    """Give a checkpoint its name; False when another process was first with the same state. Raises OSError."""
    try:
        partial.rename(final)
    except OSError:
        if read_commit_marker(final) != read_commit_marker(partial):
            raise
        return False
    return True


def _write_with_digests(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> dict[str, Any]:
    return write_safetensors(path, tensors, metadata).record()
