from concurrent.futures import ThreadPoolExecutor
from typing import Any

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


@pytest.fixture(scope="module")
def groups() -> dict[int, list[Any]]:
    """Gloo process groups of 1 to 5 workers, each worker a thread of this process."""

    def join(store: Any, rank: int, size: int) -> Any:
        return dist.ProcessGroupGloo(store, rank, size)

    made = {}
    with ThreadPoolExecutor(MOST_WORKERS) as threads:
        for size in range(1, MOST_WORKERS + 1):
            store = dist.HashStore()
            made[size] = list(threads.map(lambda rank, s=store, n=size: join(s, rank, n), range(size)))
    return made


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


@settings(deadline=None, max_examples=60)
@given(data=st.data(), micro_batches=st.integers(1, 20), length=st.integers(1, 40), seed=st.integers(0, 999))
def test_every_number_of_workers_gets_the_bits_of_one(
    groups: dict[int, list[Any]], data: st.DataObject, micro_batches: int, length: int, seed: int
) -> None:
    workers = data.draw(st.integers(1, min(MOST_WORKERS, micro_batches)))
    leaves = random_leaves(micro_batches, length, seed)
    [alone] = totals([SingleExchange()], leaves)
    for total in totals([TreeExchange(group) for group in groups[workers]], leaves):
        assert torch.equal(total, alone)


def test_an_exchange_can_be_used_again(groups: dict[int, list[Any]]) -> None:
    exchanges = [TreeExchange(group) for group in groups[3]]
    for seed in range(3):
        leaves = random_leaves(7, 11, seed)
        assert torch.equal(totals(exchanges, leaves)[0], totals([SingleExchange()], leaves)[0])


def test_native_gives_every_worker_one_sum_near_that_of_the_tree(groups: dict[int, list[Any]]) -> None:
    leaves = random_leaves(12, 500, 1)
    first, *others = totals([NativeExchange(group) for group in groups[4]], leaves)
    assert all(torch.equal(first, other) for other in others)
    [alone] = totals([SingleExchange()], leaves)
    torch.testing.assert_close(first, alone)


def test_one_worker_must_have_the_whole_tree() -> None:
    with pytest.raises(ValueError, match="not complete"):
        SingleExchange().sum([(Span(0, 2), torch.ones(3))], 4)
