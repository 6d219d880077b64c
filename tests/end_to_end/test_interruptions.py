"""Runs that are stopped or killed: what is in the record, and the bits after going on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import (
    TINY,
    TrainProcess,
    bits,
    events_of,
    has_event,
    only_bundle,
    reached_step,
    recorder,
    train,
    verify_json,
    wait_until_gone,
    worker_pids,
)

from recorder.bundle import layout
from recorder.bundle.rows import read_rows

# Long enough to be caught in the middle.
LONG = [*TINY, "train.steps=400", "checkpoint.every=25", "checkpoint.keep=0"]
LAST = layout.checkpoint_folder(400)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the run that nothing happened to, by one worker."""
    folder = tmp_path_factory.mktemp("straight")
    done = train(folder, *LONG, "cluster.workers=1")
    assert done.code == 0, done.err
    return only_bundle(folder)


def assert_equals(bundle: Path, straight: Path) -> None:
    """Bits of every step and of the final state, and a record without a finding."""
    assert bits(bundle) == bits(straight)
    for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE):
        assert (bundle / LAST / name).read_bytes() == (straight / LAST / name).read_bytes()
    assert verify_json(bundle.parent.parent, bundle)["findings"] == []


def test_ctrl_c_seals_and_a_resume_goes_on_with_the_same_bits(tmp_path: Path, straight: Path) -> None:
    running = TrainProcess(tmp_path, *LONG)
    bundle = running.wait_for(reached_step(5))
    running.interrupt_group(signal.SIGINT)
    done = running.wait()
    assert done.code == 130, done.err
    assert "run.resume=" in done.err
    seal = json.loads((bundle / layout.MANIFEST).read_bytes())
    assert seal["outcome"] == "interrupted"
    assert verify_json(tmp_path, bundle)["findings"] == []
    stopped_at = max(bits(bundle))
    assert (bundle / layout.checkpoint_folder(stopped_at)).is_dir()
    assert [event["fields"]["signal"] for event in events_of(bundle, "signal")] == ["SIGINT"]

    resumed = train(tmp_path, "run.resume=latest")
    assert resumed.code == 0, resumed.err
    assert json.loads((bundle / layout.MANIFEST).read_bytes())["previous_root"] == seal["root"]
    assert json.loads((bundle / layout.archived_seal(1)).read_bytes()) == seal
    rows = list(read_rows(bundle, layout.METRICS))
    assert [(row["step"], row["attempt"]) for row in rows] == [(s, 1 + (s > stopped_at)) for s in range(1, 401)]
    assert_equals(bundle, straight)


def test_sigterm_twice_stops_at_once(tmp_path: Path) -> None:
    running = TrainProcess(tmp_path, *LONG, "cluster.workers=1")
    bundle = running.wait_for(reached_step(1))
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait().code == 143
    assert json.loads((bundle / layout.MANIFEST).read_bytes())["outcome"] == "interrupted"
    assert verify_json(tmp_path, bundle)["findings"] == []


def test_a_killed_driver_leaves_a_readable_record_and_no_orphans(tmp_path: Path, straight: Path) -> None:
    running = TrainProcess(tmp_path, *LONG)
    bundle = running.wait_for(lambda path: reached_step(30)(path) and has_event("checkpoint.saved")(path))
    workers = list(worker_pids(bundle).values())
    os.kill(running.process.pid, signal.SIGKILL)
    assert wait_until_gone(workers, 10) == []
    running.wait()
    for command in (["list"], ["show", bundle.name], ["timeline", bundle.name], ["verify", bundle.name]):
        done = recorder(tmp_path, *command)
        assert done.code in (0, 1), done.err
        assert "Traceback" not in done.err
    assert not (bundle / layout.MANIFEST).exists()
    recorded = max(bits(bundle))

    resumed = train(tmp_path, "run.resume=latest", "cluster.workers=3")
    assert resumed.code == 0, resumed.err
    assert max(row["step"] for row in read_rows(bundle, layout.METRICS) if row["attempt"] == 1) >= recorded
    assert [event["fields"]["reason"] for event in events_of(bundle, "checkpoint.restored")] == ["run.resume"]
    assert [event["fields"]["outcome"] for event in events_of(bundle, "attempt.ended")] == ["killed", "finished"]
    assert_equals(bundle, straight)


def test_a_killed_worker_is_replaced_while_the_others_go_on(tmp_path: Path, straight: Path) -> None:
    running = TrainProcess(tmp_path, *LONG)
    bundle = running.wait_for(reached_step(30))
    before = worker_pids(bundle)
    os.kill(before[0], signal.SIGKILL)
    running.wait_for(has_event("membership.changed", 3))
    after = worker_pids(bundle)
    done = running.wait()
    assert done.code == 0, done.err
    assert after[1] == before[1]
    lost = [event["fields"] for event in events_of(bundle, "worker.lost")]
    assert [(fields["rank"], fields["pid"], fields["cause"]) for fields in lost] == [(0, before[0], "signal SIGKILL")]
    changed = [event["fields"] for event in events_of(bundle, "membership.changed")]
    assert [fields["reason"] for fields in changed] == ["start", "worker lost", "worker joined"]
    assert [fields["recorded"] for fields in events_of_redone(bundle)] == [0]
    received = events_of(bundle, "state.received")[0]["fields"]
    assert (received["rank"], received["from_rank"]) == (0, 1)
    assert events_of(bundle, "checkpoint.restored") == []
    assert_equals(bundle, straight)


def events_of_redone(bundle: Path) -> list[dict[str, Any]]:
    return [event["fields"] for event in events_of(bundle, "step.redone")]


def test_a_fork_starts_a_new_run_from_a_recorded_state(tmp_path: Path, straight: Path) -> None:
    parent = straight.name
    arguments = [f"run.dir={straight.parent}", f"run.fork={parent}@100", "run.id=child", "optim.lr=1e-4"]
    done = train(tmp_path, *arguments, "train.steps=110", "cluster.workers=2")
    assert done.code == 0, done.err
    child = straight.parent / "child"
    identity = json.loads((child / layout.RUN).read_bytes())
    assert identity["parent"] == {"run": parent, "step": 100}
    rows = list(read_rows(child, layout.METRICS))
    assert [row["step"] for row in rows] == list(range(101, 111))
    before = {step: row for step, row in bits(straight).items() if step == 101}
    assert rows[0]["loss"] == before[101][0]
    assert verify_json(tmp_path, child)["findings"] == []


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path, undisturbed_bundle: Path) -> None:
    arguments = [*TINY, "train.steps=40", "checkpoint.every=10", "train.eval_every=20", "cluster.workers=1"]
    both = [TrainProcess(tmp_path, *arguments, f"run.id=run-{number}") for number in (1, 2)]
    done = [process.wait() for process in both]
    assert [finished.code for finished in done] == [0, 0], [finished.err for finished in done]
    for number in (1, 2):
        bundle = tmp_path / "runs" / f"run-{number}"
        assert bits(bundle) == bits(undisturbed_bundle)
        assert verify_json(tmp_path, bundle)["findings"] == []


def test_a_run_that_is_being_written_cannot_be_resumed(tmp_path: Path) -> None:
    running = TrainProcess(tmp_path, *LONG, "train.steps=1000000", "checkpoint.every=1000000", "cluster.workers=1")
    bundle = running.wait_for(reached_step(1))
    second = train(tmp_path, "run.resume=latest")
    running.interrupt_group(signal.SIGINT)
    assert running.wait().code == 130
    assert second.code == 2
    assert f"still being written by process {running.process.pid}" in second.err
    assert verify_json(tmp_path, bundle)["findings"] == []
