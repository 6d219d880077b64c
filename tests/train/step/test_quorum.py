"""A step is applied once all have agreed about its sum, and leaves no trace when they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from tiny_training import TinyRun

from recorder.checkpoint.fingerprint import fingerprint
from train.step.accumulate import LOSS, STOP, Root
from train.step.exchange import SingleExchange
from train.step.quorum import Alone, Subject


class Dropped(Exception):
    """The membership ended."""


class Watching:
    """A quorum that notes what it is asked, and drops the step at the `fails`-th question (never for 0)."""

    def __init__(self, run: TinyRun, fails: int = 0) -> None:
        self._run = run
        self._fails = fails
        self.asked: list[str] = []
        self.votes: list[tuple[Subject, int, str]] = []
        self.states: set[str] = set()

    def check(self) -> None:
        self._ask("check")

    def arrive(self) -> None:
        self._ask("arrive")

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        self.votes.append((subject, step, digest))
        self._ask("agree")

    def _ask(self, question: str) -> None:
        self.asked.append(question)
        self.states.add(fingerprint(self._run.state()))
        if len(self.asked) == self._fails:
            raise Dropped


class Changed(SingleExchange):
    """An exchange that adds a little to one slot of the total."""

    def __init__(self, slot: int) -> None:
        self._slot = slot

    def sum(self, partial: Sequence[Root], micro_batches: int) -> torch.Tensor:
        total = super().sum(partial, micro_batches)
        total[self._slot] = math.nextafter(float(total[self._slot]), math.inf) + 1e-3
        return total


def vote(run: TinyRun, step: int = 1, stop_requested: bool = False) -> str:
    quorum = Watching(run)
    run.step.run(step, stop_requested=stop_requested, quorum=quorum)
    ((_, _, digest),) = quorum.votes
    return digest


def test_it_is_asked_between_micro_batches_before_the_exchange_and_about_the_sum() -> None:
    run = TinyRun()
    before = fingerprint(run.state())
    quorum = Watching(run)
    result = run.step.run(1, quorum=quorum)
    assert quorum.asked == ["check"] * 4 + ["arrive", "agree"]
    assert [(subject, step) for subject, step, _ in quorum.votes] == [("sum", 1)]
    assert quorum.states == {before}, "nothing may change before all have agreed"
    assert fingerprint(run.state()) != before
    assert result.gradient_digest in quorum.votes[0][2]


def test_the_bits_are_those_without_a_quorum() -> None:
    watched, alone, plain = TinyRun(), TinyRun(), TinyRun()
    for step in (1, 2):
        watched.step.run(step, quorum=Watching(watched))
        alone.step.run(step, quorum=Alone())
        plain.step.run(step)
    assert fingerprint(watched.state()) == fingerprint(alone.state()) == fingerprint(plain.state())


@pytest.mark.parametrize("fails", range(1, 7))
def test_wherever_the_step_is_dropped_it_can_be_taken_again(fails: int) -> None:
    undisturbed, run = TinyRun(), TinyRun()
    for step in (1, 2):
        undisturbed.step.run(step)
    run.step.run(1)
    state = fingerprint(run.state())
    for _ in range(2):
        with pytest.raises(Dropped):
            run.step.run(2, quorum=Watching(run, fails))
        assert fingerprint(run.state()) == state
        assert run.optimizer.updates == 1
    run.step.run(2)
    assert fingerprint(run.state()) == fingerprint(undisturbed.state())


def test_the_vote_is_about_every_number_that_is_applied_or_recorded() -> None:
    votes = {vote(TinyRun(Changed(slot))) for slot in (LOSS, STOP, 100)}
    assert len(votes | {vote(TinyRun())}) == 4
    assert vote(TinyRun()) == vote(TinyRun())
    assert vote(TinyRun(), stop_requested=True) != vote(TinyRun())


def test_sums_that_are_not_finite_can_be_agreed_on() -> None:
    class Poison(SingleExchange):
        def sum(self, partial: Sequence[Root], micro_batches: int) -> torch.Tensor:
            total = super().sum(partial, micro_batches)
            total[LOSS] = math.nan
            return total

    assert vote(TinyRun(Poison(), non_finite="skip")) == vote(TinyRun(Poison(), non_finite="skip"))
