"""How a run ends when too few are left, or when somebody asks for it: driver and coordinator are real, workers act."""

from __future__ import annotations

import io
import queue
import signal
from collections.abc import Callable
from typing import Any

import pytest
from helpers.acting import Company
from helpers.commands import events_of
from helpers.launching import make_job

from recorder.mailbox import Mailbox
from recorder.run import Run
from train.config import ClusterConfig, Config
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.sources import Sources
from train.launch.supervisor import Supervisor
from train.origin import Origin

# What is waited for in vain is found out sooner than elsewhere.
pytestmark = pytest.mark.timeout(30)


class Script:
    """What happens, one thing each time that the driver looks for signals; SIGTERM is one of the things."""

    def __init__(self, *things: Callable[[], object]) -> None:
        self._things = list(things)
        self._received: list[signal.Signals] = []

    @property
    def received(self) -> list[signal.Signals]:
        if self._things:
            self._things.pop(0)()
        return self._received

    def sigterm(self) -> None:
        self._received.append(signal.SIGTERM)


class Driver:
    """A supervisor of a company of two ranks that needs both."""

    def __init__(self, run: Run, config: Config, roster: Roster, **cluster: Any) -> None:
        run.observers.append(roster.observe)
        self.run = run
        reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
        settings = config.cluster.model_dump() | {"workers": 2, "min_workers": 2, "restarts": 1} | cluster
        self.company = Company(settings["min_workers"], reports, Mailbox(run.spool_folder).stop_requested)
        self.supervisor = Supervisor(
            run,
            ClusterConfig(**settings),
            self.company,
            self.company,  # type: ignore[arg-type]
            reports,
            make_job,
            Sources(run, Origin({}), str),
            roster,
            ProgressDisplay(io.StringIO(), 100),
        )

    def plays(self, *things: str | Callable[[], object]) -> str:
        """The outcome, when after a first step these things happen."""
        script = Script()
        train = [lambda: None, lambda: self.company.train(1)]
        script._things = [*train, *(getattr(script, thing) if isinstance(thing, str) else thing for thing in things)]
        return self.supervisor.run_to_end(script, 2)  # type: ignore[arg-type]

    def loses(self, worker: str) -> Callable[[], object]:
        return lambda: self.company.leave(worker)

    def fields(self, type: str) -> list[dict[str, Any]]:
        return [event["fields"] for event in events_of(self.run.path, type)]

    def memberships(self) -> list[list[str]]:
        return [[worker["worker"] for worker in one["workers"]] for one in self.fields("membership.changed")]


@pytest.fixture
def driver(run: Run, config: Config, roster: Roster) -> Driver:
    return Driver(run, config, roster)


BOTH = ["rank-0.0", "rank-1.0"]


def test_who_is_left_saves_and_the_run_fails_when_nobody_is_to_come(driver: Driver) -> None:
    """One of two, where both are needed: it would wait for ever."""
    driver.company.stillborn = {"rank-1.1", "rank-1.2"}
    assert driver.plays(driver.loses("rank-1.0")) == "failed"
    assert driver.company.started == [*BOTH, "rank-1.1"]
    assert driver.memberships() == [BOTH, ["rank-0.0"]], "it comes to an end in order"
    (failure,) = driver.fields("exception")
    assert failure["kind"] == "WorkersLost"
    assert "1 workers are left of cluster.min_workers=2: others were lost 2 times in a row" in failure["message"]


def test_nobody_is_started_any_more_after_a_signal(driver: Driver) -> None:
    """Nor waited for: what is left below `cluster.min_workers` saves and ends."""

    def is_signalled_before_it_is_lost() -> None:
        driver.company.stop_requested = lambda: driver.company.workers.keys() == {"rank-0.0"}

    assert driver.plays(is_signalled_before_it_is_lost, "sigterm", driver.loses("rank-1.0")) == "interrupted"
    assert driver.company.started == BOTH
    assert driver.memberships() == [BOTH, ["rank-0.0"]]


def replaces_nobody(driver: Driver) -> None:
    """Whoever would come in place of a lost one has not come yet."""
    start = driver.company.start
    driver.company.start = lambda job: job.incarnation or start(job)  # type: ignore[method-assign, return-value]


def test_a_signal_ends_the_waiting_for_workers(driver: Driver) -> None:
    replaces_nobody(driver)
    assert driver.plays(driver.loses("rank-1.0"), "sigterm") == "interrupted"
    assert driver.memberships() == [BOTH, ["rank-0.0"]]
    assert driver.fields("exception") == []


def test_where_nobody_who_trained_is_left_a_signal_ends_at_once(driver: Driver) -> None:
    replaces_nobody(driver)
    assert driver.plays(driver.loses("rank-1.0"), driver.loses("rank-0.0"), "sigterm") == "interrupted"
    assert driver.memberships() == [BOTH]
