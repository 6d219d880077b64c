"""Nodes that will go: their workers leave at a step boundary, as late as can be but before the node does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.workforce import Workforce
from train.membership.messages import Hello
from train.membership.server import CoordinatorServer

# So long before its node goes a worker leaves also where too few stay: a few steps and a checkpoint take their time.
LEAVE_SECONDS = 60.0

_REASON = "its node is drained"


class Draining:
    """Lets the workers of such nodes go, once `replace` has had another started in place of each.

    A worker leaves when enough others stay, or come. Where that has not happened LEAVE_SECONDS before the deadline, a
    checkpoint is saved and it leaves nevertheless: no committed step is lost, and those who stay wait for more. A node
    without a deadline is taken at its word: whoever cannot be done without stays there until it goes.
    """

    def __init__(
        self,
        workforce: Workforce,
        server: CoordinatorServer,
        roster: Roster,
        display: ProgressDisplay,
        replace: Callable[[Hello], object],
    ) -> None:
        self._workforce = workforce
        self._server = server
        self._roster = roster
        self._display = display
        self._replace = replace
        self._deadlines: dict[str, float] = {}
        self._urged: set[str] = set()

    def announce(self, nodes: Mapping[str, float | None]) -> None:
        """These nodes will go: id to the deadline (POSIX seconds), None where there is none."""
        for node, deadline in nodes.items():
            if self._roster.node_drains(node, deadline):
                self._display.say(f"node {node[:12]} is being drained: its workers leave at a step boundary", "yellow")
            if deadline is not None:
                self._deadlines[node] = deadline
        there = list(self._workforce.connected.values())
        if there and all(hello.node in self._roster.draining for hello in there):
            # Nobody may be there in time to take the state over.
            self._server.call(lambda coordinator, _: coordinator.save_soon())
        for hello in there:
            self.let_go(hello)

    def let_go(self, hello: Hello) -> None:
        """Have a worker leave if its node will go."""
        if hello.node in self._roster.draining:
            self._workforce.let_go(hello.worker, _REASON)
            # Who leaves may have to wait for who comes.
            self._replace(hello)

    def look(self) -> None:
        """Have those leave at last whose node is about to go."""
        for worker, hello in self._workforce.connected.items():
            deadline = self._deadlines.get(hello.node)
            if deadline is not None and time.time() > deadline - LEAVE_SECONDS and worker not in self._urged:
                self._urged.add(worker)
                self._workforce.urge(worker, _REASON)
