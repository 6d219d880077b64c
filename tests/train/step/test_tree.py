from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.step.tree import Fold, Span, most_roots, ranges, roots


@st.composite
def shares(draw: st.DrawFn) -> tuple[int, int]:
    micro_batches = draw(st.integers(1, 300))
    return micro_batches, draw(st.integers(1, micro_batches))


def expression(micro_batches: int, start: int = 0, size: int = 512) -> Any:
    """The tree as defined, from the top: written independently of the code under test."""
    if start >= micro_batches:
        return None
    if size == 1:
        return start
    left = expression(micro_batches, start, size // 2)
    right = expression(micro_batches, start + size // 2, size // 2)
    return left if right is None else (left, right)


def pair(left: Any, right: Any) -> Any:
    return left, right


@settings(deadline=None)
@given(shares())
def test_any_number_of_workers_computes_one_expression(share: tuple[int, int]) -> None:
    micro_batches, workers = share
    total = Fold[Any](micro_batches, pair)
    for leaves in ranges(micro_batches, workers):
        own = Fold[Any](micro_batches, pair)
        for leaf in leaves:
            own.push(Span(leaf, 1), leaf)
        assert [span for span, _ in own.parts] == roots(leaves, micro_batches)
        for span, value in own.parts:
            total.push(span, value)
    assert total.total == expression(micro_batches)


@settings(deadline=None)
@given(shares())
def test_every_micro_batch_has_one_worker_and_loads_differ_by_one(share: tuple[int, int]) -> None:
    micro_batches, workers = share
    shared = ranges(micro_batches, workers)
    assert [leaf for leaves in shared for leaf in leaves] == list(range(micro_batches))
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


@settings(deadline=None)
@given(st.data(), st.integers(1, 300))
def test_roots_are_aligned_cover_the_range_and_keep_their_bound(data: st.DataObject, micro_batches: int) -> None:
    start = data.draw(st.integers(0, micro_batches - 1))
    leaves = range(start, data.draw(st.integers(start + 1, micro_batches)))
    spans = roots(leaves, micro_batches)
    covered = [leaf for low, size in spans for leaf in range(low, min(low + size, micro_batches))]
    assert covered == list(leaves)
    assert all(size & (size - 1) == 0 and low % size == 0 for low, size in spans)
    assert len(spans) <= most_roots(len(leaves))


@pytest.mark.parametrize(
    ("leaves", "micro_batches", "count"),
    [(range(8), 8, 1), (range(6), 6, 1), (range(4, 8), 8, 1), (range(1, 3), 8, 2), (range(3, 9), 16, 3)],
)
def test_number_of_roots(leaves: range, micro_batches: int, count: int) -> None:
    assert len(roots(leaves, micro_batches)) == count


@given(st.integers(1, 20), st.integers(0, 5))
def test_a_power_of_two_of_micro_batches_each_is_one_root(workers: int, exponent: int) -> None:
    micro_batches = workers * 2**exponent
    assert all(len(roots(leaves, micro_batches)) == 1 for leaves in ranges(micro_batches, workers))


def test_the_bound_is_reached() -> None:
    assert len(roots(range(1, 7), 8)) == most_roots(6) == 4
    assert len(roots(range(1, 15), 16)) == most_roots(14) == 6


@given(st.integers(1, 300))
def test_few_values_are_held_at_a_time(micro_batches: int) -> None:
    fold = Fold[int](micro_batches, lambda left, right: left + right)
    for leaf in range(micro_batches):
        fold.push(Span(leaf, 1), 1)
        assert len(fold.parts) <= micro_batches.bit_length()
    assert fold.total == micro_batches


def test_gaps_overlaps_and_missing_leaves_are_refused() -> None:
    fold = Fold[int](4, lambda left, right: left + right)
    fold.push(Span(0, 2), 1)
    for span in (Span(3, 1), Span(1, 1), Span(4, 1)):
        with pytest.raises(ValueError, match="does not follow micro-batch 2 of 4"):
            fold.push(span, 1)
    with pytest.raises(ValueError, match="not complete"):
        _ = fold.total
    fold.push(Span(2, 2), 1)
    assert fold.total == 2


def test_a_tree_without_its_beginning_is_not_complete() -> None:
    fold = Fold[int](4, lambda left, right: left + right)
    fold.push(Span(2, 2), 1)
    with pytest.raises(ValueError, match="not complete"):
        _ = fold.total


def test_more_workers_than_micro_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="3 micro-batches cannot be shared among 4 workers"):
        ranges(3, 4)
