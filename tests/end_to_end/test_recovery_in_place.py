"""Real Ray clusters whose workers, nodes and drivers are killed while a run trains: the same bits, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.clusters import QUICK_TO_NOTICE, Nodes, nodes
from helpers.commands import (
    TINY,
    TrainProcess,
    bits,
    events_of,
    only_bundle,
    recorder,
    steps_of_newest,
    train,
    verify_json,
)

from recorder.bundle import layout

LONG = [*TINY, "train.steps=700", "checkpoint.every=200", "checkpoint.keep=0", "checkpoint.memory_every=10"]
# Ended by the test, whatever the pace of Ray and of the machine. The constant rate makes its steps those of any length.
ENDLESS = [*LONG, "optim.schedule=constant", "train.steps=100000"]
NODES = 3


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the run that nothing happened to, by one worker."""
    return undisturbed(tmp_path_factory.mktemp("straight"), LONG)


def undisturbed(folder: Path, arguments: list[str]) -> Path:
    done = train(folder, *arguments, "cluster.workers=1")
    assert done.code == 0, done.err
    return only_bundle(folder)


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Nodes]:
    """Three nodes with room for one worker each, and a head with none, where the driver is."""
    with nodes(NODES, QUICK_TO_NOTICE) as cluster:
        yield cluster


@pytest.fixture
def cluster(three_nodes: Nodes) -> Nodes:
    """The cluster, whole again after what the test before did to it."""
    three_nodes.restore(NODES)
    return three_nodes


class Watched:
    """A run on a cluster, waited for until something has happened in it."""

    def __init__(self, folder: Path, cluster: Nodes, *arguments: str) -> None:
        self._running = TrainProcess(folder, *LONG, f"cluster.address={cluster.address}", *arguments)
        self.pid = self._running.process.pid
        self.bundle = self._running.wait_for(lambda bundle: bool(events_of(bundle, "membership.changed")))

    def wait_for(self, condition: Callable[[Path], Any]) -> None:
        self._running.wait_for(condition)

    def workers(self, count: int, beyond: int = 10) -> list[dict[str, Any]]:
        """Wait for a membership of `count` workers that has committed `beyond` steps; its workers."""
        self.wait_for(lambda bundle: steps_of_newest(bundle, count) >= beyond)
        workers: list[dict[str, Any]] = events_of(self.bundle, "membership.changed")[-1]["fields"]["workers"]
        return workers

    def finish(self) -> None:
        done = self._running.wait()
        assert done.code == 0, done.err

    def interrupt(self) -> None:
        self._running.interrupt_group(signal.SIGINT)
        done = self._running.wait()
        assert done.code == 128 + signal.SIGINT, done.err

    def killed(self) -> None:
        self._running.wait()


def assert_equals(bundle: Path, straight: Path) -> None:
    """Bits of every step and of the final state, and a record without a finding."""
    assert bits(bundle) == bits(straight)
    last = layout.checkpoint_folder(max(bits(straight)))
    for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE):
        assert (bundle / last / name).read_bytes() == (straight / last / name).read_bytes()
    assert verify_json(bundle.parent.parent, bundle)["findings"] == []


def assert_equals_undisturbed(bundle: Path, folder: Path) -> None:
    """The same for an endless run, beside one that is made in `folder` and ends by itself where that one was ended."""
    folder.mkdir()
    assert_equals(bundle, undisturbed(folder, [*ENDLESS, f"train.steps={max(bits(bundle))}"]))


def pids(workers: list[dict[str, Any]]) -> dict[int, int]:
    return {worker["rank"]: worker["pid"] for worker in workers}


def test_nodes_are_lost_replaced_and_drained_in_place(cluster: Nodes, tmp_path: Path) -> None:
    """Without and with replacement, the node of rank 0, a drain with a deadline, two nodes at once: one run."""
    run = Watched(tmp_path, cluster, *ENDLESS, "cluster.workers=3")
    first = run.workers(3)
    cluster.lose(first[2]["node"])
    second = run.workers(2)
    assert pids(second) == {rank: pid for rank, pid in pids(first).items() if rank != 2}

    cluster.add()
    third = run.workers(3)
    assert pids(third) | {2: 0} == pids(first) | {2: 0}
    cluster.lose(third[0]["node"])
    fourth = run.workers(2)
    assert pids(fourth) == {rank: pid for rank, pid in pids(third).items() if rank != 0}

    cluster.add()
    fifth = run.workers(3)
    cluster.drain(fifth[1]["node"], seconds=30)
    sixth = run.workers(2)
    assert pids(sixth) == {rank: pid for rank, pid in pids(fifth).items() if rank != 1}
    drained = events_of(run.bundle, "worker.drained")
    assert [(event["fields"]["rank"], event["fields"]["pid"]) for event in drained] == [(1, pids(fifth)[1])]

    cluster.add()
    seventh = run.workers(3)
    cluster.lose(seventh[1]["node"])
    cluster.lose(seventh[2]["node"])
    last = run.workers(1)
    assert pids(last) == {0: pids(seventh)[0]}

    def lost(bundle: Path) -> list[int]:
        # A replacement may have been on its way to a node that was gone, and belongs to no membership.
        return [event["fields"]["pid"] for event in events_of(bundle, "worker.lost") if event["fields"]["pid"]]

    run.wait_for(lambda bundle: len(lost(bundle)) == 4)
    run.interrupt()
    assert sorted(lost(run.bundle)) == sorted([pids(first)[2], pids(third)[0], pids(seventh)[1], pids(seventh)[2]])
    assert {event["fields"]["recorded"] for event in events_of(run.bundle, "step.redone")} == {0}
    assert events_of(run.bundle, "checkpoint.restored") == []
    assert_equals_undisturbed(run.bundle, tmp_path / "undisturbed")


def test_a_node_lost_during_the_start_is_not_waited_for(cluster: Nodes, tmp_path: Path, straight: Path) -> None:
    running = TrainProcess(tmp_path, *LONG, f"cluster.address={cluster.address}", "cluster.workers=3")
    bundle = running.wait_for(lambda bundle: bool(events_of(bundle, "node.joined")))
    cluster.lose_any()
    done = running.wait()
    assert done.code == 0, done.err
    first = events_of(bundle, "membership.changed")[0]["fields"]
    assert (len(first["workers"]), first["start_step"]) == (NODES - 1, 0)
    assert_equals(bundle, straight)


def test_nobody_survives_and_the_run_goes_on_from_node_memory(cluster: Nodes, tmp_path: Path, straight: Path) -> None:
    """All workers at once; then Ray's own process of the driver, and with it the whole group."""
    run = Watched(tmp_path, cluster, "cluster.workers=3")
    for pid in pids(run.workers(3, beyond=25)).values():
        os.kill(pid, signal.SIGKILL)
    run.wait_for(lambda bundle: len(events_of(bundle, "checkpoint.restored")) == 1)
    second = run.workers(3, beyond=25)
    [ray_process] = descendants(run.pid, b"train.launch.ray_process")
    os.kill(ray_process, signal.SIGKILL)
    run.wait_for(lambda bundle: len(events_of(bundle, "checkpoint.restored")) == 2)
    assert not set(pids(second).values()) & set(pids(run.workers(3)).values())
    run.finish()
    restored = [event["fields"] for event in events_of(run.bundle, "checkpoint.restored")]
    assert [(fields["source"], fields["reason"]) for fields in restored] == [("memory", "no worker was left")] * 2
    lost = [event["fields"] for event in events_of(run.bundle, "worker.lost")]
    assert [fields["cause"] for fields in lost if fields["membership"] == 0] == ["signal SIGKILL"] * 3
    assert len([fields for fields in lost if fields["membership"] is not None]) == 6
    assert_equals(run.bundle, straight)
    assert not memory_of(run.bundle)


def test_a_dead_driver_is_resumed_from_node_memory(cluster: Nodes, tmp_path: Path, straight: Path) -> None:
    run = Watched(tmp_path, cluster, "cluster.workers=2")
    run.wait_for(lambda bundle: len(events_of(bundle, "snapshot.saved")) >= 4)
    os.kill(run.pid, signal.SIGKILL)
    run.killed()
    assert memory_of(run.bundle)
    resumed = train(tmp_path, "run.resume=latest", f"cluster.address={cluster.address}", "cluster.workers=3")
    assert resumed.code == 0, resumed.err
    restored = events_of(run.bundle, "checkpoint.restored")[0]["fields"]
    assert (restored["source"], restored["reason"]) == ("memory", "run.resume")
    assert restored["step"] >= 20
    assert_equals(run.bundle, straight)
    assert not memory_of(run.bundle)


def test_ray_itself_dies_and_the_driver_starts_it_again(tmp_path: Path) -> None:
    running = TrainProcess(tmp_path, *ENDLESS, "cluster.workers=2")
    bundle = running.wait_for(lambda bundle: len(events_of(bundle, "snapshot.saved")) >= 3)
    for raylet in descendants(running.process.pid, b"raylet/raylet"):
        os.kill(raylet, signal.SIGKILL)
    running.wait_for(lambda bundle: bool(events_of(bundle, "checkpoint.restored")))
    running.wait_for(lambda bundle: steps_of_newest(bundle, 2) >= 10)
    running.interrupt_group(signal.SIGINT)
    done = running.wait()
    assert done.code == 128 + signal.SIGINT, done.err
    assert len(events_of(bundle, "cluster.lost")) == 1
    assert [event["fields"]["source"] for event in events_of(bundle, "checkpoint.restored")] == ["memory"]
    assert_equals_undisturbed(bundle, tmp_path / "undisturbed")


def test_a_run_is_scaled_in_place(tmp_path: Path) -> None:
    """1 to 3 to 2 workers on request, with the same bits and nothing computed twice."""
    running = TrainProcess(tmp_path, *ENDLESS, "cluster.workers=1")
    bundle = running.wait_for(lambda bundle: bool(events_of(bundle, "membership.changed")))
    running.wait_for(lambda bundle: steps_of_newest(bundle, 1) >= 5)
    assert recorder(tmp_path, "scale", "latest", "3").code == 0
    running.wait_for(lambda bundle: steps_of_newest(bundle, 3) >= 5)
    assert recorder(tmp_path, "scale", "latest", "2").code == 0
    running.wait_for(lambda bundle: steps_of_newest(bundle, 2) >= 5)
    running.interrupt_group(signal.SIGINT)
    done = running.wait()
    assert done.code == 128 + signal.SIGINT, done.err
    assert [event["fields"]["workers"] for event in events_of(bundle, "run.scaled")] == [3, 2]
    assert events_of(bundle, "step.redone", "worker.lost", "checkpoint.restored") == []
    assert_equals_undisturbed(bundle, tmp_path / "undisturbed")


def test_a_stopped_worker_is_expelled(tmp_path: Path, straight: Path) -> None:
    running = TrainProcess(tmp_path, *LONG, "cluster.workers=2", "cluster.hang_seconds=2")
    bundle = running.wait_for(lambda bundle: bool(events_of(bundle, "membership.changed")))
    running.wait_for(lambda bundle: steps_of_newest(bundle, 2) >= 10)
    before = pids(events_of(bundle, "membership.changed")[-1]["fields"]["workers"])
    os.kill(before[0], signal.SIGSTOP)
    done = running.wait()
    assert done.code == 0, done.err
    expelled = [event["fields"] for event in events_of(bundle, "worker.expelled")]
    assert [(fields["pid"], fields["reason"]) for fields in expelled] in (
        [(before[0], "silent")],
        [(before[0], "hung")],
    )
    lost = events_of(bundle, "worker.lost")[0]["fields"]
    assert (lost["pid"], lost["cause"]) == (before[0], f"expelled: {expelled[0]['reason']}")
    assert_equals(bundle, straight)


def descendants(pid: int, command: bytes) -> list[int]:
    """The processes below `pid` whose command line has `command` in it."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        if command in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0--")[0]:
            found.append(process.pid)
    return found


def memory_of(bundle: Path) -> list[Path]:
    """Snapshots of the run in this machine's memory."""
    return list(Path("/dev/shm").glob(f"run-recorder-{os.getuid()}/{bundle.name}-*/*/step-*"))
