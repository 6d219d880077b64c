"""Plain data parallelism, for comparison: fast to describe, but the bits depend on the number of workers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from train.step.accumulate import Root
from train.step.exchange import Collectives


class NativeExchange:
    """Each worker's own sum, then the process group's all-reduce, which adds in whatever order it likes.

    The sum is in memory of this exchange, as in `TreeExchange`: when a call raises, something may still write there.
    """

    def __init__(self, group: Collectives) -> None:
        self._group = group
        self.rank = group.rank()
        self.workers = group.size()
        self._total: Tensor | None = None

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:  # noqa: ARG002 - see Exchange
        """See `Exchange.sum`; every worker gets the same bits, but not those of another number of workers."""
        (_, first), *others = partial
        if self._total is None or len(self._total) != len(first):
            self._total = torch.empty_like(first)
        total = self._total.copy_(first)
        for _, value in others:
            total.add_(value)
        self._group.allreduce([total]).wait()
        return total
