"""Exchanging the workers' partial sums so that each worker ends with the same total, bit for bit.

An `Exchange` is what the step knows of the other workers. It holds a process group and no state of a run: after a
worker is lost, the step is given another one and redone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from train.step.accumulate import Root
from train.step.tree import Fold, Span, ranges, roots


class Exchange(Protocol):
    """Sums over all workers. `rank` and `workers` say which of a step's micro-batches are this worker's."""

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""

    @property
    def workers(self) -> int:
        """How many workers there are."""

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:
        """The total over all micro-batches, from each worker's partial sums (flat vectors of one length).

        The result may be changed; it is valid until the next call. All workers must call this together. Whatever a
        process group raises passes through, and then nothing of the step may be used.
        """


class Collectives(Protocol):
    """What is used of a process group: torch's own, one of its backends, or one that can be reconfigured."""

    def rank(self) -> int:
        """This worker's number, from 0."""

    def size(self) -> int:
        """How many workers there are."""

    def alltoall_base(self, output: Tensor, input: Tensor, output_sizes: list[int], input_sizes: list[int]) -> Any:
        """Send each worker its part of `input` and receive a part of `output` from each."""

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor]) -> Any:
        """Receive every worker's input."""

    def allreduce(self, tensors: list[Tensor]) -> Any:
        """Sum in place, in an order of the group's own."""


class SingleExchange:
    """One worker: its tree is the whole tree."""

    rank = 0
    workers = 1

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:
        """The only root there is."""
        return _fold(partial, micro_batches)


class TreeExchange:
    """Several workers: the total has the bits that one worker alone would compute.

    Each worker is responsible for one chunk of the vector: it receives that chunk of every root, adds them as the
    tree does, and sends the result to all. With one root a worker this moves what a ring all-reduce moves; otherwise
    the first half grows with the number of roots, which `tree.most_roots` bounds. It is one root wherever the
    number of micro-batches is a power of two times that of workers.
    """

    def __init__(self, group: Collectives) -> None:
        self._group = group
        self.rank = group.rank()
        self.workers = group.size()

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:
        """See `Exchange.sum`."""
        length = partial[0][1].numel()
        chunk = -(-length // self.workers)
        sizes = [max(0, min(chunk, length - start)) for start in range(0, chunk * self.workers, chunk)]
        mine = self._fold_own_chunk(partial, micro_batches, sizes)
        total = mine.new_empty(chunk * self.workers)
        padded = F.pad(mine, (0, chunk - mine.numel()))
        self._group.allgather([list(torch.split(total, chunk))], [padded]).wait()
        return total[:length]

    def _fold_own_chunk(self, partial: Sequence[Root], micro_batches: int, sizes: list[int]) -> Tensor:
        """This worker's chunk of the total; `sizes` are those of all chunks, of which the last may be short or empty.

        In the k-th exchange everyone sends the chunks of its k-th root, and nothing where it has no more.
        """
        plan = [roots(leaves, micro_batches) for leaves in ranges(micro_batches, self.workers)]
        received: dict[Span, Tensor] = {}
        pending = []
        for turn in range(max(map(len, plan))):
            expected = [spans[turn : turn + 1] for spans in plan]
            counts = [sizes[self.rank] * len(spans) for spans in expected]
            mine, outgoing = partial[0][1][:0], [0] * self.workers
            if turn < len(partial):
                mine, outgoing = partial[turn][1], sizes
            output = mine.new_empty(sum(counts))
            pending.append(self._group.alltoall_base(output, mine, counts, outgoing))
            for spans, part in zip(expected, torch.split(output, counts), strict=True):
                received.update((span, part) for span in spans)
        for work in pending:
            work.wait()
        return _fold(sorted(received.items(), key=itemgetter(0)), micro_batches)


def _fold(parts: Iterable[Root], micro_batches: int) -> Tensor:
    """Add the parts up as the tree does, in place."""
    fold = Fold[Tensor](micro_batches, lambda left, right: left.add_(right))
    for span, value in parts:
        fold.push(span, value)
    return fold.total
