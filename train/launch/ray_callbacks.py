"""Ray Train's default callbacks, less those that start a process for what this project does not use.

Each costs more than a CPU second at the start. They travel to Ray's controller by value.
"""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback


class NoDatasets(WorkerGroupCallback):
    """Stands in for Ray Data's callback: workers get no provider of data shards, and no actor is started for one."""

    def before_init_train_context(self, workers: list[Any]) -> dict[str, list[Any]]:
        """What each worker's context is made with."""
        return {"dataset_shard_provider": [None] * len(workers)}


def without_unused(callbacks: list[Any], own_cluster: bool) -> list[Any]:
    """`callbacks` without datasets and, on a cluster that ends with the run anyway, without the resource cleaner."""
    unused = (DatasetsCallback, PlacementGroupCleanerCallback) if own_cluster else (DatasetsCallback,)
    return [NoDatasets(), *(callback for callback in callbacks if not isinstance(callback, unused))]
