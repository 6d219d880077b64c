"""What the driver and its process for Ray say to each other; a script that obeys a test is in place of that process."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.commands import REPOSITORY
from helpers.launching import make_job

from recorder.checkpoint import snapshot
from recorder.checkpoint.memory import memory_folder
from recorder.errors import MachineError
from train.config import ClusterConfig, Config
from train.launch import bootstrap, launcher, ray_launcher, ray_process
from train.launch.ray_launcher import RayLauncher
from train.launch.ray_process import RayProcess

# Appends what it is told to a file, and at each order does what the test says: it says something in pieces, or ends.
STAND_IN = """
    import json, os, signal, socket, sys
    channel, plan, notes = socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2]), open(sys.argv[3], "a")
    for line in channel.makefile():
        notes.write(line)
        notes.flush()
        for kind, content in plan.get(json.loads(line)["do"], []):
            if kind == "say":
                data = json.dumps(content).encode() + b"\\n"
                channel.sendall(data[:7])
                channel.sendall(data[7:])
            elif kind == "end":
                sys.exit(content)
            elif kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif kind == "hang":
                signal.pause()
        if json.loads(line)["do"] == "close":
            break
"""
READY = ("say", {"say": "ready", "workers": 3, "address": "10.0.0.9"})
ENDED = {"worker": "rank-0.0", "died": True, "evidence": {"exit_code": 3}}


class StandIn:
    """What the stand-in does at each order, and what it has been told."""

    def __init__(self, folder: Path) -> None:
        self.plan: dict[str, list[tuple[str, Any]]] = {"open": [READY]}
        self.notes = folder / "notes"
        self._script = folder / "stand_in.py"
        self._script.write_text(textwrap.dedent(STAND_IN))
        self.processes: list[subprocess.Popen[bytes]] = []

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:-1] == [sys.executable, "-m", "train.launch.ray_process"]
        arguments = [sys.executable, str(self._script), command[-1], json.dumps(self.plan), str(self.notes)]
        self.processes.append(subprocess.Popen(arguments, **options))
        return self.processes[-1]

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text().splitlines()]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)

    class Subprocess:
        DEVNULL, TimeoutExpired, Popen = subprocess.DEVNULL, subprocess.TimeoutExpired, staticmethod(stand_in.popen)

    monkeypatch.setattr(ray_launcher, "subprocess", Subprocess)
    yield stand_in
    for process in stand_in.processes:
        process.kill()
        process.wait()


@pytest.fixture
def reports() -> queue.SimpleQueue[Any]:
    return queue.SimpleQueue()


def launch(config: Config, reports: queue.SimpleQueue[Any], **cluster: Any) -> RayLauncher:
    return RayLauncher(ClusterConfig(**config.cluster.model_dump() | cluster), "demo", 0, reports)


def test_everything_is_told_in_order(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any], tmp_path: Path
) -> None:
    starter = launch(config, reports, cpus_per_worker=2)
    assert starter.wait_until_ready() == 3
    job = make_job(1, 2)
    starter.use_source(tmp_path / "source.tar.gz", tmp_path / "code")
    starter.start(job)
    starter.kill("rank-1.2")
    starter.forget({"node-b"})
    starter.close()
    assert stand_in.told() == [
        {"do": "open", "address": "local", "workers": 3, "cpus_per_worker": 2, "gpus": 0, "name": "demo"},
        {"do": "source", "archive": str(tmp_path / "source.tar.gz"), "code": str(tmp_path / "code")},
        {"do": "start", "worker": "rank-1.2", "job": job.message()},
        {"do": "kill", "worker": "rank-1.2"},
        {"do": "close"},
    ]
    assert stand_in.processes[0].returncode == 0
    assert reports.empty(), "an end that was asked for is no loss"
    starter.close()


@pytest.mark.parametrize(("address", "own"), [("local", "127.0.0.1"), ("auto", "10.0.0.9")])
def test_the_drivers_address_is_that_by_which_workers_reach_it(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any], address: str, own: str
) -> None:
    starter = launch(config, reports, address=address)
    starter.wait_until_ready()
    assert starter.address == own
    starter.close()


@pytest.mark.parametrize(
    ("nodes", "told"), [({"b", "a"}, [["a", "b"]]), (None, [None]), (set(), [])], ids=["some", "all", "none"]
)
def test_nodes_of_somebody_elses_cluster_are_tidied_at_the_end(
    stand_in: StandIn,
    config: Config,
    reports: queue.SimpleQueue[Any],
    nodes: set[str] | None,
    told: list[list[str] | None],
) -> None:
    starter = launch(config, reports, address="auto")
    starter.wait_until_ready()
    starter.forget(nodes)
    starter.close()
    assert [order["nodes"] for order in stand_in.told() if order["do"] == "forget"] == told


def test_what_happens_is_reported(stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any]) -> None:
    nodes = {"a": {"alive": True, "address": "10.0.0.1", "death_reason": 0, "death_message": ""}}
    said = [
        {"say": "started", "worker": "rank-0.0"},
        {"say": "ended", **ENDED},
        {"say": "nodes", "nodes": nodes, "workers": 4},
        {"say": "draining", "nodes": {"a": 1.5, "b": None}},
    ]
    stand_in.plan["start"] = [("say", message) for message in said]
    starter = launch(config, reports)
    starter.wait_until_ready()
    starter.start(make_job(0, 0))
    assert [reports.get(timeout=60) for _ in said] == [
        launcher.ProcessStarted("rank-0.0"),
        launcher.ProcessEnded("rank-0.0", died=True, evidence={"exit_code": 3}),
        launcher.NodesChanged(nodes, 4),
        launcher.NodesDraining({"a": 1.5, "b": None}),
    ]
    starter.close()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            [("say", {"say": "refused", "reason": "Ray cannot be reached with x"}), ("end", 0)],
            "cannot be reached with x",
        ),
        ([("end", 1)], "Ray ended while it was being started; its messages are in the driver's log"),
    ],
)
def test_a_ray_that_cannot_be_had_is_one_clear_error(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any], plan: list[tuple[str, Any]], words: str
) -> None:
    stand_in.plan["open"] = plan
    starter = launch(config, reports)
    with pytest.raises(MachineError, match=words):
        starter.wait_until_ready()
    starter.close()


@pytest.mark.parametrize(
    ("end", "evidence"), [(("kill", None), {"exit_signal": "SIGKILL"}), (("end", 3), {"exit_code": 3})]
)
def test_a_cluster_that_is_lost_can_be_begun_again(
    stand_in: StandIn,
    config: Config,
    reports: queue.SimpleQueue[Any],
    tmp_path: Path,
    end: tuple[str, Any],
    evidence: dict[str, Any],
) -> None:
    stand_in.plan["kill"] = [end]
    starter = launch(config, reports)
    starter.wait_until_ready()
    starter.use_source(tmp_path / "archive", tmp_path / "code")
    starter.kill("rank-0.0")
    assert reports.get(timeout=60) == launcher.ClusterLost(evidence)
    starter.start(make_job(0, 0))  # nobody hears it; the driver learns that from the report
    starter.reopen()
    assert reports.get(timeout=60) == launcher.ClusterReady(3)
    starter.close()
    assert [order["do"] for order in stand_in.told()] == ["open", "source", "kill", "open", "source", "close"]
    assert reports.empty()


def test_a_cluster_that_cannot_be_begun_again_is_reported(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any]
) -> None:
    stand_in.plan["kill"] = [("kill", None)]
    starter = launch(config, reports)
    starter.wait_until_ready()
    starter.kill("rank-0.0")
    reports.get(timeout=60)
    stand_in.plan["open"] = [("say", {"say": "refused", "reason": "not yet"}), ("end", 0)]
    starter.reopen()
    assert reports.get(timeout=60) == launcher.ClusterRefused("not yet")
    assert reports.get(timeout=60) == launcher.ClusterLost({"exit_code": 0})
    starter.close()


def test_a_process_that_does_not_end_is_killed(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_launcher, "_CLOSE_SECONDS", 0.05)
    stand_in.plan["close"] = [("hang", None)]
    starter = launch(config, reports)
    starter.wait_until_ready()
    starter.close()
    assert stand_in.processes[0].returncode == -signal.SIGKILL


def test_ctrl_c_and_the_standard_input_are_not_for_it(
    stand_in: StandIn, config: Config, reports: queue.SimpleQueue[Any]
) -> None:
    starter = launch(config, reports)
    starter.wait_until_ready()
    process = stand_in.processes[0]
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    assert str(Path(f"/proc/{process.pid}/fd/0").readlink()) == os.devnull
    starter.close()


class Refuses:
    """Ray where there is none."""

    @staticmethod
    def init(**options: Any) -> None:
        raise ConnectionError("nobody is there\nand more of that")


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RayProcess, socket.socket]]:
    monkeypatch.setitem(sys.modules, "ray", Refuses)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield RayProcess(theirs), ours


def test_the_process_ends_after_it_could_not_have_ray(
    channel: tuple[RayProcess, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise whoever waits for `ready` or for its end would wait for ever."""
    monkeypatch.setattr(ray_process, "_REFUSED_SECONDS", 0.0)
    process, driver = channel
    order = {"do": "open", "address": "10.0.0.9:6379", "workers": 2, "cpus_per_worker": 1, "gpus": 0, "name": "demo"}
    driver.sendall(json.dumps(order).encode() + b"\n")
    process.serve()
    said = json.loads(driver.recv(1 << 16))
    reason = "Ray cannot be reached with cluster.address=10.0.0.9:6379: nobody is there"
    assert said == {"say": "refused", "reason": reason}


class Cluster:
    """As much of Ray as ends a run on two nodes, one of which is lost."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.exceptions = type("exceptions", (), {"RayActorError": RuntimeError})

    def kill(self, handle: str) -> None:
        self.done.append(("kill", handle))

    def wait(self, results: list[Any], num_returns: int, timeout: float) -> None:
        assert num_returns == len(results) > 0
        assert timeout <= 5
        self.done.append(("wait", results))

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node, "Alive": alive} for node, alive in (("a", True), ("b", False), ("c", True))]

    def remote(self, function: Any) -> Any:
        class Task:
            def __init__(self, node: str = "") -> None:
                self._node = node

            def options(self, num_cpus: int, max_retries: int, scheduling_strategy: tuple[str, bool]) -> Task:
                assert (num_cpus, max_retries, scheduling_strategy[1]) == (0, 0, False)
                return Task(scheduling_strategy[0])

            def remote(self, arguments: dict[str, Any]) -> Any:
                return (function.__name__, self._node, arguments["code"], arguments["job"]["bundle"])

        return Task()


@pytest.mark.parametrize(("nodes", "asked"), [(["b", "c"], ["c"]), (None, ["a", "c"])])
def test_what_is_in_memory_is_removed_on_nodes_that_live_when_no_worker_is_left(
    channel: tuple[RayProcess, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[str] | None,
    asked: list[str],
) -> None:
    cluster = Cluster()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)  # type: ignore[attr-defined]
    cluster.cloudpickle = ModuleType("cloudpickle")  # type: ignore[attr-defined]
    cluster.cloudpickle.register_pickle_by_value = lambda module: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", cluster)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    process, _ = channel
    process._forget(nodes)
    assert cluster.done == [], "nobody was started"
    process._settings = {"code": "/code"}
    process._job = make_job(0, 0).message()
    process._actors["rank-0.0"] = ray_process._Actor("handle", "result")
    process._forget(["b"])
    assert cluster.done == [], "nobody is waited for in vain"
    process._forget(nodes)
    tasks = [("forget", node, "/code", "bundle") for node in asked]
    assert cluster.done == [("kill", "handle"), ("wait", ["result"]), ("wait", tasks)]


def test_a_node_forgets_what_the_run_has_in_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_ROOT", tmp_path / "memory")
    monkeypatch.setattr(sys, "path", list(sys.path))
    bundle = tmp_path / "runs" / "demo"
    bundle.mkdir(parents=True)
    (bundle / "run.json").write_text("{}")
    folder = memory_folder(bundle, "node-a") / "step-00000010"
    folder.mkdir(parents=True)
    job = make_job(0, 0).message() | {"bundle": str(bundle), "source_digest": REPOSITORY.name}
    bootstrap.forget({"code": str(REPOSITORY.parent), "job": job})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo", "memory", "run.json", "runs"]


@pytest.mark.parametrize("how", ["is told to", "is alone", "is told to in pieces"])
def test_the_process_ends_when_it(channel: tuple[RayProcess, socket.socket], how: str) -> None:
    process, driver = channel
    if how == "is alone":
        driver.close()
    else:
        message = b'{"do": "close"}\n'
        driver.sendall(message if how == "is told to" else message[:5])
        if how == "is told to in pieces":
            process._obey()
            driver.sendall(message[5:])
    process.serve()
