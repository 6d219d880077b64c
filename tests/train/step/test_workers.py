"""Real worker processes: the bits of a run do not depend on how many there are."""

from pathlib import Path
from typing import Any

import pytest
from tiny_training import TinyRun, batches, run_workers

from recorder.checkpoint.fingerprint import fingerprint
from train.step.evaluate import evaluate
from train.step.exchange import TreeExchange
from train.step.native import NativeExchange
from train.step.quorum import Alone, Subject

MICRO_BATCHES = (8, 6)


class Ballot(Alone):
    """A quorum that keeps the digests that it was to agree on."""

    def __init__(self) -> None:
        self.votes: list[str] = []

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        self.votes.append(f"{subject} {step} {digest}")


def digests(exchange: Any, micro_batches: int) -> list[str]:
    """The vote, loss, gradient and state of each step, then the evaluation."""
    run, ballot = TinyRun(exchange, micro_batches=micro_batches), Ballot()
    record = []
    for step in range(1, 4):
        result = run.step.run(step, quorum=ballot)
        record += ballot.votes[step - 1 :]
        record += [result.loss.hex(), result.grad_norm.hex(), result.gradient_digest, fingerprint(run.state())]
    for count in (1, micro_batches - 1):  # fewer than workers, and no power of two
        record.append(evaluate(run.forward, batches, run.exchange, step=3, micro_batches=count).hex())
    return record


def with_tree(group: Any) -> list[list[str]]:
    return [digests(TreeExchange(group), micro_batches) for micro_batches in MICRO_BATCHES]


def with_native(group: Any) -> list[list[str]]:
    return [digests(NativeExchange(group), micro_batches) for micro_batches in MICRO_BATCHES]


@pytest.fixture(scope="module")
def alone() -> list[list[str]]:
    return [digests(None, micro_batches) for micro_batches in MICRO_BATCHES]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_the_bits_are_those_of_one_worker(workers: int, alone: list[list[str]], tmp_path: Path) -> None:
    for worker in run_workers(with_tree, workers, tmp_path):
        assert worker == alone


def test_native_reduction_agrees_among_its_workers_and_nearly_with_the_tree(
    alone: list[list[str]], tmp_path: Path
) -> None:
    first, second, third = run_workers(with_native, 3, tmp_path)
    assert first == second == third
    for ours, theirs in zip(first, alone, strict=True):
        assert float.fromhex(ours[-1]) == pytest.approx(float.fromhex(theirs[-1]), rel=1e-3)
