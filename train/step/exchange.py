"""Exchanging the workers' partial sums so that each worker ends with the same total, bit for bit.

An `Exchange` is what the step knows of the other workers. It holds a process group and no state of a run: after a
worker is lost, the step is given another one and redone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Protocol

import torch
from torch import Tensor

from train.step.accumulate import Root
from train.step.tree import Fold, Span, ranges, roots

PIECE = 32 << 20  # elements that are exchanged at a time; smaller pieces overlap more and yet are slower


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

    Each worker is responsible for one chunk of the vector: it receives that chunk of the others' roots, adds them to
    its own as the tree does, and sends the result to all. With one root a worker this moves what a ring all-reduce
    moves; otherwise the first half grows with the number of roots, which `tree.most_roots` bounds. It is one root
    wherever the number of micro-batches is a power of two times that of workers. Of longer vectors `PIECE` elements
    are exchanged at a time, so that the memory for what is received has a limit.

    What comes from others lands in memory of this exchange, never in the partial sums, and is kept from call to call:
    pages that are new each time cost more than the sum. When a call raises, something may still write there, so the
    exchange is given up together with its group.
    """

    def __init__(self, group: Collectives) -> None:
        self._group = group
        self.rank = group.rank()
        self.workers = group.size()
        others = range(1, self.workers)
        self._neighbours = [((self.rank + k) % self.workers, (self.rank - k) % self.workers) for k in others]
        self._total = _Memory()
        self._received = _Memory()

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:
        """See `Exchange.sum`."""
        plan = [roots(leaves, micro_batches) for leaves in ranges(micro_batches, self.workers)]
        length = partial[0][1].numel()
        total = self._total.take(length, partial[0][1])
        pending = []
        for start in range(0, length, PIECE):
            chunks = _chunks(start, min(start + PIECE, length), self.workers)
            parts = self._receive(partial, plan, chunks)
            _fold_into(total[chunks[self.rank]], parts, micro_batches)
            pending += self._spread([total[chunk] for chunk in chunks])
        for work in pending:
            work.wait()
        return total

    def _receive(self, partial: Sequence[Root], plan: list[list[Span]], chunks: list[slice]) -> list[Root]:
        """This worker's chunk of every root, in order; `plan` has the roots of each worker.

        In the k-th turn everyone sends the chunks of its k-th root, and nothing where it has no more.
        """
        own = chunks[self.rank]
        size = own.stop - own.start
        parts = [(span, value[own]) for span, value in partial]
        space = self._received.take(size * (sum(map(len, plan)) - len(parts)), partial[0][1])
        pending = []
        for turn in range(max(map(len, plan))):
            root = partial[turn][1] if turn < len(partial) else partial[0][1][:0]
            for to, source in self._neighbours:
                expected = plan[source][turn : turn + 1]
                incoming, space = space[: size * len(expected)], space[size * len(expected) :]
                pending.append(self._trade(root[chunks[to]], to, incoming, source))
                parts += [(span, incoming) for span in expected]
        for work in pending:
            work.wait()
        return sorted(parts, key=itemgetter(0))

    def _spread(self, results: list[Tensor]) -> list[Any]:
        """Begin to send this worker's chunk of the total to all the others, and to receive theirs."""
        return [self._trade(results[self.rank], to, results[source], source) for to, source in self._neighbours]

    def _trade(self, outgoing: Tensor, to: int, incoming: Tensor, source: int) -> Any:
        """Begin to send to one worker while receiving from another; straight from and into place, without a copy."""
        sizes, counts = [0] * self.workers, [0] * self.workers
        sizes[to], counts[source] = len(outgoing), len(incoming)
        return self._group.alltoall_base(incoming, outgoing, counts, sizes)


class _Memory:
    """A vector that is kept and grows; an exchange has vectors of one type, on one device."""

    def __init__(self) -> None:
        self._vector: Tensor | None = None

    def take(self, length: int, like: Tensor) -> Tensor:
        """The first `length` elements of it, with any values; `like` says of what type and on what device."""
        if self._vector is None or len(self._vector) < length:
            self._vector = like.new_empty(length)
        return self._vector[:length]


def _chunks(start: int, stop: int, workers: int) -> list[slice]:
    """One stretch of start..stop a worker, of equal size; the last ones may be shorter, or empty."""
    size = -(-(stop - start) // workers)
    return [slice(low, high) for low, high in pairwise(min(start + k * size, stop) for k in range(workers + 1))]


def _fold(parts: Iterable[Root], micro_batches: int) -> Tensor:
    """Add the parts up as the tree does, in place."""
    fold = Fold[Tensor](micro_batches, lambda left, right: left.add_(right))
    for span, value in parts:
        fold.push(span, value)
    return fold.total


def _fold_into(result: Tensor, parts: Sequence[Root], micro_batches: int) -> None:
    """The same, the last addition writing its sum into `result`."""
    additions = iter(range(len(parts) - 1, 0, -1))
    fold = Fold[Tensor](
        micro_batches, lambda left, right: torch.add(left, right, out=result if next(additions) == 1 else left)
    )
    for span, value in parts:
        fold.push(span, value)
    if len(parts) == 1:
        result.copy_(fold.total)
