"""The order of what a member does between steps: what is agreed on before it is recorded, and what is done again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from train.loop import TrainLoop
from train.membership.messages import Position, Stage
from train.step.quorum import Alone, Quorum, Subject

STEP, LOSS = 4, 2.5


class Dropped(Exception):
    """The membership ended."""


class Loop(Alone):
    """A loop that is about to evaluate; `did` is what it did, and a vote about `fails` drops the round."""

    save_wanted = False

    def __init__(self, is_leader: bool = True, fails: Subject | None = None, every: int = 3) -> None:
        self.did: list[Any] = []
        self.fails = fails
        train = SimpleNamespace(steps=10, eval_every=STEP, sample_tokens=0)
        config = SimpleNamespace(train=train, checkpoint=SimpleNamespace(every=every, memory_every=3))
        training: Any = SimpleNamespace(config=config, evaluate=self._evaluate)
        recorder: Any = SimpleNamespace(
            event=lambda type, **fields: self.did.append((type, fields["loss"])), accounted=nullcontext
        )
        saver: Any = SimpleNamespace(is_leader=is_leader, save=self._save, wait=self._wait)
        data: Any = None
        self.loop = TrainLoop(training, recorder, saver, data, self)

    def go_on(self) -> Position:
        """What follows the step, in a membership; where it gets to."""
        self.loop.position = Position(STEP, Stage.EVALUATION)
        self.loop._follow_up()
        return self.loop.position

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        self.did.append((subject, step, digest))
        if subject == self.fails:
            raise Dropped

    def after_commit(self) -> None:
        self.did.append("after commit")

    def busy(self) -> None:
        self.did.append("busy")

    def _save(self, training: Any, meanwhile: Callable[[], object]) -> None:
        meanwhile()
        self.did.append("save")

    def _wait(self, meanwhile: Callable[[], object]) -> None:
        meanwhile()

    def _evaluate(self, quorum: Quorum) -> float:
        assert quorum is self
        self.did.append("evaluate")
        return LOSS


AGREED, RECORDED = ("evaluation", STEP, LOSS.hex()), ("recorded", STEP, "")


def test_an_evaluation_is_recorded_by_the_leader_once_it_is_agreed_on() -> None:
    loop = Loop()
    assert loop.go_on() == Position(STEP, Stage.SETTLED)
    assert loop.did == ["evaluate", AGREED, ("evaluated", LOSS), RECORDED, "after commit"]


def test_others_wait_until_it_is_recorded() -> None:
    loop = Loop(is_leader=False)
    assert loop.go_on() == Position(STEP, Stage.SETTLED)
    assert loop.did == ["evaluate", AGREED, RECORDED, "after commit"]


def test_what_is_not_agreed_on_is_not_recorded() -> None:
    loop = Loop(fails="evaluation")
    with pytest.raises(Dropped):
        loop.go_on()
    assert loop.did == ["evaluate", AGREED]
    assert loop.loop.position.stage == Stage.EVALUATION


def test_a_leader_that_evaluates_again_does_not_record_it_again() -> None:
    loop = Loop(fails="recorded")
    with pytest.raises(Dropped):
        loop.go_on()
    assert loop.loop.position.stage == Stage.EVALUATION, "who has the lead now cannot know that it is recorded"
    loop.fails = None
    assert loop.go_on() == Position(STEP, Stage.SETTLED)
    assert loop.did.count(("evaluated", LOSS)) == 1


def test_who_waits_for_a_checkpoint_tells_the_others_that_it_is_busy() -> None:
    loop = Loop(every=STEP)
    loop.loop.position = Position(STEP, Stage.SAVE)
    loop.loop._follow_up()
    assert loop.did == ["busy", "save"]


def test_the_last_checkpoint_is_waited_for_in_the_same_way() -> None:
    loop = Loop()
    loop.loop.position = Position(STEP, Stage.SETTLED, stopping=True)
    assert loop.loop.run() == "interrupted"
    assert loop.did == ["busy", "busy", "save", "busy", ("end", STEP, "interrupted")]
