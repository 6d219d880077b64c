"""Which state is gone back to: the newest that can be trusted, and why is in the record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import write_checkpoint
from helpers.commands import events_of

from recorder.bundle import layout
from recorder.errors import UsageError
from recorder.ledger import events
from recorder.run import Run
from train.launch.sources import Sources
from train.membership.messages import Source
from train.origin import Origin


@pytest.fixture
def said() -> list[str]:
    return []


def save(run: Run, step: int) -> Path:
    path = layout.checkpoint_folder(step)
    run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=write_checkpoint(run.path / path, step))
    return run.path / path


def restored(run: Run) -> list[tuple[Any, ...]]:
    fields = [event["fields"] for event in events_of(run.path, events.CHECKPOINT_RESTORED)]
    return [(one["step"], one["path"], one["source"], one["reason"]) for one in fields]


def test_a_new_run_begins_at_the_beginning_whatever_lies_in_memory(run: Run, said: list[str]) -> None:
    sources = Sources(run, Origin({}), said.append)
    assert sources.choose({"rank-0.0": [40]}, None, []) == Source("start", 0)
    assert restored(run) == said == []


def test_the_newest_checkpoint_is_gone_back_to(run: Run, said: list[str]) -> None:
    sources = Sources(run, Origin({}), said.append)
    sources.choose({}, None, [])
    assert sources.choose({}, None, []) == Source("start", 0, None, "no worker was left")
    save(run, 10)
    folder = save(run, 20)
    source = sources.choose({"rank-0.0": [], "rank-1.0": [15]}, None, [])
    assert source == Source("storage", 20, str(folder.resolve()), "no worker was left")
    assert restored(run) == [(20, layout.checkpoint_folder(20), "storage", "no worker was left")]
    assert said == [
        "no worker was left: no checkpoint yet, starting again from step 0",
        "no worker was left: going on from the checkpoint of step 20",
    ]


@pytest.mark.parametrize("stored", [20, 30])
def test_a_snapshot_is_better_than_a_checkpoint_that_is_not_newer(run: Run, said: list[str], stored: int) -> None:
    sources = Sources(run, Origin({}), said.append)
    sources.choose({}, None, [])
    save(run, stored)
    source = sources.choose({"rank-0.0": [15, 25], "rank-1.0": [30]}, None, [])
    assert source == Source("memory", 30, None, "no worker was left")
    assert restored(run) == [(30, None, "memory", "no worker was left")]
    assert said == ["no worker was left: going on from node memory of step 30"]


@pytest.mark.parametrize(("agreed", "kind", "step"), [(24, "storage", 20), (25, "memory", 25), (None, "memory", 30)])
def test_no_snapshot_that_the_members_did_not_compare_is_used(
    run: Run, said: list[str], agreed: int | None, kind: str, step: int
) -> None:
    sources = Sources(run, Origin({}), said.append)
    sources.choose({}, None, [])
    save(run, 20)
    source = sources.choose({"rank-0.0": [25, 30]}, agreed, [])
    assert (source.kind, source.step) == (kind, step)


def test_a_damaged_checkpoint_is_passed_over_and_recorded(run: Run, said: list[str]) -> None:
    sources = Sources(run, Origin({}), said.append)
    sources.choose({}, None, [])
    save(run, 10)
    model = save(run, 20) / layout.CHECKPOINT_MODEL
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"\xff")
    assert sources.choose({}, None, []).step == 10
    (removed,) = events_of(run.path, events.CHECKPOINT_REMOVED)
    assert removed["fields"]["step"] == 20


def test_a_resumed_run_says_that_it_was_asked_to(tmp_path: Path, run: Run, said: list[str]) -> None:
    folder = save(run, 10)
    sources = Sources(run, Origin({}, resume=run.path), said.append)
    assert sources.choose({}, None, []) == Source("storage", 10, str(folder.resolve()), "run.resume")
    assert sources.choose({"rank-0.1": [15]}, None, []) == Source("memory", 15, None, "no worker was left")
    assert [reason for *_, reason in restored(run)] == ["run.resume", "no worker was left"]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A bundle with a checkpoint of step 30."""
    folder = tmp_path / "runs" / "parent"
    write_checkpoint(folder / layout.checkpoint_folder(30), 30)
    return folder


def test_a_fork_begins_with_its_parents_state_until_it_has_one_of_its_own(
    run: Run, said: list[str], parent: Path
) -> None:
    sources = Sources(run, Origin({}, fork=parent, fork_step=30), said.append)
    expected = Source("fork", 30, str(parent.resolve() / layout.checkpoint_folder(30)), "run.fork")
    for _ in range(3):
        assert sources.choose({}, None, []) == expected
    save(run, 40)
    assert sources.choose({"rank-0.0": [35]}, None, []).step == 40
    assert [(step, source) for step, _, source, _ in restored(run)] == [(30, "fork")] * 3 + [(40, "storage")]


def test_a_snapshot_of_the_fork_is_newer_than_its_parents_state(run: Run, said: list[str], parent: Path) -> None:
    sources = Sources(run, Origin({}, fork=parent, fork_step=30), said.append)
    assert sources.choose({"rank-0.0": [35]}, None, []).kind == "fork"
    assert sources.choose({"rank-0.0": [35]}, 35, []) == Source("memory", 35, None, "no worker was left")


def test_a_fork_that_is_resumed_does_not_begin_at_step_0(run: Run, said: list[str], parent: Path) -> None:
    origin = Origin({}, resume=run.path, fork=parent, fork_step=30)
    assert Sources(run, origin, said.append).choose({}, None, []).kind == "fork"
    save(run, 40)
    source = Sources(run, origin, said.append).choose({}, None, [])
    assert (source.kind, source.step, source.reason) == ("storage", 40, "run.resume")


def test_a_fork_whose_parent_is_gone_says_what_is_missing(run: Run, said: list[str], tmp_path: Path) -> None:
    origin = Origin({}, resume=run.path, fork=tmp_path / "runs" / "parent", fork_step=30)
    words = "run demo is a fork of parent@30 and has no state of its own yet, and .*step-00000030 is not there any more"
    with pytest.raises(UsageError, match=words):
        Sources(run, origin, said.append).choose({}, None, [])
    save(run, 40)
    assert Sources(run, origin, said.append).choose({}, None, []).step == 40


def test_who_waits_for_the_answer_keeps_the_checkpoint_it_writes(run: Run, said: list[str]) -> None:
    sources = Sources(run, Origin({}), said.append)
    sources.choose({}, None, [])
    partial = run.path / layout.CHECKPOINTS / f".step-00000010.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    sources.choose({}, None, [os.getpid()])
    assert partial.exists()
    sources.choose({}, None, [])
    assert not partial.exists()
