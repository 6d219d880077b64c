"""Evaluation with the same guarantee as training: its loss does not depend on the number of workers."""

from __future__ import annotations

import torch
from torch import Tensor

from train.step.exchange import Exchange, SingleExchange
from train.step.forward import Batches, Forward
from train.step.quorum import Alone, Quorum
from train.step.tree import Fold, Span, ranges


@torch.no_grad()
def evaluate(
    forward: Forward,
    batches: Batches,
    exchange: Exchange,
    *,
    step: int,
    micro_batches: int,
    quorum: Quorum | None = None,
) -> float:
    """The mean cross entropy after `step` over `micro_batches` of `batches`, the same on every worker.

    Every worker must call it. The model is in evaluation mode meanwhile, and as before afterwards. Where there are
    fewer micro-batches than workers, each worker computes all of them. The quorum is asked as in a step, but for its
    agreement: whatever it and the exchange raise passes through.
    """
    quorum = quorum or Alone()
    if micro_batches < exchange.workers:
        exchange = SingleExchange()
    mine = ranges(micro_batches, exchange.workers)[exchange.rank]
    fold = Fold[Tensor](micro_batches, lambda left, right: left.add_(right))
    modes = {module: module.training for module in forward.model.modules()}
    forward.model.eval()
    try:
        for micro_batch in mine:
            quorum.check()
            fold.push(Span(micro_batch, 1), forward.loss(batches, "evaluate", step, micro_batch).reshape(1))
    finally:
        for module, training in modes.items():
            module.training = training
    quorum.arrive()
    total = exchange.sum(fold.parts, micro_batches)
    return float(total * (1 / micro_batches))
