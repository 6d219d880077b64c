"""The output of a training stage: names one bundle, and the commands take it as RUN."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.bundles import finished, killed, ticking_clock
from helpers.commands import recorder
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import BundleError, RunNotFound
from recorder.run import Run
from recorder.tracking.stage_pointer import (
    StagePointer,
    parse_stage_pointer,
    pointer_faults,
    pointer_to,
    read_stage_pointer,
)


@given(st.builds(StagePointer, *[st.text(max_size=20)] * 4))
def test_what_was_written_is_read(pointer: StagePointer) -> None:
    try:
        data = pointer.serialised()
    except UnicodeEncodeError:
        return
    assert parse_stage_pointer(data) == pointer or "\ud800" <= max("".join(vars(pointer).values())) <= "\udfff"


@given(st.binary(max_size=60))
def test_anything_else_is_none(data: bytes) -> None:
    assert parse_stage_pointer(data) is None


def test_it_names_the_seal_and_later_seals_keep_it(tmp_path: Path) -> None:
    bundle = finished(tmp_path / "runs")
    pointer = pointer_to(bundle, "runs")
    assert pointer.root == json.loads((bundle / "bundle.json").read_bytes())["root"]
    assert pointer_faults(pointer, bundle) == []
    run = Run.resume(bundle, spools=tmp_path / "spools", clock=ticking_clock())
    run.begin_attempt(command="again", host="b", pid=1, files={})
    assert pointer_faults(pointer, bundle) == []
    run.close("interrupted")
    assert pointer_faults(pointer, bundle) == []
    assert "the pointer names the root" in pointer_faults(StagePointer("a", "runs/a", "0", "1"), bundle)[0]
    with pytest.raises(BundleError, match="is not sealed"):
        pointer_to(killed(tmp_path / "others"), "others")


def test_commands_take_it_and_say_where_it_leads_nowhere(tmp_path: Path) -> None:
    bundle = finished(tmp_path / "runs")
    pointer = pointer_to(bundle, "runs")
    (tmp_path / "train.json").write_bytes(pointer.serialised())
    assert json.loads(recorder(tmp_path, "show", "train.json", "--json").out)["run"] == bundle.name
    done = recorder(tmp_path, "verify", "train.json", "--out", "out/verify.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out/verify.json").read_bytes()) == {
        "findings": 0,
        "found": [],
        "ok": True,
        "run": bundle.name,
    }
    other = StagePointer(pointer.run, pointer.bundle, pointer.config_digest, "0" * 64)
    (tmp_path / "train.json").write_bytes(other.serialised())
    done = recorder(tmp_path, "verify", "train.json", "--digests", "--json")
    (finding,) = json.loads(done.out)["findings"]
    assert (done.code, finding["kind"]) == (1, "seal")
    gone = StagePointer("a", "runs/a", "0", "1")
    (tmp_path / "train.json").write_bytes(gone.serialised())
    done = recorder(tmp_path, "verify", "train.json")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "`dvc pull runs/a.dvc` fetches it" in done.err
    with pytest.raises(RunNotFound):
        gone.folder()
    assert read_stage_pointer(tmp_path / "nothing") is None
