"""Workers without processes, who do what the real coordinator says: what the driver decides is seen to its end."""

from __future__ import annotations

import io
import queue
import signal
from collections.abc import Callable
from typing import Any

from helpers.bundles import write_checkpoint
from helpers.commands import events_of
from helpers.launching import hello, make_job
from recorder.bundle import layout
from recorder.ledger import events
from recorder.mailbox import Mailbox
from recorder.run import Run
from train.config import ClusterConfig, Config
from train.launch.job import Job
from train.launch.launcher import ProcessEnded
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.sources import Sources
from train.launch.supervisor import Supervisor
from train.membership.coordinator import Coordinator
from train.membership.messages import Commit, Dismiss, Ended, Form, Message, Position, Ready, Reform, Stage, Vote
from train.origin import Origin

BOTH = ["rank-0.0", "rank-1.0"]


class ActingWorker:
    """Votes for one step after the other, up to `company.pause`; or for the end, once a stop was requested."""

    def __init__(self, company: Company, name: str) -> None:
        self._company = company
        self.name = name
        self.position: Position | None = None
        self._form: Form | None = None
        self._round = 0
        self._is_saved = False

    def take(self, message: Message) -> None:
        """What the worker does with a message."""
        if isinstance(message, Form):
            self._form, self._round, self.position = message, 0, message.position
            self.go_on()
        elif isinstance(message, Reform) and self._form is not None:
            self.say_ready()
        elif isinstance(message, Commit):
            self._commit(message)
        elif isinstance(message, Dismiss):
            self.end(message.reason)

    def say_ready(self) -> None:
        """In no membership."""
        self._form = None
        self._company.do(lambda c: c.ready(self.name, Ready(self.position, []), self._company.now))

    def go_on(self) -> None:
        """Vote for what comes next, if there is anything."""
        if self._form is None:
            return
        assert self.position is not None
        step = self.position.step
        if self._company.stop_requested():
            self._vote("end", step, "interrupted")
        elif step < self._company.pause:
            self._vote("sum", step + 1, "alike")

    def end(self, outcome: str) -> None:
        """It has done its work."""
        self._form = None
        self._company.do(lambda c: c.ended(self.name, Ended(outcome)))
        self._company.leave(self.name)

    def _vote(self, subject: Any, step: int, digest: str) -> None:
        assert self._form is not None
        vote = Vote(self._form.membership, self._round, subject, step, digest)
        self._company.do(lambda c: c.vote(self.name, vote, self._company.now))

    def _commit(self, commit: Commit) -> None:
        assert self.position is not None
        self._round += 1
        if self._company.stop_requested() or commit.action == "leave":
            self.end("asked to leave" if commit.action == "leave" else "interrupted")
            return
        self.position = Position(self.position.step + 1, Stage.SETTLED)
        if commit.save:
            self._company.save(self.position.step)
        if commit.action == "reform":
            self.say_ready()
        else:
            self.go_on()


class Company:
    """A launcher and a coordinator behind its server, in one: whoever is started is there at once and acts.

    Workers in `stillborn` end as they are started, those in `delayed` come with `start_delayed`. `nodes` says who is
    not on node-a.
    """

    def __init__(self, min_workers: int, reports: queue.SimpleQueue[Any], run: Run) -> None:
        self._run = run
        self.coordinator = Coordinator(min_workers, 60.0)
        self.stop_requested = Mailbox(run.spool_folder).stop_requested
        self.now = 0.0
        self.pause = 0
        self.started: list[str] = []
        self.killed: list[str] = []
        self.stillborn: set[str] = set()
        self.delayed: set[str] = set()
        self.nodes: dict[str, str] = {}
        self.workers: dict[str, ActingWorker] = {}
        self._reports = reports
        self._pending: list[Callable[[Coordinator], object]] = []
        self._is_acting = False

    def call(self, action: Callable[[Coordinator, float], None]) -> None:
        """See `CoordinatorServer.call`."""
        self.do(lambda coordinator: action(coordinator, self.now))
        for worker in list(self.workers.values()):
            worker.go_on()

    def start(self, job: Job) -> None:
        """See `Launcher.start`."""
        self.started.append(job.worker)
        if job.worker in self.stillborn:
            self._reports.put(ProcessEnded(job.worker, died=True, evidence={"exit_code": 1}))
            return
        if job.worker not in self.delayed:
            self._come(job)

    def start_delayed(self) -> None:
        """There is room at last for those that were delayed."""
        for worker in sorted(self.delayed):
            self._come(make_job(*(int(part) for part in worker.removeprefix("rank-").split("."))))

    def _come(self, job: Job) -> None:
        worker = self.workers[job.worker] = ActingWorker(self, job.worker)
        self.do(lambda c: c.hello(hello(job.worker, self.nodes.get(job.worker, "node-a")), self.now))
        worker.say_ready()

    def kill(self, worker: str) -> None:
        """See `Launcher.kill`."""
        self.killed.append(worker)

    def reopen(self) -> None:
        """See `Launcher.reopen`."""

    def close(self) -> None:
        """See `Launcher.close`."""

    def train(self, steps: int) -> None:
        """Let the members go on to the step `steps`."""
        self.pause = steps
        for worker in list(self.workers.values()):
            worker.go_on()

    def save(self, step: int) -> None:
        """A member writes a checkpoint; the first is the one that is kept."""
        path = layout.checkpoint_folder(step)
        if not (self._run.path / path).exists():
            files = write_checkpoint(self._run.path / path, step)
            self._run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=files)

    def leave(self, worker: str) -> None:
        """A worker's process ends."""
        del self.workers[worker]
        self.do(lambda c: c.disconnected(worker, self.now))

    def do(self, action: Callable[[Coordinator], object]) -> None:
        """Have something done with the coordinator; what follows from it is done before this returns, in order."""
        self._pending.append(action)
        if self._is_acting:
            return
        self._is_acting = True
        while self._pending:
            self._pending.pop(0)(self.coordinator)
            outbox, self.coordinator.outbox = self.coordinator.outbox, []
            for name, message in outbox:
                if name in self.workers:
                    self.workers[name].take(message)
            told, self.coordinator.notices = self.coordinator.notices, []
            for notice in told:
                self._reports.put(notice)
        self._is_acting = False


class Script:
    """What happens, one thing each time that the driver looks for signals; SIGTERM is one of the things."""

    def __init__(self) -> None:
        self.things: list[Callable[[], object]] = []
        self._received: list[signal.Signals] = []

    @property
    def received(self) -> list[signal.Signals]:
        if self.things:
            self.things.pop(0)()
        return self._received

    def sigterm(self) -> None:
        self._received.append(signal.SIGTERM)


class CompanyDriver:
    """A supervisor of a company: of two ranks that are both needed, unless it is told otherwise."""

    def __init__(self, run: Run, config: Config, roster: Roster, **cluster: Any) -> None:
        run.observers.append(roster.observe)
        self.run = run
        self._reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
        settings = config.cluster.model_dump() | {"workers": 2, "min_workers": 2, "restarts": 1} | cluster
        self._room = settings["workers"]
        self.company = Company(settings["min_workers"], self._reports, run)
        self.supervisor = Supervisor(
            run,
            ClusterConfig(**settings),
            self.company,
            self.company,  # type: ignore[arg-type]
            self._reports,
            make_job,
            Sources(run, Origin({}), str),
            roster,
            ProgressDisplay(io.StringIO(), 100),
        )

    def plays(self, *things: str | Callable[[], object]) -> str:
        """The outcome, when after a first step these things happen; what follows from one comes before the next."""
        script = Script()
        happening = [getattr(script, thing) if isinstance(thing, str) else thing for thing in things]
        for thing in (self.trains(1), *happening):
            script.things += [lambda: None, thing]
        return self.supervisor.run_to_end(script, self._room)  # type: ignore[arg-type]

    def hears(self, report: Any) -> Callable[[], object]:
        return lambda: self._reports.put(report)

    def trains(self, steps: int) -> Callable[[], object]:
        return lambda: self.company.train(steps)

    def loses(self, worker: str) -> Callable[[], object]:
        return lambda: self.company.leave(worker)

    def fields(self, type: str) -> list[dict[str, Any]]:
        return [event["fields"] for event in events_of(self.run.path, type)]

    def memberships(self) -> list[list[str]]:
        return [[worker["worker"] for worker in one["workers"]] for one in self.fields("membership.changed")]
