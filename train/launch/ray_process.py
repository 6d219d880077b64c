"""Ray, in a process of its own: the driver outlives the cluster, and Ray's threads, signals and output stay apart.

Run as `python -m train.launch.ray_process <fd>`; `fd` is a socket on which the driver says what to do, one JSON object
a line, and is told what happens. It ends, and with it a cluster that it started, when the driver does. Ray is touched
here, in `ray_tables` and in `bootstrap` only; `tests/train/launch/test_ray_contract.py` pins what is used.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.launch.ray_tables import evidence_of, is_running

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_OBJECT_STORE_BYTES = 256 << 20
_POLL_SECONDS = 0.05
_NODES_SECONDS = 0.5
# Ray's tables learn of a death from different processes: how long to wait until they agree.
_EVIDENCE_SECONDS = 1.0
# Ray that cannot be had now may be had later: how long to wait before whoever wants it may ask again.
_REFUSED_SECONDS = 5.0
# How long the end of a run waits for killed workers, and then for nodes to free its memory.
_FORGET_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass
class _Actor:
    """A worker's actor. `ended` is when its end was seen, with what Ray raised."""

    handle: Any
    result: Any
    runs: bool = False
    ended: float | None = None
    error: BaseException | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


class RayProcess:
    """Does what the driver says on `channel`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = b""
        self._settings: dict[str, Any] = {}
        self._actors: dict[str, _Actor] = {}
        self._archive: Any = None
        self._job: dict[str, Any] | None = None
        self._nodes: dict[str, dict[str, Any]] = {}
        self._draining: dict[str, int] = {}
        self._end = math.inf

    def serve(self) -> None:
        """Until the driver is gone or says `close`, or for a while where Ray could not be had."""
        next_look = 0.0
        while time.monotonic() < self._end:
            if select.select([self._channel], [], [], _POLL_SECONDS)[0] and not self._obey():
                return
            if not self._settings:
                continue
            self._look_at_actors()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + _NODES_SECONDS
                self._look_who_runs()
                self._look_at_nodes()

    def _obey(self) -> bool:
        """Do what was said; whether to go on."""
        data = self._channel.recv(1 << 20)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "close":
                return False
            getattr(self, f"_{order.pop('do')}")(**order)
        return bool(data)

    def _say(self, say: str, **content: Any) -> None:
        self._channel.sendall(json.dumps({"say": say, **content}).encode() + b"\n")

    def _open(self, **settings: Any) -> None:
        """Start Ray, or connect to it."""
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        import ray

        common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "namespace": settings["name"]}
        cpus = settings["workers"] * settings["cpus_per_worker"]
        try:
            if settings["address"] == "local":
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    num_gpus=settings["gpus"],
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **common,
                )
            else:
                ray.init(address=settings["address"], **common)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            self._say("refused", reason=f"Ray cannot be reached with cluster.address={settings['address']}: {reason}")
            self._end = time.monotonic() + _REFUSED_SECONDS
            return
        self._settings = settings
        self._say("ready", workers=self._room(), address=ray.util.get_node_ip_address())

    def _room(self) -> int:
        """For how many workers the nodes that live have resources, used or not."""
        import ray

        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 0)) // self._settings["cpus_per_worker"]
        if self._settings["gpus"]:
            room = min(room, int(resources.get("GPU", 0)))
        return int(room)

    def _source(self, archive: str, code: str) -> None:
        """The code that workers run: the recorded archive, unpacked below `code`."""
        import ray

        self._archive = ray.put(Path(archive).read_bytes())
        self._settings["code"] = code

    def _start(self, worker: str, job: dict[str, Any]) -> None:
        import ray
        from ray import cloudpickle

        from train.launch import bootstrap

        cloudpickle.register_pickle_by_value(bootstrap)
        # A cluster of our own has room for every worker: a replacement need not wait until Ray has seen the loss.
        own = self._settings["address"] == "local"
        actor: Any = ray.remote(bootstrap.Worker)
        handle = actor.options(
            num_cpus=0 if own else self._settings["cpus_per_worker"],
            num_gpus=1 if self._settings["gpus"] else 0,
            max_restarts=0,
            scheduling_strategy="DEFAULT" if own else "SPREAD",
        ).remote()
        arguments = {"archive": self._archive, "code": self._settings["code"], "job": job}
        self._job = job
        self._actors[worker] = _Actor(handle, handle.run.remote(arguments))

    def _kill(self, worker: str) -> None:
        import ray

        if (actor := self._actors.get(worker)) is not None:
            ray.kill(actor.handle)

    def _forget(self, nodes: list[str] | None) -> None:
        """Kill every worker, and free what the run has in the memory of `nodes` (None: of all), of those that live."""
        if self._job is None:
            return
        import ray
        from ray import cloudpickle
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from train.launch import bootstrap

        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in alive if nodes is None or node in nodes]
        if not there:
            return
        for actor in self._actors.values():
            ray.kill(actor.handle)
        _wait([actor.result for actor in self._actors.values()])
        cloudpickle.register_pickle_by_value(bootstrap)
        task: Any = ray.remote(bootstrap.forget)
        arguments = {"code": self._settings["code"], "job": self._job}
        _wait([task.options(num_cpus=0, max_retries=0, scheduling_strategy=one).remote(arguments) for one in there])

    def _look_at_actors(self) -> None:
        import ray

        running = {actor.result: worker for worker, actor in self._actors.items() if actor.ended is None}
        if running:
            for result in ray.wait(list(running), num_returns=len(running), timeout=0)[0]:
                actor = self._actors[running[result]]
                actor.ended = time.monotonic()
                try:
                    ray.get(result)
                    ray.kill(actor.handle)
                except Exception as error:
                    actor.error = error
        for worker, actor in list(self._actors.items()):
            if actor.ended is not None and self._is_known(actor):
                del self._actors[worker]
                died = isinstance(actor.error, ray.exceptions.RayActorError)
                if actor.error is not None and not died:
                    ray.kill(actor.handle)
                    actor.evidence["exception"] = {"message": str(actor.error)[:2000]}
                self._say("ended", worker=worker, died=died, evidence=actor.evidence)

    def _look_who_runs(self) -> None:
        """An actor waits for room as long as it takes; from when it has some, it is expected to get on."""
        for worker, actor in self._actors.items():
            if not actor.runs and actor.ended is None and is_running(actor.handle):
                actor.runs = True
                self._say("started", worker=worker)

    def _is_known(self, actor: _Actor) -> bool:
        """Whether all that Ray's tables will tell of the actor's end is in its evidence."""
        import ray

        if not isinstance(actor.error, ray.exceptions.RayActorError):
            return True
        actor.evidence = evidence_of(actor.handle) | {"message": str(actor.error)[:2000]}
        assert actor.ended is not None
        complete = {"actor", "worker_exit_type"} <= actor.evidence.keys()
        return complete or time.monotonic() - actor.ended > _EVIDENCE_SECONDS

    def _look_at_nodes(self) -> None:
        import ray
        import ray._private.state

        nodes = {
            node["NodeID"]: {
                "alive": node["Alive"],
                "address": node["NodeManagerAddress"],
                "death_reason": node.get("DeathReason"),
                "death_message": node.get("DeathReasonMessage"),
            }
            for node in ray.nodes()
        }
        if nodes != self._nodes:
            self._nodes = nodes
            self._say("nodes", nodes=nodes, workers=self._room())
        draining = ray._private.state.state.get_draining_nodes()
        if draining != self._draining:
            self._draining = dict(draining)
            # Ray's deadlines are in milliseconds, 0 where there is none.
            self._say("draining", nodes={node: ms / 1000 if ms else None for node, ms in draining.items()})


def _wait(results: list[Any]) -> None:
    """Wait for the end of all, whatever it is, but not for long."""
    import ray

    if results:
        ray.wait(results, num_returns=len(results), timeout=_FORGET_SECONDS)


def main() -> None:
    """Serve, then end everything that was started, at once."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    process = RayProcess(socket.socket(fileno=int(sys.argv[1])))
    try:
        process.serve()
    finally:
        import ray

        ray.shutdown()
        # Ray's threads abort a usual exit now and then.
        os._exit(0)


if __name__ == "__main__":
    main()
