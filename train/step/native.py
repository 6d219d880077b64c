"""Plain data parallelism, for comparison: fast to describe, but the bits depend on the number of workers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from train.step.accumulate import Root
from train.step.exchange import Collectives


class NativeExchange:
    """Each worker's own sum, then the process group's all-reduce, which adds in whatever order it likes."""

    def __init__(self, group: Collectives) -> None:
        self._group = group
        self.rank = group.rank()
        self.workers = group.size()

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:  # noqa: ARG002 - see Exchange
        """See `Exchange.sum`; every worker gets the same bits, but not those of another number of workers."""
        (_, total), *others = partial
        for _, value in others:
            total.add_(value)
        self._group.allreduce([total]).wait()
        return total
