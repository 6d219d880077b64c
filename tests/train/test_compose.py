"""Configuration mistakes: one line that names the key, what is allowed, and the nearest name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recorder.errors import ConfigError
from train.compose import explain, known_keys, plain, validate
from train.config import Config
from train.model import check_model


def composed(*overrides: str) -> Config:
    """What train.py makes of the overrides, in this process."""
    try:
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            values = plain(compose("config", list(overrides)))
    except ConfigError:
        raise
    except Exception as error:
        raise (explain(error) or error) from None
    config = validate(values)
    check_model(config.model)
    return config


MISTAKES = [
    (["train.stpes=5"], ["train.stpes", "Did you mean train.steps?"]),
    (["+train.stpes=5"], ["train.stpes", "Did you mean train.steps?"]),
    (["lr=5"], ["lr", "Did you mean optim.lr?"]),
    (["+model.hidden=5"], ["hidden", "hidden_size"]),
    (["data=storeis"], ["data=storeis", "stories, text", "Did you mean stories?"]),
    (["train.steps=many"], ["train.steps=many", "integer"]),
    (["train.steps=0"], ["train.steps=0", "greater than 0"]),
    (["train.steps=1.5"], ["train.steps=1.5", "integer"]),
    (["optim.lr=-1"], ["optim.lr=-1", "greater than 0"]),
    (["optim.lr=nan"], ["optim.lr=nan", "finite"]),
    (["optim.schedule=linear"], ["optim.schedule=linear", "'cosine', 'wsd' or 'constant'"]),
    (["train.precision=fp16"], ["train.precision=fp16", "'fp32' or 'bf16'"]),
    (["cluster.use_gpu=maybe"], ["cluster.use_gpu=maybe", "'auto', True or False"]),
    (["train.micro_batches=1"], ["train.micro_batches=1", "cluster.workers=2", "raise train.micro_batches"]),
    (["cluster.min_workers=0"], ["cluster.min_workers=0", "greater than 0"]),
    (["cluster.min_workers=3"], ["cluster.min_workers=3", "cluster.workers=2", "lower it, or raise cluster.workers"]),
    (["cluster.minworkers=1"], ["cluster.minworkers", "Did you mean cluster.min_workers?"]),
    (["cluster.hang_seconds=0.5"], ["cluster.hang_seconds=0.5", "greater than or equal to 1"]),
    (["cluster.hang_seconds=inf"], ["cluster.hang_seconds=inf", "finite"]),
    (["cluster.restarts=-1"], ["cluster.restarts=-1", "greater than or equal to 0"]),
    (["checkpoint.memory_every=-1"], ["checkpoint.memory_every=-1", "greater than or equal to 0"]),
    (["checkpoint.memory_every=2.5"], ["checkpoint.memory_every=2.5", "integer"]),
    (["train.reduction=native", "train.micro_batches=5"], ["multiple", "cluster.workers=2"]),
    (["model.hidden_size=130"], ["model.hidden_size=130", "model.num_attention_heads=4"]),
    (["model.num_key_value_heads=3"], ["model.num_attention_heads=4", "model.num_key_value_heads=3"]),
    (["model._target_=nothing"], ["model._target_=nothing"]),
    (["data=text"], ["data.files", "data.files='[a.txt"]),
    (["data=text", "data.files=[]"], ["data.files is empty"]),
    (["run.name=../up"], ["run.name=../up", "letters, digits"]),
    (["run.name=a/b"], ["run.name=a/b", "letters, digits"]),
    (["run.id=.."], ["run.id=..", "letters, digits"]),
    (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
    (["train.steps="], ["train.steps"]),
    (["train.steps=[1"], ["train.steps=[1"]),
]


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_is_one_line_that_names_the_way_out(overrides: list[str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(*overrides)
    message = str(caught.value)
    assert "\n" not in message
    for text in expected:
        assert text in message


@pytest.mark.parametrize("overrides", [[], ["data=text", "data.files=[a.txt]"], ["optim.schedule=wsd", "seed=7"]])
def test_good_configurations_are_frozen(overrides: list[str]) -> None:
    config = composed(*overrides)
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 1  # type: ignore[misc]


def test_what_is_done_about_losses_can_be_chosen() -> None:
    overrides = ["cluster.workers=4", "cluster.min_workers=4", "cluster.hang_seconds=7", "checkpoint.memory_every=0"]
    config = composed(*overrides, "cluster.restarts=0")
    assert (config.cluster.min_workers, config.cluster.hang_seconds, config.cluster.restarts) == (4, 7.0, 0)
    assert config.checkpoint.memory_every == 0


@pytest.mark.parametrize("name", [path.stem for path in (REPOSITORY / "conf/experiment").glob("*.yaml")])
def test_every_experiment_composes(name: str) -> None:
    composed(f"+experiment={name}", *(["data.files=[a.txt]"] if name != "stories" else []))


def test_every_key_of_the_schema_has_a_default_in_conf() -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config")
        text = compose("config", ["data=text", "data.files=[a.txt]"])
    missing = object()
    undocumented = [
        key
        for key in known_keys()
        if all(OmegaConf.select(config, key, default=missing) is missing for config in (cfg, text))
    ]
    assert undocumented == []


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train.stpes=5"], "Did you mean train.steps?"),
        (["data=text", "data.files=[missing.txt]"], "missing.txt"),
        (["run.resume=nothing"], "the folder runs does not exist"),
        (["run.fork=nothing"], "run.fork=nothing is not RUN@STEP"),
        (["cluster.use_gpu=true", "cluster.workers=64", "train.micro_batches=64"], "needs 64 GPUs"),
        (["run.resume=a", "run.fork=b@1"], "exclude each other"),
    ],
)
def test_the_command_exits_2_with_one_line_and_leaves_nothing(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("train.py: ")
    assert expected in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_and_help_show_the_configuration(tmp_path: Path) -> None:
    shown = run(tmp_path, "--cfg", "job", "train.steps=7")
    assert shown.returncode == 0
    assert "steps: 7" in shown.stdout
    helped = run(tmp_path, "--help")
    assert "run.resume=latest" in helped.stdout
    assert list(tmp_path.iterdir()) == []
