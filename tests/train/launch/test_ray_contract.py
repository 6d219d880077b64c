"""What `train/launch/ray_cluster.py` uses of Ray, also beyond its documentation: fails loudly on an upgrade."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal import constants
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from train.launch import ray_cluster


def test_the_pinned_version_is_installed() -> None:
    assert version("ray") == "2.60.0"


def test_every_variable_that_is_set_is_read_by_ray() -> None:
    known = {value for value in vars(constants).values() if isinstance(value, str)}
    of_train = {name for name in ray_cluster._ENVIRONMENT if name.startswith("RAY_TRAIN_")}
    assert of_train <= known


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        (TorchTrainer, {"train_loop_config", "torch_config", "scaling_config", "run_config"}),
        (TorchConfig, {"backend"}),
        (ScalingConfig, {"num_workers", "use_gpu", "resources_per_worker", "placement_strategy"}),
        (RunConfig, {"name", "storage_path", "failure_config"}),
        (FailureConfig, {"max_failures"}),
    ],
)
def test_arguments_that_are_passed_exist(target: type, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(target).parameters)


def test_a_lost_worker_is_told_from_one_that_raised() -> None:
    lost = WorkerHealthCheckFailedError("gone", RayActorError())
    error = WorkerGroupError("two failed", {0: lost, 1: RuntimeError("own")})
    assert error.worker_failures[0] is lost
    assert ray_cluster._has_cause(error.worker_failures[0], RayActorError)
    assert not ray_cluster._has_cause(error.worker_failures[1], RayActorError)


def test_the_bootstrap_travels_by_value_without_this_project() -> None:
    from train.launch import bootstrap

    cloudpickle.register_pickle_by_value(bootstrap)
    try:
        pickled = cloudpickle.dumps(bootstrap.start_worker)
    finally:
        cloudpickle.unregister_pickle_by_value(bootstrap)
    assert b"start_worker" in pickled
    assert b"unpacked" in pickled, "the body itself must travel"


def test_callbacks_that_start_unused_processes_are_left_out() -> None:
    from train.launch.ray_callbacks import NoDatasets, without_unused

    names = [type(callback).__name__ for callback in TorchTrainer(print)._create_default_callbacks()]
    callbacks = TorchTrainer(print)._create_default_callbacks()
    left = [type(callback).__name__ for callback in without_unused(callbacks, own_cluster=True)]
    assert set(names) - set(left) == {"DatasetsCallback", "PlacementGroupCleanerCallback"}
    assert set(left) - set(names) == {"NoDatasets"}
    assert NoDatasets().before_init_train_context([1, 2]) == {"dataset_shard_provider": [None, None]}
    kept = [type(callback).__name__ for callback in without_unused(callbacks, own_cluster=False)]
    assert "PlacementGroupCleanerCallback" in kept
