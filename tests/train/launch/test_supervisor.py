"""What the driver does about everything that it is told. The notices are made up; the run and its ledger are real."""

from __future__ import annotations

import io
import platform
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import events_of
from helpers.launching import NotingCoordinator, NotingLauncher, formed, hello, lost, make_job

from recorder.errors import RecordingError
from recorder.ledger.processes import start_ticks
from recorder.run import Run
from recorder.scale_request import ScaleRequest
from train.config import ClusterConfig, Config
from train.launch import workforce
from train.launch.launcher import (
    ClusterLost,
    ClusterReady,
    ClusterRefused,
    NodesChanged,
    NodesDraining,
    ProcessEnded,
    ProcessStarted,
)
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.sources import Sources
from train.launch.supervisor import Supervisor
from train.membership import notices
from train.membership.messages import Source
from train.origin import Origin

ALL = ["rank-0.0", "rank-1.0", "rank-2.0"]
UP = {"alive": True, "address": "10.0.0.1", "death_reason": 0, "death_message": ""}


# What is waited for in vain is found out sooner than elsewhere.
pytestmark = pytest.mark.timeout(60)


def ended(*workers: str, outcome: str = "finished") -> list[Any]:
    """The workers agree on the end, and end."""
    return [notices.EndAgreed(outcome), *(notices.WorkerEnded(worker, outcome) for worker in workers)]


ENDED = ended(*ALL)


class Signals:
    """Signals that were received before the run began."""

    def __init__(self, *received: signal.Signals) -> None:
        self.received = list(received)


class Driver:
    """A supervisor with a launcher and a coordinator that note what they are told."""

    def __init__(self, run: Run, config: Config, roster: Roster, **cluster: Any) -> None:
        run.observers.append(roster.observe)
        self.run = run
        self.launcher = NotingLauncher()
        self.coordinator = NotingCoordinator()
        self.roster = roster
        self.said: list[str] = []
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        display = ProgressDisplay(io.StringIO(), 100)
        display.say = lambda text, style="": self.said.append(text)  # type: ignore[method-assign]
        self.supervisor = Supervisor(
            run,
            ClusterConfig(**config.cluster.model_dump() | cluster),
            self.launcher,
            self.coordinator,  # type: ignore[arg-type]
            self._inbox,
            make_job,
            Sources(run, Origin({}), self.said.append),
            roster,
            display,
        )

    def hears(self, *items: Any, signals: Signals | None = None, room: int = 3) -> str:
        """The outcome, when it is told this after it has started its workers."""
        self.tell(*items)
        return self.supervisor.run_to_end(signals or Signals(), room)  # type: ignore[arg-type]

    def tell(self, *items: Any) -> None:
        for item in items:
            self._inbox.put(item)

    def fields(self, type: str) -> list[dict[str, Any]]:
        return [event["fields"] for event in events_of(self.run.path, type)]


class Later(Signals):
    """No signals; the driver is told these items when it has dealt with those before."""

    def __init__(self, driver: Driver, items: list[Any]) -> None:
        self._looks = 0
        self._driver = driver
        self._items = items

    @property
    def received(self) -> list[signal.Signals]:  # type: ignore[override]
        self._looks += 1
        if self._looks == 3:
            self._driver.tell(*self._items)
        return []


@pytest.fixture
def driver(run: Run, config: Config, roster: Roster) -> Driver:
    return Driver(run, config, roster)


def connected(*workers: str, **changes: Any) -> list[notices.WorkerConnected]:
    return [notices.WorkerConnected(hello(worker, **changes)) for worker in workers]


def joined(membership: int = 0, workers: list[str] = ALL, step: int = 0, reason: str = "start") -> list[Any]:
    """A membership is formed and commits a step."""
    return [formed(membership, workers, step, reason), notices.FirstCommit(membership, step + 1, 0.0)]


def test_a_run_from_its_start_to_its_end(driver: Driver) -> None:
    needs = notices.NeedSource({worker: [] for worker in ALL}, None, "start")
    assert driver.hears(*connected(*ALL), needs, *joined(), *ENDED) == "finished"
    assert driver.launcher.started == ALL
    assert driver.launcher.killed == []
    assert driver.coordinator.told == [("expect", 3), ("begin_from", Source("start", 0))]
    assert [changed["membership"] for changed in driver.fields("membership.changed")] == [0]
    assert driver.fields("worker.lost") == driver.fields("training.resumed") == []


@pytest.mark.parametrize(("room", "least", "expected"), [(9, 1, 3), (2, 1, 2), (1, 2, 2)])
def test_a_run_waits_for_as_many_as_there_is_room_for(
    run: Run, config: Config, roster: Roster, room: int, least: int, expected: int
) -> None:
    driver = Driver(run, config, roster, min_workers=least)
    driver.hears(*connected(*ALL), *joined(), *ENDED, room=room)
    assert driver.launcher.started == ALL, "who has no room now comes when there is some"
    assert driver.coordinator.told[0] == ("expect", expected)


def test_a_lost_worker_is_recorded_and_replaced(driver: Driver) -> None:
    driver.hears(
        *connected(*ALL),
        *joined(),
        ProcessEnded("rank-1.0", died=True, evidence={"exit_signal": "SIGKILL"}),
        lost("rank-1.0", step=17),
        *connected("rank-1.1"),
        *joined(1, ["rank-0.0", "rank-2.0"], 17, "worker lost"),
        *ENDED,
    )
    assert driver.launcher.started == [*ALL, "rank-1.1"]
    (fields,) = driver.fields("worker.lost")
    assert (fields["worker"], fields["last_step"], fields["cause"]) == ("rank-1.0", 17, "signal SIGKILL")
    assert [resumed["workers"] for resumed in driver.fields("training.resumed")] == [["rank-1.0"]]


def test_a_worker_that_dies_before_it_is_connected_is_lost_and_replaced(driver: Driver) -> None:
    died = ProcessEnded("rank-1.0", died=True, evidence={"worker_exit_type": "NODE_OUT_OF_MEMORY"})
    driver.hears(*connected("rank-0.0", "rank-2.0"), died, died, *joined(0, ["rank-0.0", "rank-2.0"]), *ENDED)
    assert driver.launcher.started == [*ALL, "rank-1.1"]
    (fields,) = driver.fields("worker.lost")
    assert (fields["worker"], fields["membership"], fields["cause"]) == ("rank-1.0", None, "out of memory")


def test_a_worker_that_hangs_before_it_is_connected_is_lost_and_replaced(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for room is not late, nor is one that has connected."""
    monkeypatch.setattr(workforce, "START_SECONDS", -1.0)
    driver.tell(*connected("rank-0.0"), ProcessStarted("rank-0.0"), ProcessStarted("rank-1.0"))
    died = ProcessEnded("rank-1.0", died=True)
    then = [*connected("rank-1.1"), died, *joined(0, ["rank-0.0", "rank-1.1"]), *ended("rank-0.0", "rank-1.1")]
    assert driver.hears(signals=Later(driver, then)) == "finished"
    assert driver.launcher.started == [*ALL, "rank-1.1"]
    assert driver.launcher.killed == ["rank-1.0"]
    assert [(fields["worker"], fields["cause"]) for fields in driver.fields("worker.lost")] == [
        ("rank-1.0", "expelled: hung")
    ]


def test_whichever_tells_of_a_death_first_it_is_one_loss(driver: Driver) -> None:
    first = [lost("rank-0.0"), ProcessEnded("rank-0.0", died=True, evidence={"exit_code": 3})]
    second = [ProcessEnded("rank-1.0", died=True, evidence={"exit_code": 4}), lost("rank-1.0")]
    driver.hears(*connected(*ALL), *joined(), *first, *second, *joined(1, ["rank-2.0"], 1, "worker lost"), *ENDED)
    assert [(fields["worker"], fields["cause"]) for fields in driver.fields("worker.lost")] == [
        ("rank-0.0", "exit code 3"),
        ("rank-1.0", "exit code 4"),
    ]
    assert driver.launcher.started == [*ALL, "rank-0.1", "rank-1.1"]


def test_a_death_that_the_launcher_knows_of_ends_the_connection(driver: Driver) -> None:
    died = ProcessEnded("rank-1.0", died=True, evidence={"worker_exit_type": "SYSTEM_ERROR"})
    driver.hears(*connected(*ALL), *joined(), died, lost("rank-1.0"), *ENDED)
    assert ("died", "rank-1.0") in driver.coordinator.told
    assert [fields["worker"] for fields in driver.fields("worker.lost")] == ["rank-1.0"]


def test_a_worker_that_dies_as_it_connects_is_one_loss(driver: Driver) -> None:
    """The launcher tells of the death before the coordinator's notice that the worker was there is dealt with."""
    died = ProcessEnded("rank-1.0", died=True, evidence={"exit_code": 3})
    script = [*connected("rank-0.0", "rank-2.0"), died, *connected("rank-1.0"), lost("rank-1.0", membership=None)]
    driver.hears(*script, *joined(0, ["rank-0.0", "rank-2.0"]), *ENDED)
    assert [fields["cause"] for fields in driver.fields("worker.lost")] == ["exit code 3"]
    assert driver.launcher.started == [*ALL, "rank-1.1"]


def test_a_rank_that_is_lost_again_and_again_is_given_up_while_others_train(
    run: Run, config: Config, roster: Roster
) -> None:
    driver = Driver(run, config, roster, restarts=1)
    driver.hears(*connected(*ALL), *joined(), lost("rank-1.0"), *connected("rank-1.1"), lost("rank-1.1"), *ENDED)
    assert driver.launcher.started == [*ALL, "rank-1.1"]
    assert "rank 1 is not replaced any more (cluster.restarts=1)" in driver.said
    assert [fields["worker"] for fields in driver.fields("worker.lost")] == ["rank-1.0", "rank-1.1"]


def test_who_has_taken_part_in_a_step_may_be_replaced_again(run: Run, config: Config, roster: Roster) -> None:
    driver = Driver(run, config, roster, restarts=1)
    script: list[Any] = [*connected(*ALL), *joined()]
    for number in range(4):
        members = ["rank-0.0", f"rank-1.{number + 1}", "rank-2.0"]
        script += [
            lost(f"rank-1.{number}"),
            *connected(members[1]),
            *joined(number + 1, members, number, "worker lost"),
        ]
    driver.hears(*script, *ended("rank-0.0", "rank-1.4", "rank-2.0"))
    assert driver.launcher.started == [*ALL, "rank-1.1", "rank-1.2", "rank-1.3", "rank-1.4"]


def test_when_nobody_can_be_started_the_run_fails_and_says_what_to_do(run: Run, config: Config, roster: Roster) -> None:
    driver = Driver(run, config, roster, restarts=1, workers=1)
    assert driver.hears(*(ProcessEnded(f"rank-0.{number}", died=True) for number in range(2))) == "failed"
    (failure,) = driver.fields("exception")
    assert failure["kind"] == "WorkersLost"
    assert "lost 2 times in a row before a step was committed; raise cluster.restarts" in failure["message"]
    assert len(driver.fields("worker.lost")) == 2


def test_who_was_expelled_is_killed_through_the_launcher(driver: Driver) -> None:
    expelled = notices.WorkerExpelled(hello("rank-2.0"), 0, "hung", {"waited_seconds": 61.0, "step": 5})
    driver.hears(*connected(*ALL), *joined(), expelled, lost("rank-2.0"), *ENDED)
    assert driver.launcher.killed == ["rank-2.0"]
    (fields,) = driver.fields("worker.expelled")
    assert (fields["worker"], fields["pid"], fields["reason"]) == ("rank-2.0", 1020, "hung")
    assert fields["evidence"] == {"waited_seconds": 61.0, "step": 5}
    assert [fields["cause"] for fields in driver.fields("worker.lost")] == ["expelled: hung"]


def test_who_lost_its_connection_has_time_to_end_by_itself(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killing a process through Ray would hide what it died of."""
    driver.hears(*connected(*ALL), *joined(), lost("rank-1.0"), lost("rank-2.0"), *ENDED)
    assert driver.launcher.killed == []
    monkeypatch.setattr(workforce.time, "monotonic", lambda: float("inf"))
    driver.supervisor._workforce.has_ended("rank-1.0")
    driver.supervisor._workforce.kill_remaining()
    assert driver.launcher.killed == ["rank-2.0"]


@pytest.mark.parametrize("how", ["lost", "expelled"])
def test_a_worker_of_this_machine_is_dead_before_anything_goes_on(driver: Driver, how: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    said = {"host": platform.node(), "pid": process.pid, "started": start_ticks(process.pid)}
    told: list[Any] = [lost("rank-1.0", **said)]
    if how == "expelled":
        told.insert(0, notices.WorkerExpelled(hello("rank-1.0", **said), 0, "silent", {}))
    driver.hears(*connected("rank-0.0", "rank-2.0"), *connected("rank-1.0", **said), *joined(), *told, *ENDED)
    assert process.wait(60) == -signal.SIGKILL


def test_who_is_drained_leaves_and_is_replaced_beforehand(driver: Driver) -> None:
    workers = [*connected("rank-0.0", "rank-1.0"), *connected("rank-2.0", node="node-b")]
    draining = NodesDraining({"node-b": 9.5})
    left = notices.WorkerLeft(hello("rank-2.0", node="node-b"), 17, "its node is drained")
    driver.hears(*workers, *joined(), draining, draining, left, notices.WorkerEnded("rank-2.0", "left"), *ENDED)
    assert driver.launcher.started == [*ALL, "rank-2.1"]
    let_go = [told for told in driver.coordinator.told if told[0] == "let_go"]
    assert set(let_go) == {("let_go", "rank-2.0", "its node is drained")}
    assert ("save_soon",) not in driver.coordinator.told
    (node,) = driver.fields("node.draining")
    assert (node["node"], node["deadline"]) == ("node-b", "1970-01-01T00:00:09.500000Z")
    (drained,) = driver.fields("worker.drained")
    assert (drained["worker"], drained["step"]) == ("rank-2.0", 17)
    assert driver.fields("worker.lost") == []


def test_where_everyone_is_drained_a_checkpoint_is_asked_for(driver: Driver) -> None:
    driver.hears(*connected(*ALL), *joined(), NodesDraining({"node-a": None}), *ENDED)
    assert ("save_soon",) in driver.coordinator.told


def recorded_steps(run: Run, worker: str, membership: int, steps: range, workers: int) -> None:
    rank = hello(worker).rank
    recorder = run.worker(worker.partition(".")[0], int(worker.partition(".")[2]), rank, workers)
    recorder.enter(membership, workers)
    for step in steps:
        recorder.step(step, loss=1.0)
    recorder.close()


def ranks_of_rows(run: Run) -> dict[int, list[int]]:
    from recorder.bundle.rows import read_rows

    return {row["step"]: row["worker_rank"] for row in read_rows(run.path, "metrics")}


def test_rows_wait_for_who_still_leaves(driver: Driver) -> None:
    """The one that leaves may still be writing its part of the last step that it took."""
    recorded_steps(driver.run, "rank-0.0", 0, range(1, 3), 2)
    seen: list[dict[int, list[int]]] = []

    def look(notice: notices.Waiting) -> None:
        driver.run.drain()
        seen.append(ranks_of_rows(driver.run))

    driver.supervisor._handle[notices.Waiting] = look
    left = notices.WorkerLeft(hello("rank-1.0"), 2, "scaled down")
    driver.hears(
        *connected("rank-0.0", "rank-1.0"),
        *joined(0, ["rank-0.0", "rank-1.0"]),
        left,
        *joined(1, ["rank-0.0"], 2, "worker left"),
        notices.Waiting(1, 1),
        notices.WorkerEnded("rank-1.0", "asked to leave"),
        notices.Waiting(1, 1),
        *ENDED,
    )
    assert seen == [{}, {1: [0], 2: [0]}]


def test_who_dies_while_it_leaves_is_not_waited_for(driver: Driver) -> None:
    recorded_steps(driver.run, "rank-0.0", 0, range(1, 2), 2)
    left = notices.WorkerLeft(hello("rank-1.0"), 1, "its node is drained")
    driver.hears(
        *connected("rank-0.0", "rank-1.0"),
        *joined(0, ["rank-0.0", "rank-1.0"]),
        left,
        *joined(1, ["rank-0.0"], 1, "worker left"),
        ProcessEnded("rank-1.0", died=True, evidence={"exit_signal": "SIGKILL"}),
        *ENDED,
    )
    assert ranks_of_rows(driver.run) == {1: [0]}
    assert driver.fields("worker.lost") == []
    assert len(driver.fields("worker.drained")) == 1


def test_rows_of_a_lost_membership_are_completed_when_the_next_has_committed(driver: Driver) -> None:
    recorded_steps(driver.run, "rank-0.0", 0, range(1, 3), 3)
    going_on = [lost("rank-1.0"), *joined(1, ["rank-0.0", "rank-2.0"], 2, "worker lost")]
    driver.hears(*connected(*ALL), *joined(), *going_on, *ENDED)
    assert ranks_of_rows(driver.run) == {1: [0], 2: [0]}


def test_the_end_waits_for_those_who_agreed_on_it_and_for_nobody_else(driver: Driver) -> None:
    """A replacement is on its way, and one of the members dies after it has agreed."""
    script = [lost("rank-2.0"), *joined(1, ["rank-0.0", "rank-1.0"], 5, "worker lost"), notices.EndAgreed("finished")]
    script += [notices.WorkerEnded("rank-0.0", "finished"), lost("rank-1.0")]
    assert driver.hears(*connected(*ALL), *joined(), *script) == "finished"
    assert driver.launcher.started == [*ALL, "rank-2.1"], "nobody is started once the end is agreed on"
    assert [fields["worker"] for fields in driver.fields("worker.lost")] == ["rank-2.0", "rank-1.0"]


def test_an_end_that_was_asked_for_is_no_finish(driver: Driver) -> None:
    assert driver.hears(*connected(*ALL), *joined(), *ended(*ALL, outcome="interrupted")) == "interrupted"


def test_a_signal_before_anybody_trains_ends_at_once(driver: Driver) -> None:
    assert driver.hears(signals=Signals(signal.SIGINT)) == "interrupted"
    assert [fields["signal"] for fields in driver.fields("signal")] == ["SIGINT"]


class Late(Signals):
    """Signals that come when the driver looks for the `looks`-th time."""

    def __init__(self, looks: int, *received: signal.Signals) -> None:
        self._looks = looks
        self._received = list(received)

    @property
    def received(self) -> list[signal.Signals]:  # type: ignore[override]
        self._looks -= 1
        return self._received if self._looks < 0 else []


def test_a_first_signal_asks_the_workers_and_a_second_one_does_not_wait(driver: Driver) -> None:
    worker = driver.run.worker()
    both = Late(1, signal.SIGTERM, signal.SIGTERM)
    assert driver.hears(*connected(*ALL), *joined(), signals=both) == "interrupted"
    assert worker.mailbox.stop_requested()
    assert [fields["signal"] for fields in driver.fields("signal")] == ["SIGTERM", "SIGTERM"]


def test_a_cluster_that_is_lost_is_begun_again(driver: Driver) -> None:
    again = [f"rank-{rank}.1" for rank in range(3)]
    driver.hears(
        *connected(*ALL),
        *joined(),
        ClusterLost({"exit_signal": "SIGKILL"}),
        *(lost(worker, step=7) for worker in ALL),
        ClusterReady(3),
        *connected(*again),
        notices.NeedSource({worker: [] for worker in again}, None, "worker lost"),
        *joined(1, again, 0, "worker lost"),
        *ended(*again),
    )
    assert driver.launcher.reopened == 1
    assert driver.launcher.started == [*ALL, *again]
    assert driver.fields("cluster.lost") == [{"evidence": {"exit_signal": "SIGKILL"}}]
    assert [fields["worker"] for fields in driver.fields("worker.lost")] == ALL
    assert [fields["workers"] for fields in driver.fields("training.resumed")] == [ALL]


def test_a_cluster_that_is_not_there_again_yet_is_tried_again(driver: Driver) -> None:
    refused = [ClusterRefused("Ray cannot be reached with cluster.address=auto"), ClusterLost({"exit_code": 0})]
    again = [f"rank-{rank}.1" for rank in range(3)]
    driver.hears(
        *connected(*ALL),
        *joined(),
        ClusterLost({"exit_signal": "SIGKILL"}),
        *refused * 3,
        ClusterReady(3),
        *connected(*again),
        *joined(1, again, 0, "worker lost"),
        *ended(*again),
    )
    assert driver.launcher.reopened == 4
    assert driver.launcher.started == [*ALL, *again]
    assert driver.fields("cluster.lost") == [{"evidence": {"exit_signal": "SIGKILL"}}], "it was lost once"
    assert driver.said.count("Ray cannot be reached with cluster.address=auto; trying again") == 1


def test_the_state_that_is_gone_back_to_is_told_and_the_redone_steps_recorded(driver: Driver) -> None:
    recorded_steps(driver.run, "rank-0.0", 0, range(1, 6), 1)
    driver.hears(
        *connected("rank-0.0"),
        notices.NeedSource({"rank-0.0": []}, None, "start"),
        *joined(0, ["rank-0.0"]),
        lost("rank-0.0", step=5),
        *connected("rank-0.1"),
        notices.NeedSource({"rank-0.1": [3]}, 3, "worker lost"),
        *joined(1, ["rank-0.1"], 3, "worker lost"),
        *ended("rank-0.1"),
    )
    assert driver.coordinator.told[-1] == ("begin_from", Source("memory", 3, None, "no worker was left"))
    (redone,) = driver.fields("step.redone")
    assert (redone["first"], redone["last"], redone["recorded"]) == (4, 5, 2)
    (resumed,) = driver.fields("training.resumed")
    assert resumed["steps_redone"] == 2


def test_each_of_two_losses_in_a_row_costs_what_was_there_to_lose(driver: Driver) -> None:
    """Both go back to the snapshot of step 3: from 6, and then from 4."""
    last = (6, 4, 5)

    def compute(notice: notices.FirstCommit) -> None:
        number = notice.membership
        recorded_steps(driver.run, f"rank-0.{number}", number, range(4 if number else 1, last[number] + 1), 1)
        driver.supervisor._on_first_commit(notice)

    driver.supervisor._handle[notices.FirstCommit] = compute
    script: list[Any] = []
    for number, step in enumerate(last):
        worker = f"rank-0.{number}"
        asked = notices.NeedSource({worker: [3] if number else []}, 3 if number else None, "worker lost")
        script += [*connected(worker), asked, *joined(number, [worker], 3 if number else 0, "worker lost")]
        script += [lost(worker, step=step)] if number < 2 else ended(worker)
    driver.hears(*script)
    assert [resumed["steps_redone"] for resumed in driver.fields("training.resumed")] == [3, 1]
    assert [redone["recorded"] for redone in driver.fields("step.redone")] == [3, 1]


def test_an_exception_in_a_worker_is_a_failure_that_names_itself(driver: Driver) -> None:
    driver.roster.exceptions.append({"kind": "KeyError"})
    failed = ProcessEnded("rank-0.0", died=False, evidence={"exception": {"message": "KeyError: x"}})
    assert driver.hears(*connected(*ALL), failed) == "failed"
    assert driver.fields("exception") == []


@pytest.mark.parametrize("first", ["connection", "process"])
def test_an_exception_in_a_joiner_is_a_loss_while_others_train(driver: Driver, first: str) -> None:
    """Its node may lack a mount, or have a broken device: that is no error of the run."""
    failed = [
        ProcessEnded("rank-1.1", died=False, evidence={"exception": {"message": "OSError: x"}}),
        lost("rank-1.1", membership=None),
    ]
    said = {"rank": 1, "worker": "rank-1.1", "kind": "OSError", "message": "x", "expected": False, "traceback": ""}
    driver.run.worker("rank-1", 1, 1).event("exception", **said)
    joiner = [*connected("rank-1.1"), *(failed if first == "process" else reversed(failed))]
    going_on = joined(1, ["rank-0.0", "rank-2.0"], 1, "worker lost")
    script = [*connected(*ALL), *joined(), lost("rank-1.0"), *going_on, *joiner, *ended("rank-0.0", "rank-2.0")]
    assert driver.hears(*script) == "finished"
    assert driver.launcher.started == [*ALL, "rank-1.1", "rank-1.2"]
    losses = {fields["worker"]: fields for fields in driver.fields("worker.lost")}
    assert losses.keys() == {"rank-1.0", "rank-1.1"}
    assert losses["rank-1.1"]["cause"] == "exception"
    assert losses["rank-1.1"]["evidence"]["exception"] == {"message": "OSError: x"}
    assert driver.roster.exceptions == [], "the run does not end with it"


def test_one_that_fails_before_it_is_connected_is_replaced_as_often_as_any_other(
    run: Run, config: Config, roster: Roster
) -> None:
    driver = Driver(run, config, roster, restarts=2)
    failures = [ProcessEnded(f"rank-1.{n}", died=False, evidence={"exception": {"message": "x"}}) for n in (1, 2)]
    script = [*connected(*ALL), *joined(), lost("rank-1.0"), *joined(1, ["rank-0.0", "rank-2.0"], 1, "worker lost")]
    assert driver.hears(*script, *failures, *ended("rank-0.0", "rank-2.0")) == "finished"
    assert driver.launcher.started == [*ALL, "rank-1.1", "rank-1.2"]
    assert "rank 1 is not replaced any more (cluster.restarts=2)" in driver.said


@pytest.mark.parametrize("worker", ["rank-1.0", "rank-1.1"])
def test_an_exception_in_one_that_took_part_or_with_nobody_left_is_a_failure(driver: Driver, worker: str) -> None:
    others = [lost("rank-0.0"), lost("rank-2.0")] if worker == "rank-1.1" else []
    failed = ProcessEnded(worker, died=False, evidence={"exception": {"message": "KeyError: x"}})
    script = [*connected(*ALL), *joined(), *([lost("rank-1.0"), *others] if others else []), failed]
    assert driver.hears(*script) == "failed"


def test_workers_whose_records_do_not_arrive_are_a_failure_that_names_the_folder(driver: Driver) -> None:
    failed = ProcessEnded("rank-0.0", died=False, evidence={"exception": {"message": "DataError"}})
    assert driver.hears(*connected(*ALL), failed) == "failed"
    (fields,) = driver.fields("exception")
    assert "recorder.spool" in fields["message"]
    assert "DataError" in fields["traceback"]


def test_an_exception_that_is_still_in_the_spool_counts(driver: Driver) -> None:
    driver.run.worker().event("exception", rank=0, kind="KeyError", message="x", expected=False, traceback="")
    failed = ProcessEnded("rank-0.0", died=False, evidence={"exception": {"message": "KeyError: x"}})
    assert driver.hears(failed) == "failed"
    assert [fields["kind"] for fields in driver.fields("exception")] == ["KeyError"]


def test_a_worker_that_ended_in_order_is_no_loss(driver: Driver) -> None:
    ended = [ProcessEnded(worker, died=False) for worker in ALL]
    assert driver.hears(*connected(*ALL), *joined(), ENDED[0], ENDED[1], *ended, *ENDED[2:]) == "finished"
    assert driver.fields("worker.lost") == []


@pytest.mark.parametrize("subject", ["sum", "state"])
def test_a_difference_says_whose_it_is(driver: Driver, subject: Any) -> None:
    digests = {"0": "aa", "1": "aa", "2": "bb"}
    differs = notices.Difference(subject, 25, digests, [2], 0, undecided=False)
    driver.hears(*connected(*ALL), *joined(), differs, *ENDED)
    assert driver.fields("state.differs") == [
        {"subject": subject, "step": 25, "digests": digests, "expelled": [2], "membership": 0}
    ]
    assert f"step 25: the {subject} differs between workers: rank 2 is expelled" in driver.said


def test_a_difference_without_a_majority_ends_the_run(driver: Driver) -> None:
    differs = notices.Difference("state", 25, {"0": "aa", "1": "bb"}, [], 0, undecided=True)
    assert driver.hears(*connected(*ALL), *joined(), differs) == "failed"
    (failure,) = driver.fields("exception")
    assert failure["kind"] == "StateDiffers"
    assert "there is no majority" in failure["message"]


def test_an_exchange_that_does_not_heal_ends_the_run(driver: Driver) -> None:
    assert driver.hears(*connected(*ALL), *joined(), notices.Stuck(21)) == "failed"
    (failure,) = driver.fields("exception")
    assert failure["kind"] == "ExchangeStuck"
    assert "21 times in a row" in failure["message"]


def test_waiting_for_workers_is_said(driver: Driver) -> None:
    driver.hears(*connected(*ALL), *joined(), notices.Waiting(1, 2), *ENDED)
    assert "waiting: 1 workers, cluster.min_workers=2" in driver.said


def test_nodes_are_followed_and_make_room(driver: Driver) -> None:
    driver.hears(*connected(*ALL), NodesChanged({"node-b": UP}, 2), *joined(), *ENDED, room=1)
    assert [fields["node"] for fields in driver.fields("node.joined")] == ["node-b"]
    assert driver.coordinator.told == [("expect", 1), ("expect", 2)]


def test_an_error_of_the_coordinator_is_raised(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError):
        driver.hears(*connected(*ALL), ZeroDivisionError())


def test_an_error_of_the_record_is_raised(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.run._failure = RecordingError("the disk is full")
    with pytest.raises(RecordingError, match="the disk is full"):
        driver.hears(*connected(*ALL))
    driver.run._failure = None


@pytest.mark.parametrize(
    ("workers", "started", "let_go"),
    [(4, [*ALL, "rank-3.0"], []), (1, ALL, ["rank-1.0", "rank-2.0"]), (3, ALL, []), (0, ALL, [])],
)
def test_a_run_is_scaled_on_request(driver: Driver, workers: int, started: list[str], let_go: list[str]) -> None:
    request = ScaleRequest(driver.run.path.parent, driver.run.id)
    take = driver.supervisor._take_scale_request

    def look() -> None:
        take()
        if driver.supervisor._workforce.connected and not driver.roster.has_committed:
            request.put(workers)
            take()
            driver.tell(*joined(), *ENDED)

    driver.supervisor._take_scale_request = look  # type: ignore[method-assign]
    driver.hears(*connected("rank-0.0", "rank-1.0"))
    assert driver.launcher.started == started
    told = [told[1:] for told in driver.coordinator.told if told[0] == "let_go"]
    assert told == [(worker, "scaled down") for worker in let_go]
    assert driver.launcher.killed == [worker for worker in let_go if worker == "rank-2.0"], "nobody waits for that one"
    changed = [(fields["before"], fields["workers"]) for fields in driver.fields("run.scaled")]
    assert changed == ([] if workers in {0, 3} else [(3, workers)])


def test_a_run_that_is_scaled_while_its_cluster_is_lost_starts_each_rank_once(driver: Driver) -> None:
    workforce = driver.supervisor._workforce
    workforce.start_all(3)
    workforce.lose_all()
    workforce.set_scale(4)
    assert driver.launcher.started == ALL
    workforce.start_all(4)
    assert driver.launcher.started == [*ALL, "rank-0.1", "rank-1.1", "rank-2.1", "rank-3.0"]


def test_who_comes_after_it_was_given_up_is_let_go(driver: Driver) -> None:
    """A process that was slow to connect, and has been replaced by then."""
    died = ProcessEnded("rank-1.0", died=True)
    driver.hears(*connected("rank-0.0"), died, *connected("rank-1.0", "rank-1.1", "rank-2.0"), *joined(), *ENDED)
    told = [told for told in driver.coordinator.told if told[0] == "let_go"]
    assert told == [("let_go", "rank-1.0", "another one was started in its place")]


def test_a_request_to_an_earlier_attempt_is_forgotten(run: Run, config: Config, roster: Roster, tmp_path: Path) -> None:
    ScaleRequest(run.path.parent, run.id).put(1)
    driver = Driver(run, config, roster)
    driver.hears(*connected(*ALL), *joined(), *ENDED)
    assert driver.fields("run.scaled") == []
