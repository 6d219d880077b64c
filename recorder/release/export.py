"""A checkpoint as a folder that `transformers` loads. No torch: the weights are copied, their bytes checked.

The names of the weights are those of `LlamaForCausalLM`, so `model.safetensors` of the export is, byte for byte, that
of the checkpoint: its digest in the release is the digest in the ledger.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from recorder.bundle import layout
from recorder.bundle.files import recording_errors, sync_folder, temporary_path, write_file
from recorder.bundle.reader import Bundle
from recorder.canonical import readable_json
from recorder.checkpoint.record import read_commit_marker
from recorder.errors import BundleError, UsageError
from recorder.release.llama import check_weights, generation_config, llama_shape, model_config, refusal
from recorder.release.safetensors_header import read_header
from recorder.release.tokenizer import read_tokenizer, tokenizer_files

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"

_BLOCK = 4 << 20


@dataclass(frozen=True)
class Exported:
    """What was exported: run, step, and the checkpoint's path in the bundle; `files` are names in the folder."""

    run: str
    step: int
    checkpoint: str
    files: tuple[str, ...]


def why_not(bundle: Bundle) -> str | None:
    """Why nothing of this run can be exported, in one line; None when its newest checkpoint can be tried."""
    if reason := refusal(bundle.config):
        return reason
    return None if exportable_steps(bundle) else f"{bundle.id} has no complete checkpoint"


def exportable_steps(bundle: Bundle) -> list[int]:
    """The steps whose weights are in the bundle, first to last; the optimizer's state may have been withheld."""
    return [found.step for found in bundle.checkpoints if _marker(bundle.path / found.path) is not None]


def export_model(bundle: Bundle, target: Path, *, step: int | None = None, tokenizer: Path | None = None) -> Exported:
    """Write the model after `step` (the newest checkpoint's when None) into the folder `target`.

    Each file appears whole or not at all, config.json last; doing it again gives the same bytes. `tokenizer` is for
    runs that did not record theirs. Raises UsageError for a model that transformers does not have or a step without
    a checkpoint, BundleError for a checkpoint that is damaged, RecordingError when `target` cannot be written.
    """
    step = max(exportable_steps(bundle), default=None) if step is None else step
    path = layout.checkpoint_folder(step or 0)
    marker = _marker(bundle.path / path)
    if step is None or marker is None:
        raise UsageError(
            f"{bundle.id} has no complete checkpoint{'' if step is None else f' of step {step}'} to export"
        )
    record = read_tokenizer(bundle, tokenizer) if refusal(bundle.config) is None else {}
    shape = llama_shape(bundle.config, record)
    source = bundle.path / path / layout.CHECKPOINT_MODEL
    dtype = check_weights(shape, read_header(source))
    documents = tokenizer_files(record, shape.positions) | {
        GENERATION_CONFIG: generation_config(shape),
        CONFIG: model_config(shape, dtype),
    }
    _copy(source, target / WEIGHTS, marker["files"][layout.CHECKPOINT_MODEL]["blake3"])
    for name, value in documents.items():
        write_file(target / name, readable_json(value))
    return Exported(bundle.id, step, path, tuple(sorted({WEIGHTS, *documents})))


def _marker(folder: Path) -> dict[str, Any] | None:
    return read_commit_marker(folder, needed=(layout.CHECKPOINT_MODEL,))


def _copy(source: Path, target: Path, expected: str) -> None:
    """Copy a file that has the BLAKE3 `expected`; raises BundleError, leaving nothing, when it has another."""
    hasher = blake3()
    temporary = temporary_path(target)
    with recording_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open("rb") as read, temporary.open("wb") as written:
                while block := read.read(_BLOCK):
                    hasher.update(block)
                    written.write(block)
                if hasher.hexdigest() != expected:
                    raise BundleError(
                        f"{source} does not match its recorded digest; restore it, or export another step"
                    )
                written.flush()
                os.fsync(written.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)
