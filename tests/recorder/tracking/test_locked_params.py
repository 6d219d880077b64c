"""What dvc.lock holds of a run, read without DVC, compared with what the bundle says was trained."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import finished
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.reader import Bundle
from recorder.release.secrets.masking import mask_values
from recorder.tracking.locked_params import differences, flat, load_yaml, locked_faults
from recorder.tracking.stage_pointer import pointer_to

NUMBERS = st.one_of(st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
LEAVES = st.one_of(NUMBERS, st.none(), st.text("abcé .-_/e0123", max_size=8), st.lists(NUMBERS, max_size=3))
KEYS = st.text("abcdef_", min_size=1, max_size=5)


@given(st.dictionaries(KEYS, st.one_of(LEAVES, st.dictionaries(KEYS, LEAVES, min_size=1, max_size=3)), max_size=5))
def test_yaml_is_read_as_dvc_writes_it(values: dict[str, Any]) -> None:
    from dvc.utils.serialize._yaml import _get_yaml

    written = io.StringIO()
    _get_yaml().dump(values, written)
    read = load_yaml(written.getvalue().encode()) or {}
    assert read == values
    assert {key: type(value) for key, value in flat(read).items()} == {
        key: type(value) for key, value in flat(values).items()
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-05", 1e-05), ("1E3", 1000.0), ("12", 12), ("-3.", -3.0), (".5", 0.5), ("1.0.0", "1.0.0"), ("-x", "-x")],
)
def test_numbers_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = load_yaml(f"a: {text}".encode())["a"]
    assert (read, type(read)) == (value, type(value))


def test_a_leaf_that_differs_is_named_with_both_values() -> None:
    trained = {"optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "seed": 1, "run": {"id": "a-1", "fork": "b@2"}, "on": True}
    assert differences({"optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "seed": 1}, trained) == {}
    assert differences({"optim.lr": 0.2}, trained) == {"optim.lr": (0.2, 0.1)}
    assert differences({"optim": {"eps": 1.0}}, trained) == {"optim.eps": (1.0, None)}
    assert differences({"seed": 1.0, "on": 1}, trained) == {"on": (1, True)}
    # The id is the recorder's, and `latest@2` is recorded as what it was.
    assert differences({"run": {"id": None, "fork": "latest@2"}}, trained) == {}
    assert differences({"run": {"fork": None}}, trained) == {"run.fork": (None, "b@2")}


@pytest.fixture
def locked(repository: Path) -> tuple[Path, Path]:
    """A bundle, and the dvc.lock of the stage that trained it."""
    bundle = finished(repository / "runs")
    pointer = pointer_to(bundle, "runs").serialised()
    (repository / "pipeline").mkdir()
    (repository / "pipeline" / "train.json").write_bytes(pointer)
    md5 = hashlib.md5(pointer, usedforsecurity=False).hexdigest()
    seed = Bundle(bundle).config["seed"]
    lock = repository / "dvc.lock"
    lock.write_text(
        f"schema: '2.0'\nstages:\n  other:\n    cmd: x\n  train:\n"
        f"    params:\n      params.yaml:\n        seed: {seed}\n"
        f"    outs:\n    - path: pipeline/train.json\n      md5: {md5}\n"
    )
    return bundle, lock


def test_a_lock_that_agrees_is_no_finding_and_one_that_does_not_is(locked: tuple[Path, Path]) -> None:
    bundle, lock = locked
    assert locked_faults(bundle, bundle.name) == []
    lock.write_text(lock.read_text().replace("seed: 1", "seed: 2"))
    (fault,) = locked_faults(bundle, bundle.name)
    assert fault == "dvc.lock holds seed=2 of stage train for this run, which trained with seed=1"
    assert locked_faults(bundle, "another") == []
    # A pointer that was written since is not what this lock is about.
    other = replace(pointer_to(bundle, "runs"), root="0" * 64)
    (lock.parent / "pipeline" / "train.json").write_bytes(other.serialised())
    assert locked_faults(bundle, bundle.name) == []


def test_a_pipeline_in_a_folder_is_looked_at_too_and_the_bundles_are_not(locked: tuple[Path, Path]) -> None:
    bundle, lock = locked
    lab = lock.parent / "labs" / "mine"
    lab.mkdir(parents=True)
    (lock.parent / "pipeline").rename(lab / "pipeline")
    lock.rename(lab / "dvc.lock")
    (bundle / "dvc.lock").write_text("stages: [")
    assert locked_faults(bundle, bundle.name) == []
    (lab / "dvc.lock").write_text((lab / "dvc.lock").read_text().replace("seed: 1", "seed: 2"))
    assert len(locked_faults(bundle, bundle.name)) == 1


def test_what_the_record_masks_is_compared_as_it_is_there(
    locked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, lock = locked
    urls = [f"https://me:{word}@example.org/data" for word in ("xk3" + "9vQ2m", "another" + "9vQ2m")]
    lock.write_text(lock.read_text().replace("seed: 1", f"url: {urls[0]}"))
    for url, faults in zip(urls, (0, 1), strict=True):
        monkeypatch.setattr(Bundle, "config", {"url": mask_values(url)})
        assert url not in str(found := locked_faults(bundle, bundle.name))
        assert len(found) == faults


@pytest.mark.parametrize("text", ["stages: [", "stages: 5", "stages: {train: {outs: [5]}}", "[]"])
def test_a_lock_that_cannot_be_read_is_one_line(locked: tuple[Path, Path], text: str) -> None:
    bundle, lock = locked
    lock.write_text(text)
    (fault,) = locked_faults(bundle, bundle.name)
    assert "dvc.lock cannot be read" in fault
    assert "\n" not in fault
