"""What starts and kills worker processes, as the supervisor sees it. `ray_launcher` is the one for Ray."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from train.launch.job import Job


@dataclass(frozen=True)
class ClusterReady:
    """Workers can be started; there is room for `workers`."""

    workers: int


@dataclass(frozen=True)
class ClusterRefused:
    """There will be no cluster: what is wrong, in one line."""

    reason: str


@dataclass(frozen=True)
class ClusterLost:
    """The whole cluster went, and all workers with it."""

    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class ProcessStarted:
    """There was room for a worker, and its process runs."""

    worker: str


@dataclass(frozen=True)
class ProcessEnded:
    """A worker's process ended. `died` tells a lost process from one that returned or raised an exception."""

    worker: str
    died: bool
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodesChanged:
    """The nodes of the cluster: id to `alive`, `address`, `death_reason` and `death_message`.

    There is room for `workers` on those that live.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    workers: int


@dataclass(frozen=True)
class NodesDraining:
    """Nodes that will go: id to the deadline (POSIX seconds, None when there is none)."""

    nodes: Mapping[str, float | None]


Report = ClusterReady | ClusterRefused | ClusterLost | ProcessStarted | ProcessEnded | NodesChanged | NodesDraining


class Launcher(Protocol):
    """Starts workers somewhere, and reports what becomes of them into the queue it was made with."""

    def start(self, job: Job) -> None:
        """Start a worker when there is room for it."""

    def kill(self, worker: str) -> None:
        """Kill a worker's process, or take back that it was to be started. Unknown and dead ones are passed over."""

    def reopen(self) -> None:
        """Begin again after `ClusterLost`; `ClusterReady` or another `ClusterLost` follows."""

    def close(self) -> None:
        """Kill every worker and stop what was started for them."""


Reports = queue.SimpleQueue[Any]
