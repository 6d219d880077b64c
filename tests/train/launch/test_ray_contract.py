"""What `train/launch/ray_process.py`, `ray_tables.py` and `bootstrap.py` use of Ray, also beyond its documentation.

Fails loudly on an upgrade.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
import ray
import ray._private.state
from helpers.clusters import Nodes, nodes
from helpers.commands import wait_until_gone
from ray import cloudpickle
from ray.core.generated import common_pb2, gcs_pb2
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recorder.nodes.cause import cause
from train.launch.ray_tables import evidence_of, is_running


def test_the_pinned_version_is_installed() -> None:
    assert version("ray") == "2.60.0"


def test_arguments_that_are_passed_exist() -> None:
    used = {"address", "num_cpus", "num_gpus", "include_dashboard", "object_store_memory", "log_to_driver"}
    assert used | {"configure_logging", "namespace"} <= inspect.signature(ray.init).parameters.keys()


def test_names_that_a_cause_is_made_of_exist() -> None:
    """Enums are matched, never the text of a message."""
    common: Any = common_pb2
    gcs: Any = gcs_pb2
    exit_types = {"NODE_OUT_OF_MEMORY", "SYSTEM_ERROR", "USER_ERROR", "INTENDED_SYSTEM_EXIT", "INTENDED_USER_EXIT"}
    assert exit_types <= set(common.WorkerExitType.keys())
    oneof = {field.name for field in common.ActorDeathCause.DESCRIPTOR.oneofs_by_name["context"].fields}
    assert {"oom_context", "actor_died_error_context", "creation_task_failure_context"} <= oneof
    assert {"NODE_DIED", "WORKER_DIED", "RAY_KILL"} <= set(common.ActorDiedErrorContext.Reason.keys())
    assert common.NodeDeathInfo.Reason.Value("AUTOSCALER_DRAIN_PREEMPTED") == 3
    row = {"pid", "worker_address", "is_alive", "exit_type", "exit_detail"}
    assert row <= set(gcs.WorkerTableData.DESCRIPTOR.fields_by_name)


def test_the_bootstrap_travels_by_value_without_this_project() -> None:
    from train.launch import bootstrap

    cloudpickle.register_pickle_by_value(bootstrap)
    try:
        pickled = cloudpickle.dumps(bootstrap.Worker)
    finally:
        cloudpickle.unregister_pickle_by_value(bootstrap)
    assert b"start_worker" in pickled
    assert b"unpacked" in pickled, "the body itself must travel"


class Sitter:
    """An actor that does what it is told."""

    def pid(self) -> int:
        return os.getpid()

    def wait(self) -> None:
        signal.pause()

    def fail(self) -> None:
        raise KeyError("own")

    def leave(self, code: int) -> None:
        os._exit(code)


class Stillborn(Sitter):
    def __init__(self) -> None:
        raise KeyError("in the beginning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A head and two nodes with room for one actor each."""
    with nodes(2) as cluster:
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False, namespace="contract")
        yield cluster
        ray.shutdown()


def start(kind: type = Sitter) -> Any:
    """An actor as `ray_process` starts it on a cluster of somebody else's."""
    # What is of this file must not be looked for by name on the other side.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    actor: Any = ray.remote(kind)
    return actor.options(num_cpus=1, num_gpus=0, max_restarts=0, scheduling_strategy="SPREAD").remote()


def end_of(result: Any) -> BaseException:
    """What Ray raises in place of a result."""
    assert ray.wait([result], timeout=60)[0] == [result]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the kind is what is asked for
        ray.get(result)
    return caught.value


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` gives once it is true: Ray's tables learn of things one after the other."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def complete_evidence(handle: Any) -> dict[str, Any]:
    evidence: dict[str, Any] = wait_for(
        lambda: found if {"actor", "worker_exit_type"} <= (found := evidence_of(handle)).keys() else None
    )
    return evidence


@pytest.mark.cluster
def test_a_killed_process_is_a_death_and_ray_does_not_know_whose_fault(cluster: Nodes) -> None:
    handle = start()
    pid = ray.get(handle.pid.remote())
    assert is_running(handle)
    result = handle.wait.remote()
    os.kill(pid, signal.SIGKILL)
    assert isinstance(end_of(result), ray.exceptions.RayActorError)
    evidence = complete_evidence(handle)
    assert evidence["actor"]["death_cause"] == "actor_died_error_context"
    assert evidence["actor"]["reason"] == "WORKER_DIED"
    assert evidence["worker_exit_type"] == "SYSTEM_ERROR"
    assert evidence["node"]["alive"] is True
    assert cause(evidence) == "unknown"
    assert cause(evidence | {"exit_signal": "SIGKILL"}) == "signal SIGKILL"


@pytest.mark.cluster
def test_a_task_is_done_on_the_node_that_is_named(cluster: Nodes) -> None:
    def where() -> str:
        return str(ray.get_runtime_context().get_node_id())

    task: Any = ray.remote(where)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    done = [task.options(num_cpus=0, max_retries=0, scheduling_strategy=one).remote() for one in there]
    assert ray.get(done, timeout=60) == nodes


@pytest.mark.cluster
def test_an_exception_in_a_method_is_no_death(cluster: Nodes) -> None:
    handle = start()
    error = end_of(handle.fail.remote())
    assert not isinstance(error, ray.exceptions.RayActorError)
    assert "KeyError" in str(error)
    pid = ray.get(handle.pid.remote())
    ray.kill(handle)
    assert wait_until_gone([pid], 30) == []


@pytest.mark.cluster
def test_an_actor_that_cannot_begin_died_of_an_exception(cluster: Nodes) -> None:
    handle = start(Stillborn)
    assert isinstance(end_of(handle.wait.remote()), ray.exceptions.RayActorError)
    evidence = wait_for(lambda: found if "actor" in (found := evidence_of(handle)) else None)
    assert evidence["actor"]["death_cause"] == "creation_task_failure_context"
    assert cause(evidence) == "exception"


@pytest.mark.cluster
def test_a_stopped_process_can_be_killed_and_its_place_is_free_again(cluster: Nodes) -> None:
    both = [start(), start()]
    pids = [ray.get(handle.pid.remote()) for handle in both]
    result = both[0].wait.remote()
    os.kill(pids[0], signal.SIGSTOP)
    ray.kill(both[0])
    assert isinstance(end_of(result), ray.exceptions.RayActorError)
    assert wait_until_gone(pids[:1], 30) == []
    third = start()
    assert ray.get(third.pid.remote(), timeout=60) not in pids
    for handle in (both[1], third):
        ray.kill(handle)
    assert wait_until_gone(pids, 30) == []


@pytest.mark.cluster
def test_a_node_that_drains_says_until_when_and_one_that_is_lost_says_so(cluster: Nodes) -> None:
    """Takes both nodes down: the last test of this module."""
    both = [start(), start()]
    pids = [ray.get(handle.pid.remote()) for handle in both]
    results = [handle.wait.remote() for handle in both]
    own, other = (wait_for(lambda handle=handle: evidence_of(handle).get("node"))["id"] for handle in both)
    assert own != other

    assert ray._private.state.state.get_draining_nodes() == {}
    before = time.time() * 1000
    cluster.drain(other, 600)
    draining = wait_for(ray._private.state.state.get_draining_nodes)
    assert list(draining) == [other]
    assert before + 500_000 < draining[other] < before + 700_000, "milliseconds since 1970"

    cluster.lose(own)
    assert isinstance(end_of(results[0]), ray.exceptions.RayActorError)
    assert wait_until_gone(pids[:1], 30) == []
    wait_for(lambda: evidence_of(both[0])["node"]["alive"] is False)
    evidence = evidence_of(both[0])
    assert isinstance(evidence["node"]["death_reason"], int)
    assert cause(evidence) == "node lost"
    for node in ray.nodes():
        assert {"NodeID", "Alive", "NodeManagerAddress", "DeathReason", "DeathReasonMessage"} <= node.keys()
    ray.kill(both[1])
