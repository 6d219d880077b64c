"""One training step: the same bits from any number of workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from recorder.checkpoint.fingerprint import fingerprint
from recorder.errors import NonFiniteError
from train.config import OptimConfig, TrainConfig
from train.optim import AdamW, learning_rate
from train.step.accumulate import HEADER, LOSS, STOP, Accumulator, Layout
from train.step.exchange import Exchange
from train.step.forward import Batches, Forward, unchanging_buffers
from train.step.quorum import Alone, Quorum
from train.step.tree import ranges

Outcome = Literal["updated", "skipped", "stopped"]


@dataclass(frozen=True)
class Seconds:
    """Where a step's time went, by this worker's clock."""

    compute: float
    exchange: float
    update: float


@dataclass(frozen=True)
class StepResult:
    """What a step did. All but `seconds` is the same on every worker."""

    step: int
    loss: float
    grad_norm: float  # before clipping
    gradient_digest: str  # fingerprint of the sum over micro-batches, before it is scaled
    learning_rate: float
    outcome: Outcome
    stop_requested: bool  # by any worker
    seconds: Seconds

    def raise_if_stopped(self) -> None:
        """Raise NonFiniteError if the policy ended the run at this step; call it once the step is recorded."""
        if self.outcome == "stopped":
            raise NonFiniteError(
                f"step {self.step}: loss {self.loss!r} and gradient norm {self.grad_norm!r} are not finite, so the "
                "weights were left as they were; lower optim.lr, or go on with train.non_finite=skip"
            )


class TrainStep:
    """Takes training steps: own micro-batches, exchange, agreement, clipping, update.

    `exchange` may be replaced between steps. When it or the quorum raises, the model and the optimizer are as they were
    before the step, which can then be run again.
    """

    def __init__(
        self,
        forward: Forward,
        batches: Batches,
        optimizer: AdamW,
        exchange: Exchange,
        train: TrainConfig,
        optim: OptimConfig,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.exchange = exchange
        self._forward = forward
        self._batches = batches
        self._optimizer = optimizer
        self._train = train
        self._optim = optim
        self._clock = clock
        self._layout = Layout(optimizer.parameters)
        self._accumulator = Accumulator(self._layout, forward.device)
        self._checked = False

    def run(self, step: int, *, stop_requested: bool = False, quorum: Quorum | None = None) -> StepResult:
        """Take `step`, counted from 1. Every worker must call it; `stop_requested` of any is told to all.

        Nothing is changed before the quorum has agreed about the sum. Raises ConfigError for a model that does not fit
        and whatever the exchange and the quorum raise; a loss or gradient that is not finite is reported by the result
        and dealt with as `train.non_finite` says.
        """
        quorum = quorum or Alone()
        began = self._now()
        self._compute(step, quorum)
        partial = self._accumulator.roots
        partial[0][1][STOP] = float(stop_requested)
        computed = self._now()
        quorum.arrive()
        total = self.exchange.sum(partial, self._train.micro_batches)
        exchanged = self._now()
        gradient = self._layout.gradient(total)
        digest = fingerprint({"gradient": gradient})
        quorum.agree("sum", step, f"{digest} {fingerprint({'header': total[:HEADER]})}")
        total.mul_(1 / self._train.micro_batches)
        norm = get_total_norm(self._layout.views(total))
        loss, stop, norm = torch.stack((total[LOSS], total[STOP], norm)).tolist()
        rate = learning_rate(self._optim, step, self._train.steps)
        outcome = self._update(total, loss, norm, rate)
        seconds = Seconds(computed - began, exchanged - computed, self._now() - exchanged)
        return StepResult(step, loss, norm, digest, rate, outcome, stop > 0, seconds)

    def _compute(self, step: int, quorum: Quorum) -> None:
        """Sum the losses and gradients of this worker's micro-batches."""
        micro_batches = self._train.micro_batches
        self._accumulator.begin(micro_batches)
        for micro_batch in ranges(micro_batches, self.exchange.workers)[self.exchange.rank]:
            quorum.check()
            with nullcontext() if self._checked else unchanging_buffers(self._forward.model):
                loss = self._forward.loss(self._batches, "train", step, micro_batch)
            self._checked = True
            gradients = torch.autograd.grad(loss, self._optimizer.parameters, allow_unused=True)
            self._accumulator.add(micro_batch, loss, gradients)

    def _update(self, mean: Tensor, loss: float, norm: float, rate: float) -> Outcome:
        """Clip and apply the gradient, unless it is not finite and the policy is against that."""
        finite = math.isfinite(loss) and math.isfinite(norm)
        if not finite and self._train.non_finite != "continue":
            return "skipped" if self._train.non_finite == "skip" else "stopped"
        clip_norm = self._optim.clip_norm
        if clip_norm > 0 and norm > clip_norm:
            mean.mul_(clip_norm / norm)
        self._optimizer.update(self._layout.views(mean), rate)
        return "updated"

    def _now(self) -> float:
        """The clock, once the device has caught up."""
        if self._forward.device.type == "cuda":
            torch.cuda.synchronize(self._forward.device)
        return self._clock()
