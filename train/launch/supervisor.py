"""Keeps a run going: acts on what the coordinator and the launcher tell, until the run has ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from recorder.ledger import events
from recorder.run import Run
from recorder.scale_request import ScaleRequest
from train.config import ClusterConfig
from train.launch import launcher
from train.launch.draining import Draining
from train.launch.due_checkpoint import DueCheckpoint
from train.launch.ending import Ending
from train.launch.job import rank_of
from train.launch.launcher import Launcher, Reports
from train.launch.losses import Losses
from train.launch.outage import Outage
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.signals import StopSignals
from train.launch.sources import Sources
from train.launch.workforce import MakeJob, Workforce
from train.membership import notices
from train.membership.messages import Hello
from train.membership.server import CoordinatorServer

_LOOK_SECONDS = 0.1


class Supervisor:
    """The driver's part in one attempt. `run_to_end` returns its outcome; workers are only started by it."""

    def __init__(
        self,
        run: Run,
        config: ClusterConfig,
        starter: Launcher,
        server: CoordinatorServer,
        inbox: Reports,
        make_job: MakeJob,
        sources: Sources,
        roster: Roster,
        display: ProgressDisplay,
    ) -> None:
        self._run = run
        self._config = config
        self._server = server
        self._inbox = inbox
        self._sources = sources
        self._roster = roster
        self._display = display
        self._workforce = Workforce(config, starter, server, make_job)
        self._ending = Ending(run, config, self._workforce, roster, display)
        self._draining = Draining(self._workforce, server, roster, display, self._replace_drained)
        self._due = DueCheckpoint(run, roster.checkpoint_every, server)
        self._losses = Losses(run, roster)
        self._outage = Outage(self._workforce, self._losses, display)
        self._scale_request = ScaleRequest(run.path.parent, run.id)
        self._scale_request.take()  # what was asked of an earlier attempt
        self._handle = self._handlers()
        self._departing: set[str] = set()
        self._expelled: set[str] = set()

    def run_to_end(self, signals: StopSignals, room: int) -> str:
        """Train with as many workers as there is `room` for; the outcome of the attempt."""
        self._workforce.start_all(room)
        while self._ending.outcome is None:
            self._run.check()
            self._ending.look(signals)
            self._draining.look()
            self._take_scale_request()
            self._take(_LOOK_SECONDS)
            for worker in self._workforce.kill_late():
                self._losses.expelled(worker, "hung")
                self._lose_unconnected(worker)
            self._workforce.kill_remaining()
            self._losses.settle()
        self._losses.settle(at_once=True)
        return self._ending.outcome

    @property
    def untidy_nodes(self) -> set[str]:
        """The nodes in whose memory snapshots of the run may be left."""
        return self._workforce.untidy

    def _take(self, seconds: float) -> None:
        """Wait for what comes next, and deal with all that is there."""
        deadline = time.monotonic() + seconds
        while self._ending.outcome is None and (left := deadline - time.monotonic()) > 0:
            try:
                item = self._inbox.get(timeout=left)
            except queue.Empty:
                return
            if isinstance(item, BaseException):
                raise item
            self._handle[type(item)](item)

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        """What is done with each notice of the coordinator and each report of the launcher."""
        return {
            notices.WorkerConnected: self._on_connected,
            notices.NeedSource: self._on_need_source,
            notices.Formed: self._on_formed,
            notices.FirstCommit: self._on_first_commit,
            notices.WorkerLost: self._on_lost,
            notices.WorkerExpelled: self._on_expelled,
            notices.WorkerLeft: self._on_left,
            notices.EndAgreed: self._on_end_agreed,
            notices.WorkerEnded: self._on_ended,
            notices.Difference: self._on_difference,
            notices.Waiting: self._on_waiting,
            notices.Stuck: self._on_stuck,
            launcher.ClusterReady: self._outage.end,
            launcher.ClusterRefused: self._outage.refuse,
            launcher.ClusterLost: self._outage.lose,
            launcher.ProcessStarted: lambda report: self._workforce.has_started(report.worker),
            launcher.ProcessEnded: self._on_process_ended,
            launcher.NodesChanged: self._on_nodes,
            launcher.NodesDraining: lambda report: self._draining.announce(report.nodes),
        }

    # What the coordinator tells.

    def _on_connected(self, notice: notices.WorkerConnected) -> None:
        self._workforce.connect(notice.hello)
        self._losses.watch(notice.hello)
        self._draining.let_go(notice.hello)

    def _on_need_source(self, notice: notices.NeedSource) -> None:
        spare = [hello.pid for hello in self._workforce.connected.values()]
        source = self._sources.choose(notice.offers, notice.agreed, spare, notice.reason)
        self._roster.goes_back_to(source.step)
        self._server.call(lambda coordinator, now: coordinator.begin_from(source, now))

    def _on_formed(self, notice: notices.Formed) -> None:
        self._roster.record_membership(notice)
        self._due.look(notice.form)

    def _on_first_commit(self, notice: notices.FirstCommit) -> None:
        self._roster.committed()
        self._workforce.took_part(self._roster.members)
        self._losses.training_goes_on(notice)
        self._complete_rows()

    def _on_lost(self, notice: notices.WorkerLost) -> None:
        hello = notice.hello
        self._workforce.connected.pop(hello.worker, None)
        self._departing.discard(hello.worker)
        self._due.lose(hello.worker)
        self._workforce.kill(hello, at_once=hello.worker in self._expelled)
        if not self._losses.knows(hello.worker):
            # The launcher may have been first, where a process died as it connected.
            self._losses.begin(notice)
        if not self._ending.is_agreed:
            self._display.say(f"rank {hello.rank} was lost after step {notice.step} (process {hello.pid})", "yellow")
        self._replace(hello.rank, hello.worker)
        self._complete_rows()
        self._ending.decide()

    def _on_expelled(self, notice: notices.WorkerExpelled) -> None:
        hello = notice.hello
        self._run.event(
            events.WORKER_EXPELLED,
            rank=hello.rank,
            worker=hello.worker,
            pid=hello.pid,
            node=hello.node,
            membership=notice.membership,
            reason=notice.reason,
            evidence=dict(notice.evidence),
        )
        self._expelled.add(hello.worker)
        self._losses.expelled(hello.worker, notice.reason)
        self._workforce.kill(hello, at_once=True)

    def _on_left(self, notice: notices.WorkerLeft) -> None:
        hello = notice.hello
        named = {"rank": hello.rank, "worker": hello.worker, "pid": hello.pid, "node": hello.node}
        self._run.event(events.WORKER_DRAINED, **named, step=notice.step, reason=notice.reason)
        self._display.say(f"rank {hello.rank} left after step {notice.step}: {notice.reason}", "yellow")
        self._departing.add(hello.worker)

    def _on_end_agreed(self, notice: notices.EndAgreed) -> None:
        self._ending.agree(notice.outcome)

    def _on_ended(self, notice: notices.WorkerEnded) -> None:
        self._workforce.has_left(notice.worker, notice.outcome in {"finished", "interrupted"})
        if notice.worker in self._departing:
            self._departing.discard(notice.worker)
            self._complete_rows()
        self._ending.decide()

    def _on_difference(self, notice: notices.Difference) -> None:
        fields = {"subject": notice.subject, "step": notice.step, "digests": dict(notice.digests)}
        self._run.event(events.STATE_DIFFERS, **fields, expelled=notice.expelled, membership=notice.membership)
        said = f"step {notice.step}: the {notice.subject} differs between workers"
        if notice.undecided:
            message = f"{said} and there is no majority: one of the machines computes wrongly; test them, then resume"
            self._ending.fail("StateDiffers", message)
        else:
            self._display.say(f"{said}: rank {', '.join(map(str, notice.expelled))} is expelled", "bold red")

    def _on_waiting(self, notice: notices.Waiting) -> None:
        self._display.say(f"waiting: {notice.there} workers, cluster.min_workers={notice.needed}", "yellow")

    def _on_stuck(self, notice: notices.Stuck) -> None:
        message = (
            f"the workers' exchange broke {notice.memberships} times in a row while all of them were there; the "
            "exchange.failed events say how: check that every node reaches every other"
        )
        self._ending.fail("ExchangeStuck", message)

    # What the launcher tells.

    def _on_process_ended(self, report: launcher.ProcessEnded) -> None:
        failed = not report.died and "exception" in report.evidence
        if failed and not self._workforce.is_dispensable(report.worker):
            self._run.drain()
            if not self._roster.exceptions:
                self._report_missing_record(report)
            self._ending.outcome = "failed"
            return
        self._workforce.has_ended(report.worker)
        if report.worker in self._departing:
            # It was killed on its way out.
            self._due.lose(report.worker)
            self._workforce.has_left(report.worker)
            self._departing.discard(report.worker)
            self._complete_rows()
        self._losses.explain(report.worker, dict(report.evidence))
        if failed:
            self._run.drain()
            self._roster.pass_over_exceptions(report.worker)
        elif not report.died:
            return
        if report.worker in self._workforce.connected:
            if report.died:
                # With its machine gone its connection does not end by itself.
                self._server.call(lambda coordinator, _: coordinator.died(report.worker))
            return
        if self._losses.knows(report.worker):
            return
        self._lose_unconnected(report.worker)

    def _on_nodes(self, report: launcher.NodesChanged) -> None:
        self._roster.watch_nodes({node: dict(state) for node, state in report.nodes.items()})
        self._workforce.make_room(report.workers)

    # What follows.

    def _lose_unconnected(self, worker: str) -> None:
        """A process was lost before it reached the coordinator."""
        rank = rank_of(worker)
        if self._workforce.has(rank, worker):
            self._losses.begin_unconnected(worker, rank)
            self._display.say(f"rank {rank} was lost while it started", "yellow")
            self._replace(rank, worker)

    def _replace(self, rank: int, worker: str, in_vain: bool = True) -> None:
        """Start another process in place of `worker`, unless that was too often `in_vain` or is not wanted."""
        if not self._workforce.has(rank, worker):
            return
        if self._ending.is_near:
            self._workforce.give_up(rank)
        elif not self._workforce.replace(rank, in_vain):
            restarts = self._config.restarts
            self._display.say(f"rank {rank} is not replaced any more (cluster.restarts={restarts})", "yellow")

    def _replace_drained(self, hello: Hello) -> None:
        self._replace(hello.rank, hello.worker, in_vain=False)

    def _take_scale_request(self) -> None:
        """Go on with another number of workers, if somebody asked for it."""
        workers, before = self._scale_request.take(), self._workforce.scale
        if workers is None or workers == before or workers < self._config.min_workers:
            return
        self._run.event(events.RUN_SCALED, workers=workers, before=before)
        self._display.say(f"going on with {workers} workers", "yellow")
        self._workforce.set_scale(workers)

    def _complete_rows(self) -> None:
        """Steps of earlier memberships lack a part for good, once everyone who was in them is gone or has gone on."""
        if not self._departing and self._roster.has_committed:
            self._run.complete_rows(self._roster.membership)

    def _report_missing_record(self, report: launcher.ProcessEnded) -> None:
        """A worker failed, and what it recorded of that is not here."""
        message = (
            "a worker failed, and its record did not reach the driver: every node must see the folder "
            f"{self._run.spool_folder}; set recorder.spool to one that they share"
        )
        fields = {"rank": None, "kind": "RecordMissing", "message": message}
        self._run.event(events.EXCEPTION, expected=True, traceback=str(report.evidence), **fields)
