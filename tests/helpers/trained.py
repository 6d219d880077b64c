"""Bundles that hold a real model and tokenizer, as training leaves them; torch is needed, Ray is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers.bundles import RunBuilder, fingerprint
from helpers.records import SOURCE_FILES, captured_files, config_with, dataset_record
from recorder.bundle import layout
from recorder.bundle.files import make_read_only, write_file
from recorder.canonical import readable_json
from recorder.capture.archive import SourceFile
from recorder.checkpoint.record import commit_marker
from recorder.checkpoint.safetensors_file import write_safetensors
from recorder.ledger import events
from train.data.tokenizer import Tokenizer
from train.model import Llama
from train.model.arguments import LlamaArguments

POSITIONS = 24
SHAPE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def llama(tokenizer: Tokenizer, seed: int = 3, **shape: Any) -> Llama:
    """A model with weights away from zero, so that every part of it matters."""
    torch.manual_seed(seed)
    arguments = LlamaArguments(**(SHAPE | shape)).model_dump()
    model = Llama(vocab_size=tokenizer.vocabulary_size, max_position_embeddings=POSITIONS, **arguments).eval()
    for weight in model.parameters():
        weight.data.mul_(3.0).add_(0.01)
    return model


def trained(
    root: Path,
    tokenizer: Tokenizer,
    models: dict[int, Llama],
    *,
    files: dict[str, bytes | None] | None = None,
    source: tuple[SourceFile, ...] = SOURCE_FILES,
    values: dict[str, Any] | None = None,
    prepare: Callable[[RunBuilder], object] = lambda builder: None,
    **shape: Any,
) -> Path:
    """A sealed bundle of a run that saved `models` by step. `files` replace captured ones, or with None remove them.

    `source` is its source, `values` are further ones of its config, and `prepare` does what comes before the steps.
    """
    model = {"_target_": "train.model.Llama"} | SHAPE | shape
    config = config_with(model=model, data__sequence_length=POSITIONS, **(values or {}))
    described = {
        "kind": tokenizer.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "end_of_document": tokenizer.end_of_document,
        "blake3": tokenizer.digest,
    }
    captured = captured_files(config, source) | {
        layout.DATASET: readable_json(dataset_record() | {"tokenizer": described}),
        layout.TOKENIZER: readable_json(tokenizer.to_json()),
    }
    kept = {path: data for path, data in (captured | (files or {})).items() if data is not None}
    builder = RunBuilder(root, config=config, files=kept).create().join()
    prepare(builder)
    done = 0
    for step, weights in sorted(models.items()):
        builder.steps(done + 1, step).drain()
        path, done = layout.checkpoint_folder(step), step
        saved = _save(builder.path / path, step, weights)
        builder.ranks[0].event(events.CHECKPOINT_SAVED, step=step, path=path, files=saved)
        builder.drain()
    return builder.finish(done).close()


def _save(folder: Path, step: int, model: Llama) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True)
    parameters = {name: weight.detach() for name, weight in model.named_parameters()}
    tensors = {layout.CHECKPOINT_MODEL: parameters, layout.CHECKPOINT_OPTIMIZER: {"momentum": torch.zeros(2)}}
    metadata = {"format": "pt", "step": str(step)}
    records = {name: write_safetensors(folder / name, part, metadata).record() for name, part in tensors.items()}
    for name in records:
        make_read_only(folder / name)
    marker = readable_json(commit_marker(step, {"tokens": 64 * step, "fingerprint": fingerprint(step)}, records))
    return records | {layout.CHECKPOINT_STATE: write_file(folder / layout.CHECKPOINT_STATE, marker).record()}
