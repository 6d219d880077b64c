"""What every arm trains, so that their steps are the same work, and how often each keeps its state."""

from __future__ import annotations

from typing import Any

WORKERS = 2
MICRO_BATCHES = 8
MICRO_BATCH_SIZE = 2
SEQUENCE_LENGTH = 64
STATE_EVERY = 25  # steps between states to go back to: snapshots here, checkpoints in the other arms

MODEL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}

# The same for train.py. A constant learning rate makes a step's bits independent of how many steps are to come.
OVERRIDES = [
    *(f"model.{name}={value}" for name, value in MODEL.items()),
    f"train.micro_batches={MICRO_BATCHES}",
    f"train.micro_batch_size={MICRO_BATCH_SIZE}",
    f"data.sequence_length={SEQUENCE_LENGTH}",
    "data.megabytes=0.2",
    "optim.schedule=constant",
    "train.eval_every=0",
    "train.sample_tokens=0",
    f"checkpoint.memory_every={STATE_EVERY}",
    "recorder.spool=spool",
]
