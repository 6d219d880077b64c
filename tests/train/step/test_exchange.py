from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from train.step.accumulate import Root
from train.step.exchange import Exchange, SingleExchange, TreeExchange
from train.step.native import NativeExchange
from train.step.tree import Fold, Span, ranges

MOST_WORKERS = 5


def new_groups(size: int) -> list[Any]:
    """The members of a new gloo process group; each is to be used from a thread of its own."""
    store = dist.HashStore()
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(lambda rank: dist.ProcessGroupGloo(store, rank, size), range(size)))


@pytest.fixture(scope="module")
def groups() -> dict[int, list[Any]]:
    """Gloo process groups of 1 to 5 workers, each worker a thread of this process."""
    return {size: new_groups(size) for size in range(1, MOST_WORKERS + 1)}


def own_sums(leaves: list[torch.Tensor], mine: range) -> list[Root]:
    fold = Fold[torch.Tensor](len(leaves), lambda left, right: left + right)
    for leaf in mine:
        fold.push(Span(leaf, 1), leaves[leaf].clone())
    return fold.parts


def totals(exchanges: list[Exchange], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    shares = ranges(len(leaves), len(exchanges))

    def one(exchange: Exchange) -> torch.Tensor:
        return exchange.sum(own_sums(leaves, shares[exchange.rank]), len(leaves)).clone()

    with ThreadPoolExecutor(len(exchanges)) as threads:
        return list(threads.map(one, exchanges))


def random_leaves(count: int, length: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, length, generator=generator))


@settings(deadline=None, max_examples=100)
@given(
    data=st.data(),
    micro_batches=st.integers(1, 20),
    length=st.integers(1, 40),
    piece=st.integers(1, 50),
    seed=st.integers(0, 999),
)
def test_every_number_of_workers_gets_the_bits_of_one(
    groups: dict[int, list[Any]], data: st.DataObject, micro_batches: int, length: int, piece: int, seed: int
) -> None:
    workers = data.draw(st.integers(1, min(MOST_WORKERS, micro_batches)))
    leaves = random_leaves(micro_batches, length, seed)
    [alone] = totals([SingleExchange()], leaves)
    with mock.patch("train.step.exchange.PIECE", piece):
        found = totals([TreeExchange(group) for group in groups[workers]], leaves)
    assert [total.tolist() for total in found] == [alone.tolist()] * workers


@pytest.mark.parametrize("workers", [2, 4])
def test_megabytes_in_several_pieces(groups: dict[int, list[Any]], workers: int) -> None:
    leaves = random_leaves(workers, 1_000_003, 1)
    [alone] = totals([SingleExchange()], leaves)
    with mock.patch("train.step.exchange.PIECE", 300_000):
        found = totals([TreeExchange(group) for group in groups[workers]], leaves)
    assert all(torch.equal(total, alone) for total in found)


def test_an_exchange_can_be_used_again_for_vectors_of_any_length(groups: dict[int, list[Any]]) -> None:
    exchanges = [TreeExchange(group) for group in groups[3]]
    for seed, length in enumerate((11, 1, 30, 11)):
        leaves = random_leaves(7, length, seed)
        assert torch.equal(totals(exchanges, leaves)[0], totals([SingleExchange()], leaves)[0])


def test_an_exchange_keeps_its_memory(groups: dict[int, list[Any]]) -> None:
    leaves, shares = random_leaves(4, 100, 1), ranges(4, 2)

    def same_memory(group: Any) -> bool:
        exchange = TreeExchange(group)
        first, second = (exchange.sum(own_sums(leaves, shares[exchange.rank]), 4) for _ in range(2))
        return first.data_ptr() == second.data_ptr()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(same_memory, groups[2])) == [True, True]


@pytest.mark.parametrize("micro_batches", [3, 7])
def test_what_comes_from_others_never_lands_in_the_partial_sums(
    groups: dict[int, list[Any]], micro_batches: int
) -> None:
    """After a failure a late message may still be written; the step that is redone must not see it."""
    leaves, length = random_leaves(micro_batches, 9, 1), 9
    shares = ranges(micro_batches, 3)

    def unchanged(group: Any) -> bool:
        partial = own_sums(leaves, shares[group.rank()])
        before = [value.clone() for _, value in partial]
        total = TreeExchange(group).sum(partial, micro_batches)
        own = range(3 * group.rank(), 3 * group.rank() + 3)
        others = [place for place in range(length) if place not in own]
        memory = {value.untyped_storage().data_ptr() for _, value in partial}
        return total.untyped_storage().data_ptr() not in memory and all(
            torch.equal(value[others], earlier[others]) for (_, value), earlier in zip(partial, before, strict=True)
        )

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(unchanged, groups[3])) == [True, True, True]


def test_when_a_worker_is_gone_the_others_are_told_and_can_sum_without_it() -> None:
    leaves = random_leaves(6, 1000, 1)
    members = new_groups(3)
    members.pop()  # its connections are closed, as when its process is killed

    def fails(group: Any) -> str:
        with pytest.raises(RuntimeError) as caught:
            TreeExchange(group).sum(own_sums(leaves, ranges(6, 3)[group.rank()]), 6)
        return str(caught.value)

    with ThreadPoolExecutor(2) as threads:
        for message in threads.map(fails, members):
            assert "closed by peer" in message or "reset by peer" in message
    [alone] = totals([SingleExchange()], leaves)
    for total in totals([TreeExchange(group) for group in new_groups(2)], leaves):
        assert torch.equal(total, alone)


def test_native_gives_every_worker_one_sum_near_that_of_the_tree(groups: dict[int, list[Any]]) -> None:
    leaves = random_leaves(12, 500, 1)
    first, *others = totals([NativeExchange(group) for group in groups[4]], leaves)
    assert all(torch.equal(first, other) for other in others)
    [alone] = totals([SingleExchange()], leaves)
    torch.testing.assert_close(first, alone)


def test_one_worker_must_have_the_whole_tree() -> None:
    with pytest.raises(ValueError, match="not complete"):
        SingleExchange().sum([(Span(0, 2), torch.ones(3))], 4)


def test_native_sums_are_not_written_into_the_partial_ones() -> None:
    """What is left behind of an exchange that broke may still write into them, while the step is done again."""
    given: list[torch.Tensor] = []
    group = mock.Mock(rank=lambda: 0, size=lambda: 1, allreduce=lambda tensors: given.extend(tensors) or mock.Mock())
    partial = own_sums(random_leaves(3, 8, 0), range(3))
    before = [value.clone() for _, value in partial]
    exchange = NativeExchange(group)
    totals = [exchange.sum(partial, 3).clone() for _ in range(2)]
    assert torch.equal(*totals)
    assert all(torch.equal(value, kept) for (_, value), kept in zip(partial, before, strict=True))
    assert given[0].data_ptr() not in {value.data_ptr() for _, value in partial}
