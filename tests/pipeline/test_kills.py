"""DVC, train.py or both are killed: the next `dvc repro` goes on from the newest checkpoint, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.commands import bits, events_of, has_event, verify_json, wait_until_gone
from helpers.pipelines import Checkout, ran

from recorder.ledger.processes import is_alive, start_ticks
from recorder.lock import lock_holder

# Agents of Ray's, which end by themselves a minute after the cluster they belong to.
RAYS_OWN = ("ray::RuntimeEnvAgent", "ray::DashboardAgent")


def test_the_next_repro_goes_on_whoever_was_killed(trained: Checkout) -> None:
    trained.change("conf/config.yaml", {"train": {"steps": 400}})
    trained.change("conf/checkpoint/default.yaml", {"keep": 0})

    # train.py alone: DVC sees its stage fail.
    first = trained.start("dvc", "repro")
    bundle = trained.wait_for(_saved(1), first, known=1)
    os.kill(_writer(bundle), signal.SIGKILL)
    assert first.wait(60) != 0

    # DVC alone: train.py is an orphan, notices, and stops in order; the next repro waits for it where it has to.
    second = trained.start("dvc", "repro")
    trained.wait_for(_went_on(bundle, 2), second)
    orphan, dvc = _writer(bundle), second.pid
    assert _is_below(orphan, dvc)
    os.kill(dvc, signal.SIGKILL)
    second.wait()
    third = trained.start("dvc", "repro")
    trained.wait_for(_went_on(bundle, 3), third)
    assert "the DVC that ran this stage is gone" in (bundle / "logs/0002/driver.log").read_text()
    assert wait_until_gone([orphan], 10) == []

    # Both.
    children = [process for process in _below(third.pid) if _name(process) not in RAYS_OWN]
    for process in (third.pid, _writer(bundle)):
        os.kill(process, signal.SIGKILL)
    third.wait()

    last = trained.dvc("repro")
    assert f"run {bundle.name} was begun by this stage for the same inputs, and goes on" in last
    assert ran(last) == ["train", "verify", "report"]
    assert len(children) >= 3
    assert wait_until_gone(children, 10) == []
    assert trained.bundles()[1:] == [bundle]
    assert trained.pointer()["run"] == bundle.name
    _check_whole(trained, bundle)


def _check_whole(checkout: Checkout, bundle: Path) -> None:
    """Every step is there with one set of bits, every checkpoint that was ever saved too, and each attempt's end."""
    assert sorted(bits(bundle)) == list(range(1, 401))
    outcomes = [event["fields"]["outcome"] for event in events_of(bundle, "attempt.ended")]
    assert outcomes == ["killed", "interrupted", "killed", "finished"]
    saved = {event["fields"]["path"] for event in events_of(bundle, "checkpoint.saved")}
    assert {path for path in saved if not (bundle / path / "state.json").is_file()} == set()
    restored = [event["fields"]["step"] for event in events_of(bundle, "checkpoint.restored")]
    assert len(restored) == 3
    assert all(step > 0 for step in restored)
    report = verify_json(checkout.folder, bundle)
    assert report["findings"] == []


def _saved(count: int) -> Callable[[Path], Any]:
    return has_event("checkpoint.saved", count)


def _went_on(bundle: Path, attempt: int) -> Callable[[Path], Any]:
    """The `attempt`-th attempt of the bundle has saved a checkpoint of its own."""

    def condition(found: Path) -> bool:
        assert found == bundle, "another run was begun"
        return any(event["attempt"] == attempt for event in events_of(bundle, "checkpoint.saved"))

    return condition


def _writer(bundle: Path) -> int:
    return int(lock_holder(bundle.parent, bundle.name))


def _is_below(process: int, ancestor: int) -> bool:
    return process in _below(ancestor)


def _name(process: int) -> str:
    """How a process calls itself."""
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def _below(ancestor: int) -> list[int]:
    """Every process that descends from `ancestor`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and is_alive(int(entry.name), start_ticks(int(entry.name))):
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, fresh = [], [ancestor]
    while fresh:
        fresh = [process for process, parent in parents.items() if parent in fresh]
        found += fresh
    return found
