"""What train.py makes of a DVC stage: real DVC says what it will lock, nothing is trained."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers.commands import REPOSITORY
from helpers.dvc_repositories import dvc, isolate_dvc, new_repository

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.bundle.reader import Bundle
from recorder.canonical import readable_json
from recorder.errors import UsageError
from recorder.run import Run
from recorder.tracking.stage_pointer import pointer_to
from train import stage
from train.compose import compose_file, validate
from train.launch import session
from train.origin import Origin
from train.stage import StagePart, take_part

DVC_YAML = """
stages:
  train:
    cmd: "true"
    deps: [in.txt]
    params: [params.yaml: , conf/other.yaml: ]
    outs: [{pipeline/train.json: {cache: false}}]
"""


class Request:
    """A request to train the default config in the stage `train` of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.values: dict[str, Any] = yaml.safe_load(compose_file(REPOSITORY / "conf", "config"))
        self.lock(self.values)
        self.values["run"] |= {"params": "params.yaml", "pointer": "pipeline/train.json"}

    def lock(self, values: dict[str, Any]) -> None:
        """Let DVC lock these values."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def part(self, say: Any = None) -> StagePart:
        """What becomes of it."""
        return take_part(Origin(self.values), validate(self.values), say or self.said.append)

    def begin(self, run_id: str, identity: dict[str, str] | None = None) -> Run:
        """A run that was begun for it."""
        identity = identity or self.part().identity
        files = {layout.RESOLVED_CONFIG: yaml.safe_dump(self.values).encode()}
        run = Run.create(
            self.folder / "runs", run_id=run_id, files=files, spools=self.folder.parent / "spools", stage=identity
        )
        run.begin_attempt(config=layout.RESOLVED_CONFIG)
        return run


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Request]:
    before = dict(os.environ)
    isolate_dvc(tmp_path / "dvc-settings")
    folder = new_repository(tmp_path / "repository")
    (folder / "conf").mkdir()
    (folder / "conf/other.yaml").write_text("seed: 99\n")
    (folder / "in.txt").write_text("in")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_STAGE", "train")
    yield Request(folder)
    os.environ.clear()
    os.environ.update(before)


def test_outside_of_a_stage_a_request_stays_as_it_is(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    assert request_.part() == StagePart(Origin(request_.values))


@pytest.mark.parametrize(("section", "key", "value"), [("optim", "lr", 0.5), ("run", "fork", None), ("model", "x", 1)])
def test_what_dvc_would_lock_otherwise_stops_it(request_: Request, section: str, key: str, value: Any) -> None:
    locked = yaml.safe_load((request_.folder / "params.yaml").read_text())
    locked[section][key] = value
    request_.lock(locked)
    if key == "fork":
        request_.values["run"]["fork"] = "other@3"
    with pytest.raises(UsageError) as raised:
        request_.part()
    trained = {"lr": 0.003, "fork": "other@3", "x": None}[key]
    told = f"stage train: DVC will lock {section}.{key}={value} (params.yaml), and {section}.{key}={trained} would be"
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parameters_of_other_stages_are_their_own_business(request_: Request) -> None:
    locked = yaml.safe_load((request_.folder / "params.yaml").read_text())
    request_.lock(locked | {"featurize": {"n": 3}})
    request_.values["run"]["params"] = None
    assert request_.part().identity is not None
    request_.values["run"]["params"] = "params.yaml"
    with pytest.raises(UsageError, match=r"DVC will lock featurize\.n=3"):
        request_.part()


def test_the_identity_follows_config_and_dependencies_alone(request_: Request) -> None:
    first = request_.part().identity
    assert first is not None
    request_.values["run"] |= {"id": "mine", "pointer": None}
    assert request_.part().identity == first
    (request_.folder / "in.txt").write_text("other")
    assert request_.part().identity != first
    (request_.folder / "in.txt").write_text("in")
    request_.values["seed"] = 2
    request_.lock(request_.values)
    assert request_.part().identity not in (None, first)


def test_data_that_dvc_would_lock_otherwise_stops_it(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that `prepare` read was edited, and nothing made DVC run `prepare` again."""
    prepared, edited = {"files": ["one"]}, {"files": ["two"]}
    document = (request_.folder / "dvc.yaml").read_text()
    (request_.folder / "dvc.yaml").write_text(document.replace("deps: [in.txt]", "deps: [pipeline/data.json]"))
    write_file(request_.folder / "pipeline" / "data.json", readable_json(prepared))
    part = request_.part()
    part.check_data(prepared)
    monkeypatch.setattr(session, "prepare", lambda config, say: SimpleNamespace(record=edited))
    asked = session.Request(validate(request_.values), part, ["train.py"], {}, tmp_path)
    with pytest.raises(UsageError) as refused:
        session.train(asked, sys.stderr)
    locked, found = (hashlib.md5(readable_json(record)).hexdigest() for record in (prepared, edited))
    assert f"DVC will lock pipeline/data.json with MD5 {locked}, and the data as it is now makes it {found}" in str(
        refused.value
    )
    assert "`dvc repro --force --single-item prepare`" in str(refused.value)
    assert not (request_.folder / "runs").exists()


@pytest.mark.parametrize("outcome", ["killed", "interrupted", "failed"])
def test_a_run_that_did_not_finish_goes_on(request_: Request, outcome: str) -> None:
    run = request_.begin("begun")
    run.abandon() if outcome == "killed" else run.close(outcome)
    # Others: by hand, and by another stage.
    request_.begin("by-another", {"name": "other", "inputs": "0" * 64}).abandon()
    Run.create(request_.folder / "runs", run_id="by-hand", spools=request_.folder.parent / "spools").abandon()
    part = request_.part()
    assert part.origin.resume == Path("runs/begun")
    assert request_.said == ["run begun was begun by this stage for the same inputs, and goes on"]
    request_.values["run"]["name"] = "another"
    request_.lock(request_.values)
    assert request_.part().origin.resume is None


def test_a_run_that_was_killed_before_its_first_event_is_left_alone(request_: Request) -> None:
    document = {"id": "torn", "created": "2026-01-01T00:00:00.000000Z", "stage": request_.part().identity}
    write_file(request_.folder / "runs" / "torn" / "run.json", json.dumps(document).encode())
    assert request_.part().origin.resume is None


def test_no_ledger_of_another_stages_run_is_read(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = request_.part().identity
    assert identity is not None
    request_.begin("mine").abandon()
    request_.begin("other", identity | {"inputs": "0"}).abandon()
    read, really = [], Bundle.course.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Bundle, "course", property(lambda bundle: read.append(bundle.path.name) or really(bundle)))
    request_.part()
    assert set(read) == {"mine"}


def test_a_run_that_finished_is_taken_until_dvc_has_locked_it(request_: Request) -> None:
    request_.begin("done").close("finished")
    part = request_.part()
    assert (part.finished, part.origin.resume) == (Path("runs/done"), None)
    assert "run done has finished for the same inputs: nothing is trained again" in request_.said[0]
    request_.values["run"]["pointer"] = None
    assert request_.part().finished is None
    request_.values["run"]["pointer"] = "pipeline/train.json"
    pointer = pointer_to(request_.folder / "runs/done", "runs").serialised()
    write_file(request_.folder / "pipeline/train.json", pointer)
    dvc(request_.folder, "commit", "--force", "--quiet", "train")
    assert request_.part() == replace(part, finished=None)


def test_a_run_that_is_being_written_is_waited_for_and_said_once(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request_.begin("running")

    def end(text: str) -> None:
        request_.said.append(text)
        if "waiting" in text:
            run.close("interrupted")

    part = request_.part(end)
    assert request_.said[0] == f"waiting for process {os.getpid()}, which still writes run running"
    assert len(request_.said) == 2
    assert part.origin.resume == Path("runs/running")
    monkeypatch.setattr(stage, "_PATIENCE_SECONDS", 0.0)
    again = Run.resume(request_.folder / "runs/running", spools=request_.folder.parent / "spools")
    with again, pytest.raises(UsageError, match=rf"still being written by process {os.getpid()}: wait for it"):
        request_.part()
