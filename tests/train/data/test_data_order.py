import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from train.data.order import DataOrder
from train.data.permutation import permuted

SEEDS = st.integers(0, 2**63 - 1)


@given(count=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_has_every_sequence_once(count, seed, epoch):
    order = permuted(np.arange(count), count, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(count))


@given(count=st.integers(2, 3000), seed=SEEDS, data=st.data())
def test_a_place_does_not_depend_on_which_others_are_asked_for(count, seed, data):
    places = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), np.int64)
    assert np.array_equal(permuted(places, count, seed, 3), permuted(np.arange(count), count, seed, 3)[places])


def test_a_huge_epoch_costs_no_memory():
    count = 10**15
    order = permuted(np.arange(count - 10_000, count), count, 1, 0)
    assert len(np.unique(order)) == 10_000
    assert 0 <= order.min() < 0.01 * count
    assert 0.99 * count < order.max() < count


def test_the_order_is_the_same_for_ever():
    assert permuted(np.arange(8), 8, 1, 0).tolist() == [1, 5, 0, 2, 3, 4, 7, 6]
    assert permuted(np.arange(5), 1000, 42, 7).tolist() == [864, 454, 98, 659, 369]
    assert DataOrder(1, 1000, 8, 4).digest(12) == "5c32dd7051c38744a3e6cefef2a005e1"


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [permuted(np.arange(1000), 1000, seed, epoch) for seed in range(4) for epoch in range(4)]
    for number, one in enumerate(orders):
        for other in orders[:number]:
            assert np.count_nonzero(one == other) < 20


def test_every_place_is_equally_likely_to_come_first():
    firsts = np.bincount([permuted(np.zeros(1, np.int64), 10, seed, 0)[0] for seed in range(2000)], minlength=10)
    assert ((firsts > 140) & (firsts < 260)).all()


def test_a_run_reads_epoch_after_epoch_also_across_a_micro_batch():
    order = DataOrder(seed=3, sequences=10, micro_batches=3, micro_batch_size=4)
    read = np.concatenate([order.sequences_of(step, part) for step in range(5) for part in range(3)])
    epochs = [permuted(np.arange(10), 10, 3, epoch) for epoch in range(6)]
    assert np.array_equal(read, np.concatenate(epochs))


def test_samples_do_not_depend_on_how_a_step_is_cut():
    one = DataOrder(5, 1000, micro_batches=8, micro_batch_size=2)
    other = DataOrder(5, 1000, micro_batches=2, micro_batch_size=8)
    assert np.array_equal(
        np.concatenate([one.sequences_of(4, part) for part in range(8)]),
        np.concatenate([other.sequences_of(4, part) for part in range(2)]),
    )
    assert one.digest(4) == other.digest(4) != one.digest(5)


def test_the_digest_is_over_the_sequence_numbers_as_little_endian_integers():
    order = DataOrder(5, 100, 3, 2)
    numbers = [number for part in range(3) for number in order.sequences_of(7, part).tolist()]
    assert order.digest(7) == blake3(b"".join(n.to_bytes(8, "little") for n in numbers)).hexdigest()[:32]


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="sequences=0 must be at least 1"):
        DataOrder(1, 0, 1, 1)
    order = DataOrder(1, 10, 2, 1)
    for step, micro_batch in ((-1, 0), (0, 2), (0, -1)):
        with pytest.raises(ValueError, match="there are 2 in a step"):
            order.sequences_of(step, micro_batch)
