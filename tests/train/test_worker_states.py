"""How a worker comes to the state of a membership where a snapshot or a transfer turns out to be broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.launching import formed, make_job

from recorder.checkpoint.memory import Snapshot
from recorder.errors import BundleError
from train import worker as worker_module
from train.membership.messages import Form
from train.membership.transfer import Received
from train.worker import Worker

OLD, NEW = Snapshot(10, "aa", Path("step-00000010")), Snapshot(20, "bb", Path("step-00000020"))


class Training:
    """As much of a training as has a state."""

    def __init__(self, broken: set[Path]) -> None:
        self._broken = broken
        self.step = 0
        self.exchange: Any = None

    def restore(self, folder: Path) -> str:
        self._is_broken = folder in self._broken
        self.step = int(folder.name[5:])
        return "recorded"

    def check_fingerprint(self, recorded: str) -> None:
        if self._is_broken:
            raise BundleError(f"the state of step {self.step} has fingerprint ff, recorded was {recorded}")


class Alone:
    """The other side of a worker's connection: it forms memberships of this one worker, as `forms` say."""

    def __init__(self, *forms: Form) -> None:
        self._forms = list(forms)
        self.offered: list[list[int]] = []

    def ready(self, position: Any, offers: list[int]) -> Form:
        assert position is None, "it has no state that can be trusted"
        self.offered.append(offers)
        return self._forms.pop(0)


class Anything:
    """Takes every call."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Recorder(Anything):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, type: str, **fields: Any) -> None:
        self.events.append((type, fields["message"]))


def make_worker(training: Training, member: Alone) -> Any:
    """A worker whose surroundings are made up; what it does with a membership is its own."""
    worker: Any = Worker.__new__(Worker)
    saver, loop = Anything(), Anything()
    saver.offers = lambda: {20: NEW, 10: OLD}  # type: ignore[method-assign]
    loop.run = lambda: "finished"  # type: ignore[method-assign]
    worker._job, worker._recorder, worker._member, worker._saver = make_job(0, 0), Recorder(), member, saver
    worker._training, worker._loop, worker._is_untouched, worker._joined = training, loop, True, True
    worker._offers, worker._rejected, worker._broken_transfers = {}, set(), 0
    worker._finish = lambda outcome: None
    return worker


def from_memory(step: int) -> Form:
    return formed(0, ["rank-0.0"], step, source="memory").form


def test_a_snapshot_that_gives_another_state_is_offered_no_more() -> None:
    training, member = Training({NEW.path}), Alone(from_memory(20), from_memory(10))
    worker = make_worker(training, member)
    worker.live()
    assert member.offered == [[10, 20], [10]]
    assert training.step == 10
    said = "the snapshot in node memory is not used: the state of step 20 has fingerprint ff, recorded was recorded"
    assert worker._recorder.events == [("exchange.failed", said)]


def test_a_state_that_came_broken_is_sent_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time in a row it is this worker that is broken."""
    whole = Received(8, 0.1, "aa")
    came: list[Received | None] = [None, whole, None, None]

    def receive(*_: Any) -> Received:
        if (state := came.pop(0)) is None:
            raise BundleError("the state of step 7 came with fingerprint ff, not aa")
        return state

    monkeypatch.setattr(worker_module, "receive_state", receive)
    worker = make_worker(Training(set()), Alone())
    for expected in (worker_module.MembershipOver, None, worker_module.MembershipOver, BundleError):
        if expected is None:
            assert worker._receive(None, 0) == whole
        else:
            with pytest.raises(expected, match="came with fingerprint ff, not aa"):
                worker._receive(None, 0)
