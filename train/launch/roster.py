"""Who is in the run: what workers, the coordinator and Ray say about workers and nodes, joined into events."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Any

from recorder.canonical import utc_text
from recorder.capture.differences import node_differences
from recorder.ledger import events
from recorder.nodes.cause import cause
from recorder.run import Run
from train.config import Config
from train.membership.messages import Position, Stage
from train.membership.notices import Formed
from train.step.tree import ranges

# Enough for the steps between two snapshots, whose cost is counted when they are computed again.
_REMEMBERED_STEPS = 10_000


class Roster:
    """Follows one attempt. `observe` is called from the collector's thread, the rest from the driver's."""

    def __init__(self, run: Run, config: Config, determinism: str) -> None:
        self._run = run
        self._config = config
        self._determinism = determinism
        self._first_environment: dict[str, Any] | None = None
        self.checkpoint_every = config.checkpoint.every
        self._nodes: dict[str, bool] = {}
        self._redone = 0
        self._redone_seconds = 0.0
        self._lock = threading.Lock()
        self._worked: deque[tuple[int, int, float]] = deque(maxlen=_REMEMBERED_STEPS)  # membership, step, seconds
        self._reached = 0  # the newest recorded step of those that count: a return takes it back
        self._returned = 0  # the membership that the last return began
        self._back_to: int | None = None
        self.membership = -1
        self.members: set[str] = set()
        self.most_workers = 0
        self.has_committed = False
        self.draining: dict[str, dict[str, Any]] = {}
        self.dead_nodes: dict[str, dict[str, Any]] = {}
        self.exceptions: list[dict[str, Any]] = []
        self.lost = 0
        self.last_step = 0
        self.evaluation: dict[str, Any] | None = None
        self.loss: float | None = None

    def observe(self, kind: str, content: dict[str, Any]) -> None:
        """Take one row or event of the run."""
        if kind == "row":
            self._observe_row(content)
            self.loss = float(content["loss"]) if "loss" in content else None
        elif kind == events.WORKER_JOINED:
            self._compare_determinism(content)
        elif kind == events.NODE_ENVIRONMENT:
            self._compare_node(content)
        elif kind == events.EXCEPTION:
            self.exceptions.append(content)
        elif kind == events.EVALUATED:
            self.evaluation = content

    def goes_back_to(self, step: int) -> None:
        """No worker has a living state: the next membership begins with that of `step`."""
        self._back_to = step

    def record_membership(self, notice: Formed) -> None:
        """A membership was formed: who does what from here on, and which steps are computed again."""
        form = notice.form
        self._record_redone(form.membership, form.position, notice.reason)
        owned = ranges(self._config.train.micro_batches, len(form.seats))
        workers = [
            {
                "rank": seat.rank,
                "worker": seat.worker,
                "node": seat.node,
                "pid": notice.hellos[seat.worker].pid,
                "micro_batches": [part.start, part.stop],
            }
            for seat, part in zip(form.seats, owned, strict=True)
        ]
        self._run.event(
            events.MEMBERSHIP_CHANGED,
            membership=form.membership,
            start_step=form.position.step,
            reason=notice.reason,
            workers=workers,
            source={"kind": form.source.kind, "step": form.source.step},
        )
        self.membership = form.membership
        self.members = {seat.worker for seat in form.seats}
        self.most_workers = max(self.most_workers, len(form.seats))
        self.has_committed = False

    def committed(self) -> None:
        """The present membership has committed a round."""
        self.has_committed = True

    def take_redone(self) -> tuple[int, float]:
        """How many committed steps are computed again since this was asked for last; the worker-seconds they took."""
        redone = self._redone, self._redone_seconds
        self._redone, self._redone_seconds = 0, 0.0
        return redone

    def pass_over_exceptions(self, worker: str) -> None:
        """What went wrong in that worker is in the record as a loss, and not what the run fails of."""
        self.exceptions = [one for one in self.exceptions if one.get("worker") != worker]

    def watch_nodes(self, nodes: dict[str, dict[str, Any]]) -> None:
        """Record nodes that came or went since the last look, as Ray tells it."""
        for node, state in nodes.items():
            if state["alive"] and not self._nodes.get(node, False):
                self._run.event(events.NODE_JOINED, node=node, address=state["address"])
            elif not state["alive"] and self._nodes.get(node, False):
                evidence = {name: state[name] for name in ("alive", "death_reason", "death_message")}
                self.dead_nodes[node] = evidence
                why = cause({"node": evidence})
                self._run.event(events.NODE_LOST, node=node, address=state["address"], cause=why, evidence=evidence)
            self._nodes[node] = state["alive"]

    def node_drains(self, node: str, deadline: float | None) -> bool:
        """Record that a node will go; whether that is new."""
        if node in self.draining:
            return False
        at = utc_text(deadline) if deadline else None
        self.draining[node] = {"deadline": at}
        self._run.event(events.NODE_DRAINING, node=node, deadline=at, reason="drain")
        return True

    def totals(self) -> dict[str, Any]:
        """What the end of the attempt says of it."""
        return {"workers_lost": self.lost, "last_step": self.last_step}

    def _record_redone(self, membership: int, position: Position, reason: str) -> None:
        """After a loss the step that was being computed is computed again; after a return also committed ones."""
        back_to, self._back_to = self._back_to, None
        if membership == 0:
            return
        self._run.drain()
        with self._lock:
            last = self._reached = max(self._reached, position.step)
            committed = last - position.step if back_to is not None else 0
            if back_to is not None:
                self._return(membership, position.step)
        self._redone += committed
        goes_on = position.stage == Stage.SETTLED and not position.stopping and position.step < self._config.train.steps
        dropped = goes_on and reason not in {"worker joined", "worker left"}
        if committed or dropped:
            first, last = position.step + 1, max(last, position.step + 1)
            named = {"first": first, "last": last, "membership": membership}
            self._run.event(events.STEP_REDONE, **named, reason=reason, recorded=committed)

    def _observe_row(self, row: dict[str, Any]) -> None:
        step, membership = row["step"], row.get("membership", self._returned)
        seconds = row.get("step_seconds", 0.0) * len(row.get("worker_rank", []))
        with self._lock:
            self.last_step = max(self.last_step, step)
            # A row of before the return may be completed after it: it counts no more.
            if membership >= self._returned:
                self._reached = max(self._reached, step)
                self._worked.append((membership, step, seconds))

    def _return(self, membership: int, to: int) -> None:
        """The steps after `to` are computed again by `membership`, which may have begun with that by now."""
        before = [row for row in self._worked if row[0] < membership]
        since = [row for row in self._worked if row[0] >= membership]
        self._redone_seconds += sum(seconds for _, step, seconds in before if step > to)
        kept = [row for row in before if row[1] <= to]
        self._worked = deque([*kept, *since], maxlen=_REMEMBERED_STEPS)
        self._reached = max([to, *(step for _, step, _ in since)])
        self._returned = membership

    def _compare_determinism(self, worker: dict[str, Any]) -> None:
        """A worker of another class than the run was recorded with cannot be promised the same bits."""
        if worker["determinism"] != self._determinism:
            difference = {"determinism class": f"{self._determinism} of the run, {worker['determinism']} of the worker"}
            self._run.event(events.NODE_DIFFERS, node=worker["node"], rank=worker["rank"], differences=[difference])

    def _compare_node(self, content: dict[str, Any]) -> None:
        """Every node is compared with the first one that was recorded."""
        environment = json.loads((self._run.path / next(iter(content["environment"]))).read_bytes())
        if self._first_environment is None:
            self._first_environment = environment
        elif differences := node_differences(self._first_environment, environment):
            self._run.event(events.NODE_DIFFERS, node=content["node"], differences=differences)
