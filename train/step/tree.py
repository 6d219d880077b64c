"""The reduction tree: one binary tree over a step's micro-batches, the same for every number of workers.

Its leaves are the micro-batches 0..M-1. A node covers an aligned block of leaves whose size is a power of two; where M
is not one, the tree is that over the next power of two without its missing leaves, and a node whose right child is
missing has its left child's value. Floating-point addition is not associative, so losses and gradients are only ever
added as this tree adds them; then the sum has the same bits however the leaves are shared out among workers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from operator import add
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Span(NamedTuple):
    """A node of the tree, by the block of leaves it covers: `size` is a power of two that divides `start`."""

    start: int
    size: int


def ranges(micro_batches: int, workers: int) -> list[range]:
    """The contiguous micro-batches of each worker, in rank order; their lengths differ by at most one.

    Raises ValueError when there are fewer micro-batches than workers.
    """
    if not 1 <= workers <= micro_batches:
        raise ValueError(f"{micro_batches} micro-batches cannot be shared among {workers} workers")
    bounds = [rank * micro_batches // workers for rank in range(workers + 1)]
    return [range(low, high) for low, high in pairwise(bounds)]


def roots(leaves: range, micro_batches: int) -> list[Span]:
    """The maximal subtrees that lie within `leaves`, in order: what a worker can sum on its own.

    There is one where the range is itself a block of the tree, as with powers of two, and never more than
    `most_roots(len(leaves))`.
    """
    fold = Fold[int](micro_batches, add)
    for leaf in leaves:
        fold.push(Span(leaf, 1), 1)
    return [span for span, _ in fold.parts]


def most_roots(leaves: int) -> int:
    """The bound on the subtrees that a contiguous range of that many leaves needs: below 2 log2(leaves + 2) - 1.

    Sizes rise and then fall along a range, each power of two at most once on either side, so r subtrees cover at least
    2^ceil(r/2) + 2^floor(r/2) - 2 leaves. A worker sends one buffer for each; with powers of two it is one.
    """
    count = 1
    while 2 ** ((count + 2) // 2) + 2 ** ((count + 1) // 2) - 2 <= leaves:
        count += 1
    return count


class Fold(Generic[T]):
    """Adds values up along the tree as they come, in ascending order, like the carries of a binary counter.

    `merge(left, right)` returns the value of their parent and may reuse either. At most log2(M) + 1 values are held.
    """

    def __init__(self, micro_batches: int, merge: Callable[[T, T], T]) -> None:
        self.micro_batches = micro_batches
        self.parts: list[tuple[Span, T]] = []
        self._merge = merge
        self._next: int | None = None

    def push(self, span: Span, value: T) -> None:
        """Add the value of `span`, which must begin where the one before it ended. Raises ValueError otherwise."""
        if self._next not in (None, span.start) or span.start >= self.micro_batches:
            raise ValueError(f"{span} does not follow micro-batch {self._next} of {self.micro_batches}")
        self._next = min(span.start + span.size, self.micro_batches)
        while span.size < self.micro_batches:
            if span.start % (2 * span.size) == 0:  # a left child
                if span.start + span.size < self.micro_batches:
                    break  # its right sibling is still to come
            elif self.parts and self.parts[-1][0] == (span.start - span.size, span.size):
                left, earlier = self.parts.pop()
                span, value = left, self._merge(earlier, value)
            else:
                break  # a right child whose left sibling is another worker's
            span = Span(span.start, 2 * span.size)
        self.parts.append((span, value))

    @property
    def total(self) -> T:
        """The value of the whole tree. Raises ValueError while leaves are missing."""
        if self._next != self.micro_batches or self.parts[0][0].start != 0:
            raise ValueError(f"the tree over {self.micro_batches} micro-batches is not complete")
        return self.parts[0][1]
