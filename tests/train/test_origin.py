"""Resume and fork: what may change, what may not, and what the message says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.commands import REPOSITORY
from hydra import compose, initialize_config_dir

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.canonical import readable_json
from recorder.checkpoint.record import commit_marker
from recorder.errors import ConfigError, RunNotFound, UsageError
from recorder.release.secrets.masking import mask_values
from recorder.run import Run
from train.compose import plain
from train.origin import Origin, resolve_origin


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return plain(compose("config", list(overrides)))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A bundle whose config is the default one with seed 5, and a checkpoint of step 100."""
    values = composed("seed=5", f"run.dir={tmp_path}")
    files = {layout.RESOLVED_CONFIG: yaml.safe_dump(values).encode()}
    run = Run.create(tmp_path, run_id="first", files=files, spools=tmp_path / "spools")
    run.begin_attempt(config=layout.RESOLVED_CONFIG)
    run.close("finished")
    folder = run.path / layout.checkpoint_folder(100)
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"state")
    marker = commit_marker(100, {}, {"a.bin": digest_file(folder / "a.bin").record()})
    (folder / layout.CHECKPOINT_STATE).write_bytes(readable_json(marker))
    return run.path


def resolve(recorded: Path, *overrides: str) -> Origin:
    full = [*overrides, f"run.dir={recorded.parent}"]
    return resolve_origin(composed(*full), full)


def test_a_fresh_run_takes_what_was_composed() -> None:
    values = composed("seed=3")
    assert resolve_origin(values, ["seed=3"]) == Origin(values)


def test_a_resume_takes_the_recorded_config_and_what_changes_no_bits(recorded: Path) -> None:
    origin = resolve(recorded, "run.resume=first", "cluster.workers=4", "checkpoint.every=7", "train.steps=900")
    assert origin.resume == recorded
    values = origin.values
    assert (values["seed"], values["cluster"]["workers"], values["checkpoint"]["every"]) == (5, 4, 7)
    assert values["train"]["steps"] == 900


@pytest.mark.parametrize(
    "override", ["optim.lr=0.5", "seed=1", "data=text", "model.hidden_size=64", "train.micro_batches=16"]
)
def test_a_resume_that_would_change_bits_names_the_fork_command(recorded: Path, override: str) -> None:
    extra = ["data.files=[a.txt]"] if override == "data=text" else []
    with pytest.raises(UsageError, match="run.fork=first@100") as caught:
        resolve(recorded, "run.resume=first", override, *extra)
    assert override in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_resume_cannot_shorten_the_run(recorded: Path) -> None:
    with pytest.raises(UsageError, match="train.steps=5 is less than the 250"):
        resolve(recorded, "run.resume=first", "train.steps=5")


def test_a_fork_takes_the_recorded_config_and_every_change(recorded: Path) -> None:
    origin = resolve(recorded, "run.fork=first@100", "optim.lr=0.5", "run.name=child")
    assert (origin.fork, origin.fork_step) == (recorded, 100)
    values = origin.values
    assert (values["seed"], values["optim"]["lr"], values["run"]["name"], values["run"]["id"]) == (
        5,
        0.5,
        "child",
        None,
    )


def test_a_fork_that_is_resumed_knows_where_it_began(recorded: Path) -> None:
    """It may have been killed before it saved a state of its own."""
    values = resolve(recorded, "run.fork=first@100", "optim.lr=0.5").values
    files = {layout.RESOLVED_CONFIG: yaml.safe_dump(values).encode()}
    run = Run.create(recorded.parent, run_id="child", files=files, spools=recorded.parent / "spools")
    run.begin_attempt(config=layout.RESOLVED_CONFIG)
    run.close("interrupted")
    assert resolve(recorded, "run.resume=child") == Origin(values, run.path, recorded, 100)
    assert resolve(recorded, "run.resume=first").fork is None


def test_a_fork_from_a_damaged_checkpoint_is_refused(recorded: Path) -> None:
    (recorded / layout.checkpoint_folder(100) / "a.bin").write_bytes(b"stale")
    with pytest.raises(UsageError, match="a.bin does not match its digest"):
        resolve(recorded, "run.fork=first@100")


def test_a_fork_can_exchange_a_whole_group(recorded: Path) -> None:
    values = resolve(recorded, "run.fork=first@100", "data=text", "data.files=[a.txt]").values
    assert values["data"]["source"] == "text"
    assert "megabytes" not in values["data"]


@pytest.mark.parametrize(
    ("override", "error", "text"),
    [
        ("run.fork=first@99", UsageError, "no checkpoint of step 99; it has: 100"),
        ("run.fork=first", ConfigError, "is not RUN@STEP"),
        ("run.fork=first@x", ConfigError, "is not RUN@STEP"),
        ("run.resume=frist", RunNotFound, "first"),
        ("run.resume=../first", RunNotFound, "first"),
    ],
)
def test_what_is_not_there_is_named(recorded: Path, override: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text.replace("(", "\\(")):
        resolve(recorded, override)


@pytest.fixture
def masked(recorded: Path) -> Path:
    """As `recorded`; its config held a password, which was masked as it was recorded."""
    values = yaml.safe_load((recorded / layout.RESOLVED_CONFIG).read_bytes())
    values["data"]["cache"] = "s3://lab:" + "pw77@store/a"
    (recorded / layout.RESOLVED_CONFIG).write_bytes(yaml.safe_dump(mask_values(values)).encode())
    return recorded


def test_a_masked_value_must_be_given_again(masked: Path) -> None:
    for how in ("run.resume=first", "run.fork=first@100"):
        overrides = [f"run.dir={masked.parent}", how]
        with pytest.raises(ConfigError, match=r"data\.cache held a credential.*data\.cache=VALUE"):
            resolve_origin(composed(*overrides), overrides)
        overrides.append("data.cache=other")
        assert resolve_origin(composed(*overrides), overrides).values["data"]["cache"] == "other"
