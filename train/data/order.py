"""Which sequences each micro-batch of each step reads: a pure function of the seed, so no sampler state is saved."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from train.data.permutation import permuted


@dataclass(frozen=True)
class DataOrder:
    """The order of the training data.

    Row `row` of micro-batch `micro_batch` of step `step` (all from 0) is sample number
    k = (step * micro_batches + micro_batch) * micro_batch_size + row of the run. It reads the sequence at place
    k mod `sequences` of the permutation of epoch k div `sequences`: each epoch reads every sequence once.
    """

    seed: int
    sequences: int
    micro_batches: int
    micro_batch_size: int

    def __post_init__(self) -> None:
        for name in ("sequences", "micro_batches", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def sequences_of(self, step: int, micro_batch: int) -> npt.NDArray[np.int64]:
        """The sequence numbers of one micro-batch, shape [micro_batch_size]."""
        if step < 0 or not 0 <= micro_batch < self.micro_batches:
            raise ValueError(
                f"step {step}, micro-batch {micro_batch}: there are {self.micro_batches} in a step, from 0"
            )
        first = micro_batch * self.micro_batch_size
        return _of_step(self, step)[first : first + self.micro_batch_size]

    def digest(self, step: int) -> str:
        """What the step reads, in 32 hexadecimal digits: BLAKE3 of its sequence numbers, in order, as `<i8`."""
        return blake3(_of_step(self, step).astype("<i8").tobytes()).digest(length=16).hex()


@lru_cache(2)
def _of_step(order: DataOrder, step: int) -> npt.NDArray[np.int64]:
    """All sequence numbers of a step, read-only; its micro-batches and its digest ask for them one after another."""
    count = order.micro_batches * order.micro_batch_size
    epochs, places = np.divmod(np.arange(step * count, (step + 1) * count, dtype=np.int64), order.sequences)
    result = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        result[of_epoch] = permuted(places[of_epoch], order.sequences, order.seed, epoch)
    result.flags.writeable = False
    return result
