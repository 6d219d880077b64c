"""A Ray cluster of several nodes on this machine, whose nodes can be lost, drained and added while a run trains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

# Settings with which Ray takes a node that is gone for dead after 2 s, instead of 14.
QUICK_TO_NOTICE = {"health_check_period_ms": 400, "health_check_initial_delay_ms": 400}


class Nodes:
    """The cluster behind `address`: a head on which no worker fits, and nodes with room for one worker each."""

    def __init__(self, count: int, ray_settings: dict[str, int] | None = None) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": ray_settings}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._nodes: dict[str, Any] = {}
        for _ in range(count):
            self.add()

    def add(self) -> str:
        """Another node; its id."""
        node = self._cluster.add_node(num_cpus=1)
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def lose(self, node: str) -> None:
        """Kill every process of the node at once."""
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=False)

    def lose_any(self) -> None:
        """Lose one of the nodes on which a worker fits."""
        self.lose(next(iter(self._nodes)))

    def drain(self, node: str, seconds: float) -> None:
        """Announce that the node will go in so many seconds, as a cloud does before it takes a machine back.

        Ray takes the node down when nothing runs on it any more.
        """
        del self._nodes[node]
        client: Any = GcsClient(address=self.address)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + seconds) * 1000)
        accepted, message = client.drain_node(node, reason, "preemption", deadline)
        assert accepted, message

    def restore(self, count: int) -> None:
        """As many nodes as at the beginning, for the next test."""
        while len(self._nodes) < count:
            self.add()

    def shutdown(self) -> None:
        """Stop the whole cluster."""
        self._cluster.shutdown()


@contextmanager
def nodes(count: int, ray_settings: dict[str, int] | None = None) -> Iterator[Nodes]:
    """A cluster of `count` nodes and a head, for as long as the block lasts."""
    cluster = Nodes(count, ray_settings)
    try:
        yield cluster
    finally:
        cluster.shutdown()
        ray.shutdown()
