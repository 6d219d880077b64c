"""Each loss is recorded once, with the cause that the evidence shows, and what it cost when training goes on."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from typing import Any

import pytest
from helpers.commands import events_of
from helpers.launching import formed, hello, lost

from recorder.canonical import utc_text
from recorder.ledger.processes import start_ticks
from recorder.run import Run
from train.launch import losses as losses_module
from train.launch.losses import Losses
from train.launch.roster import Roster
from train.membership.notices import FirstCommit

NODE_DIED = {"alive": False, "death_reason": 2, "death_message": "missed too many heartbeats"}


class Clocks:
    """Both clocks of a machine that booted `BOOTED` seconds after 1970; they advance when they are told."""

    BOOTED = 1_000_000.0

    def __init__(self) -> None:
        self.now = 100.0
        self.set_back = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.BOOTED + self.now - self.set_back


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(losses_module, "time", clocks)
    return clocks


@pytest.fixture
def losses(run: Run, roster: Roster) -> Losses:
    return Losses(run, roster)


def recorded(run: Run) -> list[dict[str, Any]]:
    return [event["fields"] for event in events_of(run.path, "worker.lost")]


def causes(run: Run) -> list[tuple[str, str]]:
    return [(fields["worker"], fields["cause"]) for fields in recorded(run)]


def test_a_loss_says_who_when_and_why(run: Run, roster: Roster, losses: Losses, clocks: Clocks) -> None:
    losses.begin(lost("rank-1.2", membership=3, step=17, now=90.0, node="node-b"))
    losses.explain("rank-1.2", {"exit_signal": "SIGKILL", "worker_exit_type": "SYSTEM_ERROR", "message": "died"})
    for _ in range(2):
        losses.settle()
    assert recorded(run) == [
        {
            "rank": 1,
            "worker": "rank-1.2",
            "pid": 1012,
            "node": "node-b",
            "membership": 3,
            "last_step": 17,
            "cause": "signal SIGKILL",
            "evidence": {"exit_signal": "SIGKILL", "worker_exit_type": "SYSTEM_ERROR", "message": "died"},
            "last_heard": utc_text(Clocks.BOOTED + 89.75),
            "noticed": utc_text(Clocks.BOOTED + 90.0),
        }
    ]
    assert roster.lost == 1
    assert losses.knows("rank-1.2")
    assert not losses.knows("rank-1.1")


@pytest.mark.parametrize("doubtful", [{}, {"exit_code": 1}, {"worker_exit_type": "SYSTEM_ERROR", "message": "died"}])
def test_what_is_in_doubt_waits_for_the_word_on_its_node(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks, doubtful: dict[str, Any]
) -> None:
    """A worker whose node is gone looks for some seconds like one that ended by itself."""
    roster.watch_nodes({"node-b": {"alive": True, "address": "10.0.0.2"}})
    losses.begin(lost("rank-1.0", now=clocks.now, node="node-b"))
    losses.explain("rank-1.0", doubtful)
    clocks.now += 14
    losses.settle()
    assert recorded(run) == []
    roster.watch_nodes({"node-b": {"address": "10.0.0.2"} | NODE_DIED})
    losses.settle()
    (fields,) = recorded(run)
    assert (fields["cause"], fields["evidence"]) == ("node lost", doubtful | {"node": NODE_DIED})


@pytest.mark.parametrize(("evidence", "cause"), [({}, "unknown"), ({"exit_code": 3}, "exit code 3")])
def test_nothing_is_waited_for_for_ever(
    run: Run, losses: Losses, clocks: Clocks, evidence: dict[str, Any], cause: str
) -> None:
    losses.begin(lost("rank-1.0", now=clocks.now))
    losses.explain("rank-1.0", evidence)
    clocks.now += losses_module._EVIDENCE_SECONDS + 1
    losses.settle()
    assert causes(run) == [("rank-1.0", cause)]


def test_at_the_end_every_loss_is_recorded(run: Run, losses: Losses, clocks: Clocks) -> None:
    for worker in ("rank-0.0", "rank-1.0"):
        losses.begin(lost(worker, now=clocks.now))
    losses.explain("rank-1.0", {"exit_signal": "SIGSEGV"})
    losses.settle()
    losses.settle(at_once=True)
    assert causes(run) == [("rank-1.0", "signal SIGSEGV"), ("rank-0.0", "unknown")]


def test_what_ray_told_before_the_connection_ended_counts(run: Run, losses: Losses, clocks: Clocks) -> None:
    losses.explain("rank-1.0", {"actor": {"death_cause": "oom_context"}})
    losses.begin(lost("rank-1.0", now=clocks.now))
    losses.settle()
    assert causes(run) == [("rank-1.0", "out of memory")]


def test_evidence_is_kept_by_worker_not_by_rank(run: Run, losses: Losses, clocks: Clocks) -> None:
    for worker, signal_name in (("rank-1.0", "SIGKILL"), ("rank-1.1", "SIGSEGV")):
        losses.explain(worker, {"exit_signal": signal_name})
        losses.begin(lost(worker, now=clocks.now))
    losses.settle()
    assert causes(run) == [("rank-1.0", "signal SIGKILL"), ("rank-1.1", "signal SIGSEGV")]


def test_who_was_expelled_was_not_killed_by_somebody_else(run: Run, losses: Losses, clocks: Clocks) -> None:
    losses.expelled("rank-1.0", "hung")
    losses.explain("rank-1.0", {"exit_signal": "SIGKILL"})
    losses.begin(lost("rank-1.0", now=clocks.now))
    losses.settle()
    assert causes(run) == [("rank-1.0", "expelled: hung")]


def test_a_worker_that_never_came_was_in_no_membership(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks
) -> None:
    roster.last_step = 5
    losses.explain("rank-2.1", {"worker_exit_type": "USER_ERROR"})
    losses.begin_unconnected("rank-2.1", 2)
    losses.settle()
    (fields,) = recorded(run)
    known = {name: fields[name] for name in ("rank", "pid", "node", "membership", "last_step", "cause")}
    assert known == {"rank": 2, "pid": None, "node": None, "membership": None, "last_step": 5, "cause": "exception"}
    assert roster.lost == 1


def test_a_drain_that_was_announced_is_evidence_and_no_cause(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks
) -> None:
    roster.node_drains("node-b", 2.0)
    losses.begin(lost("rank-1.0", now=clocks.now, node="node-b"))
    losses.settle(at_once=True)
    (fields,) = recorded(run)
    assert fields["cause"] == "unknown"
    assert fields["evidence"] == {"draining": {"deadline": "1970-01-01T00:00:02.000000Z"}}


@pytest.mark.parametrize("host", [platform.node(), "another-host"])
def test_how_a_process_of_this_machine_ended_is_known(
    run: Run, losses: Losses, clocks: Clocks, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    said = {"pid": process.pid, "started": start_ticks(process.pid), "host": host}
    losses.watch(hello("rank-1.0", **said))
    losses.begin(lost("rank-1.0", now=clocks.now, **said))
    losses.settle()
    assert recorded(run) == []
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    losses.settle()
    losses.settle(at_once=True)
    process.wait()
    assert causes(run) == [("rank-1.0", "unknown" if host == "another-host" else "signal SIGKILL")]


def test_what_losses_cost_is_told_once_training_goes_on(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks
) -> None:
    roster.record_membership(formed(0, ["rank-0.0", "rank-1.0", "rank-2.0"]))
    losses.begin(lost("rank-1.0", now=100.0))
    losses.begin(lost("rank-2.0", now=100.5))
    losses.begin_unconnected("rank-1.1", 1)
    roster.record_membership(formed(1, ["rank-0.0"], 4, "worker lost"))
    clocks.now = 103.0
    losses.training_goes_on(FirstCommit(1, 5, 102.75))
    (fields,) = [event["fields"] for event in events_of(run.path, "training.resumed")]
    assert fields == {
        "membership": 1,
        "step": 5,
        "workers": ["rank-1.0", "rank-2.0"],
        "died": utc_text(Clocks.BOOTED + 99.75),
        "noticed": utc_text(Clocks.BOOTED + 100.0),
        "resumed": utc_text(Clocks.BOOTED + 102.75),
        "seconds": 3.0,
        "steps_redone": 0,
        "worker_seconds_lost": 9.0,
    }
    losses.training_goes_on(FirstCommit(2, 6, 103.0))
    assert len(events_of(run.path, "training.resumed")) == 1


def test_a_clock_that_is_set_back_changes_no_cost_and_no_patience(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks
) -> None:
    roster.record_membership(formed(0, ["rank-0.0", "rank-1.0"]))
    losses.begin(lost("rank-1.0", now=100.0))
    clocks.set_back = 3600.0
    clocks.now = 103.0
    losses.settle()
    assert recorded(run) == []
    losses.training_goes_on(FirstCommit(1, 5, 102.75))
    (fields,) = [event["fields"] for event in events_of(run.path, "training.resumed")]
    assert (fields["seconds"], fields["worker_seconds_lost"]) == (3.0, 6.0)
    assert fields["died"] == utc_text(Clocks.BOOTED + 99.75)
    assert fields["resumed"] == utc_text(Clocks.BOOTED + 102.75 - 3600)
    clocks.now += losses_module._EVIDENCE_SECONDS
    losses.settle()
    assert causes(run) == [("rank-1.0", "unknown")]


def test_steps_that_are_computed_again_are_part_of_the_cost(
    run: Run, roster: Roster, losses: Losses, clocks: Clocks
) -> None:
    run.observers.append(roster.observe)
    roster.record_membership(formed(0, ["rank-0.0"]))
    worker = run.worker()
    for step in (1, 2, 3):
        worker.step(step, loss=1.0, step_seconds=4.0)
    losses.begin(lost("rank-0.0", step=3, now=100.25))
    roster.goes_back_to(1)
    roster.record_membership(formed(1, ["rank-0.1"], 1, "worker lost", "memory"))
    losses.training_goes_on(FirstCommit(1, 2, 101.0))
    (fields,) = [event["fields"] for event in events_of(run.path, "training.resumed")]
    assert (fields["steps_redone"], fields["worker_seconds_lost"]) == (2, 1.0 + 2 * 4.0)


def test_a_change_without_a_loss_costs_nothing(run: Run, roster: Roster, losses: Losses, clocks: Clocks) -> None:
    roster.record_membership(formed(0, ["rank-0.0"]))
    losses.training_goes_on(FirstCommit(0, 1, 100.0))
    assert events_of(run.path, "training.resumed") == []
