from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers import bundles
from helpers.bundles import RunBuilder
from helpers.records import DETERMINISM, NODE, PACKAGES, SOURCE_FILES, SYSTEM, captured_files, config_with

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.canonical import readable_json
from recorder.capture.archive import SourceFile
from recorder.replay.diff import Change, Difference, compare_series, diff_bundles
from recorder.replay.hardware import hardware_changes


def diff(a: Path, b: Path) -> Difference:
    return diff_bundles(Bundle(a), Bundle(b))


def differing(difference: Difference) -> dict[str, list[Change]]:
    return {name: changes for name, changes in difference.sections.items() if changes}


def test_runs_that_differ_in_name_time_and_losses_alone_are_identical(root: Path) -> None:
    later = bundles.ticking_clock(bundles.BEGINNING + 1e6, 0.5)
    config = config_with(run__id="other", run__dir="elsewhere")
    identity = {"name": "other", "command": ["python", "train.py"], "determinism": DETERMINISM | {"id": "f" * 16}}
    a = bundles.finished(root, "one")
    b = bundles.resumed(root, "two", clock=later, config=config, **identity)
    found = diff(a, b)
    assert differing(found) == {}
    assert (found.first_divergent_step, found.steps_compared, found.identical) == (None, 12, True)


def test_the_first_divergent_step_and_what_differs_there(root: Path) -> None:
    a = RunBuilder(root, "a").create().join().steps(1, 9).close()
    b = RunBuilder(root, "b").create().join().steps(1, 5).steps(6, 6, gradient_digest="0" * 32).steps(7, 8, loss=9.0)
    found = diff(a, b.close())
    assert (found.first_divergent_step, found.steps_compared) == (6, 8)
    assert [change.key for change in found.divergence] == ["gradient_digest"]
    assert [change.key for change in found.sections["outcome"]] == ["last_step", "loss"]
    assert not found.identical


def test_the_last_bit_of_a_loss_counts_and_times_do_not(root: Path) -> None:
    a = RunBuilder(root, "a").create().join().steps(1, 3, loss=1.0).close()
    b = RunBuilder(root, "b").create().join().steps(1, 3, loss=math.nextafter(1.0, 2.0), step_seconds=9.0).close()
    found = diff(a, b)
    assert found.first_divergent_step == 1
    assert [change.key for change in found.divergence] == ["loss"]


@pytest.mark.parametrize(
    ("a", "b", "step"),
    [
        ({"loss": 0.0}, {"loss": -0.0}, 1),
        ({"loss": math.nan}, {"loss": math.nan}, None),
        ({"loss": math.nan}, {"loss": math.inf}, 1),
        ({"loss": 1.0, "fingerprint": "x"}, {"loss": 1.0}, None),
        ({"order_digest": "x"}, {"order_digest": "y"}, 1),
        ({"learning_rate": 1e-3}, {"learning_rate": 1e-4}, 1),
        ({"tokens": 1}, {"tokens": 2}, None),
    ],
)
def test_bits_are_compared_where_both_have_them(a: dict[str, Any], b: dict[str, Any], step: int | None) -> None:
    assert compare_series([{"step": 1, **a}], [{"step": 1, **b}])[:2] == (step, 1)


def test_runs_without_a_step_in_common_have_nothing_compared() -> None:
    assert compare_series([{"step": 1, "loss": 1.0}], [{"step": 2, "loss": 2.0}]) == (None, 0, [])


def test_every_section_tells_what_differs(root: Path) -> None:
    config = config_with(optim__lr=0.1, model={"_target_": "my.Model"})
    source = (*SOURCE_FILES[:1], SourceFile(b"train.py", b"print('other')\n", True))
    packages = copy.deepcopy(PACKAGES)
    packages["packages"][1]["version"] = "2.14.0"
    system = SYSTEM | {"hostname": "elsewhere", "cpu": SYSTEM["cpu"] | {"model": "Other CPU"}}
    files = captured_files(config, source) | {
        layout.PACKAGES: readable_json(packages),
        layout.SYSTEM: readable_json(system),
        layout.DATASET: captured_files(config)[layout.DATASET].replace(b"CC0-1.0", b"CC-BY-4.0"),
    }
    found = diff(
        bundles.finished(root, "a"), bundles.finished(root, "b", config=config, files=files, seed=2, clock=None)
    )
    told = {name: [change.key for change in changes] for name, changes in differing(found).items()}
    assert told["run"] == ["seed"]
    assert "optim.lr" in told["config"]
    assert "model._target_" in told["config"]
    assert told["packages"] == ["torch"]
    assert told["source"] == ["train.py"]
    assert told["data"] == ["licence"]
    assert "system.cpu.model" in told["hardware"]
    assert Change("optim.lr", 0.003, 0.1) in found.sections["config"]
    assert not any("hostname" in key for keys in told.values() for key in keys)


def test_is_json_with_its_public_keys(root: Path) -> None:
    a = RunBuilder(root, "a").create().join().steps(1, 2, loss=math.nan).close()
    b = RunBuilder(root, "b").create().join().steps(1, 2).close()
    record = json.loads(json.dumps(diff(a, b).record(), allow_nan=False))
    assert (record["first_divergent_step"], record["steps_compared"], record["identical"]) == (1, 2, False)
    assert record["divergence"][0] == {"key": "loss", "a": "NaN", "b": bundles.step_values(1)["loss"]}


def test_machines_are_compared_whatever_their_names_and_numbers() -> None:
    renamed = copy.deepcopy(NODE)
    renamed["system"]["hostname"] = "elsewhere"
    renamed["packages"]["packages"][1]["version"] = "2.14.0"  # told in a section of its own
    assert hardware_changes([NODE, NODE], [renamed]) == []
    other = copy.deepcopy(NODE)
    other["system"]["cpu"]["model"] = "Other CPU"
    assert hardware_changes([NODE], [renamed, other]) == [("system.cpu.model", "Example CPU", "Other CPU")]
    assert hardware_changes([NODE, other], [renamed]) == [("system.cpu.model", "Other CPU", "Example CPU")]
    assert hardware_changes([], [NODE]) == [("machines", 0, 1)]
    assert hardware_changes([], []) == []
