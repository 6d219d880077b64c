"""The cheap stages: what counts as a change of code, packages and config, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helpers.commands import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import ConfigError, UsageError
from train.compose import compose_file
from train.stage import asked_values
from train.stages import code_digest, inputs, packages_digest

CODE = b'"""A module."""\n\ndef f(x):\n    """Double."""\n    return 2 * x\n'


@pytest.mark.parametrize(
    "same",
    [
        b"def f(x):\n    return 2 * x\n",
        b'# a comment\n"""Another docstring."""\ndef f(x):  # here too\n\n    return (2 * x)\n',
    ],
)
def test_comments_docstrings_and_layout_are_no_change(same: bytes) -> None:
    assert code_digest(same) == code_digest(CODE)


@pytest.mark.parametrize(
    ("old", "new"), [(b"2 *", b"3 *"), (b"(x)", b"(x, y=0)"), (b"return", b"yield"), (b"2 *", b"2. *")]
)
def test_everything_else_is(old: bytes, new: bytes) -> None:
    assert code_digest(CODE.replace(old, new)) != code_digest(CODE)


@given(st.lists(st.sampled_from(["# a", "", "    # via b", "--hash=sha256:0", "    --hash=sha256:1 \\"]), max_size=6))
def test_packages_are_their_versions(noise: list[str]) -> None:
    lock = "\n".join(["torch==2.13.0 \\", *noise, "ray==2.60.0", *noise])
    assert packages_digest(lock) == packages_digest("ray==2.60.0\ntorch==2.13.0\n")
    assert packages_digest(lock) != packages_digest(lock.replace("2.60.0", "2.60.1"))


def test_the_committed_parameters_are_the_composed_config() -> None:
    assert (REPOSITORY / "params.yaml").read_bytes() == compose_file(REPOSITORY / "conf", "config")


def test_every_file_of_the_config_is_watched_by_its_values() -> None:
    """The first stage alone sees conf/; a file that is not listed there could change unseen."""
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    listed = [name for entry in stages["inputs"]["params"] for name, keys in entry.items() if keys is None]
    assert listed == sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "conf").rglob("*.yaml"))
    assert stages["train"]["params"] == [{"params.yaml": None}]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the config, some code and a pinned package, in which the stages run."""
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf")
    (tmp_path / "train").mkdir()
    (tmp_path / "train.py").write_text("a = 1\n")
    (tmp_path / "requirements.lock").write_text("torch==2.13.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path


def learning_rate(checkout: Path) -> object:
    return yaml.safe_load((checkout / "params.yaml").read_text())["optim"]["lr"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edited_value_stays_until_the_config_says_something_else(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs()
    first = (checkout / "pipeline/inputs.json").read_bytes()
    edit(checkout / "params.yaml", "lr: 0.003", "lr: 0.01")
    # Comments, in code and config, and other code.
    for name in ("train.py", "conf/optim/adamw.yaml"):
        (checkout / name).write_text(f"# a comment\n{(checkout / name).read_text()}")
    inputs()
    assert learning_rate(checkout) == 0.01
    assert (checkout / "pipeline/inputs.json").read_bytes() == first
    (checkout / "train.py").write_text("a = 2\n")
    inputs()
    assert learning_rate(checkout) == 0.01
    assert (checkout / "pipeline/inputs.json").read_bytes() != first
    assert capsys.readouterr().err == ""
    edit(checkout / "conf/optim/adamw.yaml", "weight_decay: 0.1", "weight_decay: 0.2")
    inputs()
    assert learning_rate(checkout) == 0.003
    assert "params.yaml: optim.lr was 0.01, conf/ says 0.003" in capsys.readouterr().err


def test_what_dvc_composed_for_an_experiment_stays_in_the_next_repro(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs()
    edit(checkout / "conf/optim/adamw.yaml", "weight_decay: 0.1", "weight_decay: 0.2")
    edit(checkout / "params.yaml", "lr: 0.003", "lr: 0.01")
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    inputs()
    monkeypatch.delenv("DVC_EXP_NAME")
    (checkout / "train.py").write_text("a = 2\n")
    inputs()
    assert learning_rate(checkout) == 0.01
    (checkout / "params.yaml").unlink()
    inputs()
    assert learning_rate(checkout) == 0.003


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The default config, and a params.yaml in the current folder in which the learning rate is 0.01."""
    values: dict[str, object] = yaml.safe_load(compose_file(REPOSITORY / "conf", "config"))
    changed = yaml.safe_load(yaml.safe_dump(values))
    changed["optim"]["lr"] = 0.01
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(changed))
    return values


def composed(values: dict[str, object], **run: str) -> dict[str, object]:
    changed = yaml.safe_load(yaml.safe_dump(values))
    changed["run"] |= {"params": "params.yaml", **run}
    return dict(changed)


def test_a_parameters_file_takes_the_place_of_the_composed_config(params: dict[str, object]) -> None:
    values, changed = asked_values(composed(params, pointer="a.json"), ["run.params=params.yaml", "run.pointer=a.json"])
    assert values["optim"]["lr"] == 0.01
    assert (values["run"]["params"], values["run"]["pointer"]) == ("params.yaml", "a.json")
    assert set(changed) == set(params) - {"run"}
    assert asked_values(params, ["seed=1"]) == (params, ["seed=1"])


def test_an_override_that_agrees_is_no_mistake(params: dict[str, object]) -> None:
    values, _ = asked_values(composed(params), ["run.params=params.yaml", "seed=1", "model=llama", "train.steps=250"])
    assert values["seed"] == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optim.lr=0.003", "optim.lr is 0.003 on the command line and 0.01 in params.yaml"),
        ("optim=adamw", "optim.lr is 0.003 on the command line and 0.01 in params.yaml"),
        ("+experiment=stories", "optim.lr is 0.003 on the command line and 0.01 in params.yaml"),
        ("+model.bias=1", "model.bias is on the command line and not in params.yaml"),
    ],
)
def test_an_override_that_differs_is_one_line_with_both_values(
    params: dict[str, object], override: str, told: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        asked_values(composed(params), ["run.params=params.yaml", override])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        ("a: [", "cannot be read: while parsing"),
        ("5", "is not a whole config"),
        ("run: 5", "is not a whole config"),
        ("run: {resume: latest}", "run.resume in params.yaml has no meaning"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(params: dict[str, object], content: str | None, told: str) -> None:
    Path("params.yaml").unlink() if content is None else Path("params.yaml").write_text(content)
    with pytest.raises(UsageError) as raised:
        asked_values(composed(params), ["run.params=params.yaml"])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
