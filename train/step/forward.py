"""The loss of one micro-batch: the one place where the model is called, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recorder.checkpoint.fingerprint import fingerprint
from recorder.errors import ConfigError
from train.step.randomness import reseed

Batches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(step, micro-batch) -> inputs and targets, int64 [B, T]: a pure function, of constant shape."""


class Forward:
    """Computes a micro-batch's loss from (seed, purpose, step, micro-batch) and the weights alone."""

    def __init__(
        self,
        model: nn.Module,
        *,
        seed: int,
        device: torch.device,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.model = model
        self.device = device
        self._seed = seed
        self._autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

    def loss(self, batches: Batches, purpose: str, step: int, micro_batch: int) -> Tensor:
        """Mean cross entropy over all positions, a float32 scalar on the device.

        Raises ConfigError when the model does not return logits [B, T, V].
        """
        inputs, targets = (tokens.to(self.device, non_blocking=True) for tokens in batches(step, micro_batch))
        reseed(self._seed, purpose, step, micro_batch)
        with self._autocast:
            logits = self.model(inputs)
        if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != inputs.shape:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"the model returned {shape} for tokens {tuple(inputs.shape)}; it must return logits [B, T, V]"
            )
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@contextmanager
def unchanging_buffers(model: nn.Module) -> Iterator[None]:
    """Run a forward pass that must leave the model's buffers as they are.

    Raises ConfigError when it does not: a running average as BatchNorm's would depend on how micro-batches are shared
    out among workers, and so would the bits of the run.
    """
    before = {name: fingerprint({name: buffer}) for name, buffer in model.named_buffers()}
    yield
    changed = [name for name, buffer in model.named_buffers() if before.get(name) != fingerprint({name: buffer})]
    if changed:
        raise ConfigError(
            f"the model's forward pass changes its buffer {changed[0]!r}, so the run would depend on the number of "
            "workers; use a layer without running statistics (LayerNorm, RMSNorm, GroupNorm)"
        )
