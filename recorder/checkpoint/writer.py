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
from recorder.checkpoint.record import commit_marker
from recorder.checkpoint.safetensors_file import write_safetensors
from recorder.errors import RecorderError, RecordingError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

Announce = Callable[[dict[str, Any]], None]


class CheckpointWriter:
    """Writes checkpoints of one bundle from one process.

    `save` returns when the state has been copied to memory of its own; the rest happens in a thread. A checkpoint
    appears under its name only when it is complete and durable; `announce` is then called, in that thread, with what
    the `checkpoint.saved` event says. A failure is raised by the next `save` or `wait` and leaves nothing half-written.
    """

    def __init__(self, bundle: Path, announce: Announce) -> None:
        self._bundle = bundle
        self._announce = announce
        self._copies: dict[str, torch.Tensor] = {}
        self._thread: threading.Thread | None = None
        self._failure: RecorderError | None = None

    def save(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any]) -> None:
        """Save the tensors of each file and the JSON `state` after `step` steps. Raises RecordingError.

        Waits for the checkpoint before this one when it is still being written.
        """
        started = time.perf_counter()
        self.wait()
        copied = {
            file: {name: self._copy(f"{file}/{name}", t) for name, t in tensors.items()}
            for file, tensors in files.items()
        }
        blocked = time.perf_counter() - started
        arguments = (step, copied, state, blocked)
        self._thread = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises RecordingError when the last checkpoint could not be."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _copy(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """Into memory that is kept from one checkpoint to the next: fresh pages would cost more than the copy."""
        import torch

        kept = self._copies.get(key)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = self._copies[key] = torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format)
        return kept.copy_(tensor.detach())

    def _write(self, step: int, files: Mapping[str, Tensors], state: dict[str, Any], blocked: float) -> None:
        path = layout.checkpoint_folder(step)
        final = self._bundle / path
        partial = final.with_name(f".{final.name}.{os.getpid()}{layout.PARTIAL}")
        started = time.perf_counter()
        try:
            with recording_errors(final):
                records = self._write_files(partial, step, files, state)
                partial.rename(final)
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

    def _write_files(
        self, partial: Path, step: int, files: Mapping[str, Tensors], state: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        # What an earlier process with this number left is no checkpoint.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        records = {}
        for file, tensors in files.items():
            metadata = {"format": "pt", "step": str(step)}
            records[file] = write_safetensors(partial / file, tensors, metadata).record()
        marker = readable_json(commit_marker(step, state, records))
        records[layout.CHECKPOINT_STATE] = write_file(partial / layout.CHECKPOINT_STATE, marker).record()
        for file in records:
            make_read_only(partial / file)
        return records
