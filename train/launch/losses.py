"""Each loss of a worker: what it was, from all that is known of it, and what it cost."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

from recorder.canonical import utc_text
from recorder.ledger import events
from recorder.nodes.cause import UNKNOWN, cause
from recorder.nodes.exit_status import ExitWatch
from recorder.run import Run
from train.launch.roster import Roster
from train.membership.messages import Hello
from train.membership.notices import FirstCommit, WorkerLost

# Ray takes a node for dead after about 14 s without a word from it. Until then a worker that went with its node looks
# like one that ended by itself, so a loss that nothing else explains waits for that.
_EVIDENCE_SECONDS = 20.0


@dataclass
class _Loss:
    """A loss that is not recorded yet, or whose cost is not known yet.

    Times are seconds of the coordinator's clock, which is never set; `ahead` is how far the calendar was ahead of it.
    """

    rank: int
    worker: str
    noticed: float
    last_heard: float
    ahead: float
    hello: Hello | None = None
    membership: int | None = None
    last_step: int = 0
    recorded: bool = False
    told: bool = False  # what it cost


class Losses:
    """Collects the evidence of losses, records each once, and what they cost when training goes on."""

    def __init__(self, run: Run, roster: Roster) -> None:
        self._run = run
        self._roster = roster
        self._watch = ExitWatch()
        self._evidence: dict[str, dict[str, Any]] = {}
        self._explained: set[str] = set()
        self._losses: list[_Loss] = []

    def watch(self, hello: Hello) -> None:
        """From now on the exit status of a worker on this machine is known."""
        if hello.host == platform.node():
            self._watch.watch(hello.pid, hello.started)

    def expelled(self, worker: str, reason: str) -> None:
        """A worker is being killed, and why."""
        self._evidence.setdefault(worker, {})["expelled"] = reason

    def explain(self, worker: str, evidence: dict[str, Any]) -> None:
        """What the launcher knows of the end of a worker."""
        self._explained.add(worker)
        self._evidence.setdefault(worker, {}).update(evidence)

    def cluster_lost(self, evidence: dict[str, Any]) -> None:
        """All workers go with their cluster, and nobody will tell more of them."""
        self._run.event(events.CLUSTER_LOST, evidence=evidence)

    def begin(self, notice: WorkerLost) -> None:
        """The coordinator lost a worker."""
        self._roster.lost += 1
        self._losses.append(
            _Loss(
                notice.hello.rank,
                notice.hello.worker,
                notice.now,
                notice.last_heard,
                _ahead(),
                notice.hello,
                notice.membership,
                notice.step,
            )
        )

    def begin_unconnected(self, worker: str, rank: int) -> None:
        """A worker's process ended before it reached the coordinator."""
        self._roster.lost += 1
        now = time.monotonic()
        self._losses.append(_Loss(rank, worker, now, now, _ahead(), last_step=self._roster.last_step))

    def knows(self, worker: str) -> bool:
        """Whether the worker has been lost before."""
        return any(loss.worker == worker for loss in self._losses)

    def settle(self, at_once: bool = False) -> None:
        """Record the losses whose cause is known, or has been waited for long enough; `at_once` all of them."""
        for loss in self._losses:
            if loss.recorded:
                continue
            evidence = self._evidence_of(loss)
            why = cause(evidence)
            # Whoever frees memory, or takes a node down, also sends SIGKILL: only the launcher knows.
            in_doubt = why == UNKNOWN or why.startswith("exit code")
            in_doubt |= why == "signal SIGKILL" and loss.worker not in self._explained
            if at_once or not in_doubt or time.monotonic() - loss.noticed > _EVIDENCE_SECONDS:
                self._record(loss, why, evidence)
        if at_once:
            self._watch.close()

    def training_goes_on(self, notice: FirstCommit) -> None:
        """A membership has committed its first round: what the losses before it cost is known."""
        past = [loss for loss in self._losses if loss.membership is not None and not loss.told]
        if past:
            seconds = notice.now - min(loss.last_heard for loss in past)
            redone, redone_seconds = self._roster.take_redone()
            self._run.event(
                events.TRAINING_RESUMED,
                membership=notice.membership,
                step=notice.step,
                workers=[loss.worker for loss in past],
                died=utc_text(min(loss.last_heard + loss.ahead for loss in past)),
                noticed=utc_text(min(loss.noticed + loss.ahead for loss in past)),
                resumed=utc_text(notice.now + _ahead()),
                seconds=seconds,
                steps_redone=redone,
                worker_seconds_lost=seconds * self._roster.most_workers + redone_seconds,
            )
        for loss in past:
            loss.told = True

    def _evidence_of(self, loss: _Loss) -> dict[str, Any]:
        evidence = dict(self._evidence.get(loss.worker, {}))
        if loss.hello is not None:
            if (status := self._watch.status(loss.hello.pid)) is not None:
                evidence |= status.evidence()
            if (death := self._roster.dead_nodes.get(loss.hello.node)) is not None:
                evidence["node"] = death
            if (deadline := self._roster.draining.get(loss.hello.node)) is not None:
                evidence["draining"] = deadline
        return evidence

    def _record(self, loss: _Loss, why: str, evidence: dict[str, Any]) -> None:
        loss.recorded = True
        self._run.event(
            events.WORKER_LOST,
            rank=loss.rank,
            worker=loss.worker,
            pid=loss.hello.pid if loss.hello else None,
            node=loss.hello.node if loss.hello else None,
            membership=loss.membership,
            last_step=loss.last_step,
            cause=why,
            evidence=evidence,
            last_heard=utc_text(loss.last_heard + loss.ahead),
            noticed=utc_text(loss.noticed + loss.ahead),
        )


def _ahead() -> float:
    """By how much the calendar is ahead of the clock that is never set."""
    return time.time() - time.monotonic()
