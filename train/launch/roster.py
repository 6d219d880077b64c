"""Who is in the run: what workers and Ray say about workers and nodes, joined into events and a verdict."""

from __future__ import annotations

import json
from typing import Any

from recorder.capture.differences import node_differences
from recorder.ledger import events
from recorder.run import Run
from train.config import Config
from train.launch.ray_cluster import Loss


class Roster:
    """Follows one attempt. `observe` is called from the collector's thread, the rest from the driver's."""

    def __init__(self, run: Run, config: Config, determinism: str) -> None:
        self._run = run
        self._determinism = determinism
        self._first_environment: dict[str, Any] | None = None
        self._config = config
        self._membership = 0
        self._joined: dict[int, dict[str, Any]] = {}
        self._finished: dict[int, dict[str, Any]] = {}
        self._nodes: dict[str, bool] = {}
        self._start_step = 0
        self._exchange_failed = False
        self._last_step = 0
        self.exceptions: list[dict[str, Any]] = []
        self.signals = 0
        self.lost = 0
        self.evaluation: dict[str, Any] | None = None
        self.loss: float | None = None

    @property
    def working(self) -> bool:
        """Whether the workers of the present launch have joined, so that they can be asked to stop in order."""
        return bool(self._joined)

    def begin_membership(self, membership: int, start_step: int) -> None:
        """A group of workers is about to be launched; steps recorded beyond its start will be redone."""
        if membership and self._last_step > start_step:
            self._run.event(events.STEP_REDONE, first=start_step + 1, last=self._last_step, membership=membership)
        self._membership, self._start_step, self._last_step = membership, start_step, start_step
        self._joined, self._finished = {}, {}
        self._exchange_failed = False

    def observe(self, kind: str, content: dict[str, Any]) -> None:
        """Take one row or event of the run."""
        if kind == "row":
            self._last_step = max(self._last_step, content["step"])
            self.loss = float(content["loss"]) if "loss" in content else None
        elif kind == events.WORKER_JOINED:
            self._joined[content["rank"]] = content
            if len(self._joined) == self._config.cluster.workers:
                self._complete_membership()
            self._compare_determinism(content)
        elif kind == events.NODE_ENVIRONMENT:
            self._compare_node(content)
        elif kind == events.WORKER_FINISHED:
            self._finished[content["rank"]] = content
        elif kind == events.EXCHANGE_FAILED:
            self._exchange_failed = True
        elif kind == events.EXCEPTION:
            self.exceptions.append(content)
        elif kind == events.EVALUATED:
            self.evaluation = content

    def outcome(self, losses: list[Loss]) -> str | None:
        """How the group ended: an outcome of the attempt, or None when workers were lost and it may go on."""
        for loss in losses:
            if loss.died:
                self._lose(loss)
        if self.exceptions:
            return "failed"
        outcomes = {fields["outcome"] for fields in self._finished.values()}
        if not losses and len(self._finished) == self._config.cluster.workers:
            return "interrupted" if "interrupted" in outcomes else "finished"
        if any(loss.died for loss in losses) or self._exchange_failed:
            return None
        self._report_unexplained(losses)
        return "failed"

    def watch_nodes(self, nodes: dict[str, dict[str, Any]]) -> None:
        """Record nodes that came or went since the last look, as Ray tells it."""
        for node, state in nodes.items():
            if state["alive"] and not self._nodes.get(node, False):
                self._run.event(events.NODE_JOINED, node=node, address=state["address"])
            elif not state["alive"] and self._nodes.get(node, False):
                evidence = {name: state[name] for name in ("death_reason", "death_message")}
                self._run.event(events.NODE_LOST, node=node, cause="unknown", evidence=evidence)
            self._nodes[node] = state["alive"]

    def totals(self) -> dict[str, Any]:
        """What the end of the attempt says of it."""
        return {"workers_lost": self.lost, "last_step": self._last_step}

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

    def _complete_membership(self) -> None:
        workers = [self._joined[rank] for rank in sorted(self._joined)]
        named = [{name: worker[name] for name in ("rank", "node", "pid", "micro_batches")} for worker in workers]
        self._run.event(
            events.MEMBERSHIP_CHANGED, membership=self._membership, start_step=self._start_step, workers=named
        )

    def _report_unexplained(self, losses: list[Loss]) -> None:
        """Nobody died, and yet what the workers recorded of their end is not here."""
        message = (
            "the workers ended, but their records did not reach the driver: every node must see the folder "
            f"{self._run.spool_folder}; set recorder.spool to one that they share"
        )
        evidence = "; ".join(loss.evidence for loss in losses)
        fields = {"rank": None, "kind": "RecordMissing", "message": message, "traceback": evidence}
        self._run.event(events.EXCEPTION, expected=True, **fields)

    def _lose(self, loss: Loss) -> None:
        """Ray's word alone does not tell why a process went, so the cause stays unknown and the evidence is kept."""
        self.lost += 1
        worker = self._joined.get(loss.rank, {}) if loss.rank is not None else {}
        named = {name: worker.get(name) for name in ("node", "pid")}
        self._run.event(
            events.WORKER_LOST,
            rank=loss.rank,
            membership=self._membership,
            last_step=self._last_step,
            cause="unknown",
            evidence=loss.evidence,
            **named,
        )
