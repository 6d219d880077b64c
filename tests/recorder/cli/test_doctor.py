from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import RunBuilder

from recorder.cli import checks
from recorder.cli.checks import Check

REQUIREMENTS = ["blake3==1.0.11", 'torch==2.13.0; extra == "train"', "pytest==9; extra == 'dev'", "ray[train]==2.60.0"]


def test_prints_every_check_and_how_to_mend(recorder: Callable[..., Any]) -> None:
    said = recorder("doctor")
    names = [line.split()[1] for line in said.out.splitlines() if not line.startswith(" ")]
    expected = ["python", "packages", "runs", "spool", "memory", "cores", "gpu", "locale", "git", "runs", "records"]
    assert names == [*expected, "ray"]
    assert "mend: python train.py run.resume=killed" in said.out
    found = json.loads(recorder("doctor", "--json").out)
    assert {"name", "status", "found", "mend"} == found[0].keys()


def test_ends_with_3_only_when_this_machine_cannot_train(
    recorder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, code in (("ok", 0), ("warn", 0), ("fail", 3)):
        found = [Check("python", status, "found", "mend")]  # type: ignore[arg-type]
        monkeypatch.setattr(checks, "all_checks", lambda runs, workers, found=found: found)
        assert recorder("doctor").code == code


def test_python() -> None:
    assert checks.check_python((3, 11, 9)).status == "ok"
    assert checks.check_python((3, 12, 0)).status == "fail"


@pytest.mark.parametrize(
    ("installed", "status", "told"),
    [
        ({"blake3": "1.0.11", "torch": "2.13.0+cpu", "ray": "2.60.0"}, "ok", "3 as pinned"),
        ({"blake3": "1.0.11", "torch": "2.12.0", "ray": "2.60.0"}, "warn", "torch 2.12.0 instead of 2.13.0"),
        ({"blake3": "1.0.11", "ray": "2.60.0"}, "fail", "not installed: torch"),
    ],
)
def test_packages(installed: dict[str, str], status: str, told: str) -> None:
    check = checks.check_packages(REQUIREMENTS, installed)
    assert (check.status, check.found) == (status, told)


def test_packages_whose_pins_are_not_known() -> None:
    assert checks.check_packages([], {}).status == "warn"


def test_disk(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet"
    assert checks.check_disk("runs", missing, 0, 0).status == "ok"
    assert checks.check_disk("runs", missing, 1 << 62, 0).status == "warn"
    assert checks.check_disk("runs", missing, 1 << 62, 1 << 62).status == "fail"


def test_shared_memory(tmp_path: Path) -> None:
    assert checks.check_shared_memory(tmp_path / "missing").status == "warn"


def test_processors() -> None:
    assert checks.check_processors(4, 4).status == "ok"
    check = checks.check_processors(2, 4)
    assert (check.status, check.mend) == ("warn", "train with cluster.workers=2")


def test_locale() -> None:
    assert checks.check_locale("UTF-8").status == "ok"
    assert checks.check_locale("ANSI_X3.4-1968").status == "warn"


def test_records_that_wait_for_a_run_and_records_of_none(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join()
    (builder.spools / "source").mkdir()  # code that workers unpacked; the next run uses it again
    assert checks.check_spools(builder.spools, tmp_path / "runs").status == "ok"
    builder.kill()
    check = checks.check_spools(builder.spools, tmp_path / "runs")
    assert (check.status, check.mend) == ("warn", "python train.py run.resume=demo-1")
    assert "belong to no run" in checks.check_spools(builder.spools, tmp_path / "elsewhere").found
    assert checks.check_spools(tmp_path / "missing", tmp_path / "runs").status == "ok"


def test_ray() -> None:
    assert checks.check_ray({1: "bash"}).status == "ok"
    assert checks.check_ray({1: "bash", 7: "raylet"}).found == "a cluster is up (process 7)"
