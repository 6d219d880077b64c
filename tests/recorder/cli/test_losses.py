"""What `recorder show` says of losses and of the time that trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Recorder = Callable[..., Any]


def line(text: str, label: str) -> str:
    """What stands beside a label, on as many lines as it needs."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{label} "))
    rest = [line for line in lines[first + 1 : first + 2] if line.startswith(" ")]
    return " ".join(" ".join([lines[first].removeprefix(label), *rest]).split())


def test_what_losses_cost(recorder: Recorder, recovered: Path) -> None:
    text = recorder("show", "recovered", root=recovered).out
    assert line(text, "training") == "76% of the time"
    assert line(text, "workers") == "3 then 2 then 3 then 2; lost: rank 1 (signal SIGKILL)"
    assert line(text, "losses") == "1 step redone, 2.5 worker-seconds lost, training again after 1.2 s"
    text = recorder("show", "lost_node", root=recovered).out
    assert line(text, "workers") == "3 then 2 then 1; lost: rank 2 (node lost), rank 1 (expelled: hung), 1 node lost"
    assert line(text, "losses") == "2 steps redone, 5.0 worker-seconds lost, training again after 1.2 s"


@pytest.mark.parametrize("kind", ["recovered", "lost_node", "differed"])
def test_it_still_fits_one_screen(kind: str, recorder: Recorder, recovered: Path) -> None:
    lines = recorder("show", kind, root=recovered).out.splitlines()
    assert len(lines) <= 24
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_as_json(recorder: Recorder, recovered: Path) -> None:
    facts = json.loads(recorder("show", "lost_node", "--json", root=recovered).out)
    assert facts["recovery"] == {
        "nodes_lost": 1,
        "steps_redone": 2,
        "worker_seconds_lost": 5.0,
        "resume_seconds": [1.25, 1.25],
    }
    assert [(loss["worker"], loss["last_step"], loss["resume_seconds"]) for loss in facts["losses"]] == [
        ("rank-2.0", 5, 1.25),
        ("rank-1.0", 9, 1.25),
    ]
    ratio = facts["effective_training_time_ratio"]
    assert 0.62 < ratio < 0.64
    assert [attempt["effective_training_time_ratio"] for attempt in facts["attempts"]] == [ratio]


def test_each_attempt_has_its_own_share(recorder: Recorder) -> None:
    ratios = [
        attempt["effective_training_time_ratio"]
        for attempt in json.loads(recorder("show", "resumed", "--json").out)["attempts"]
    ]
    shown = ", ".join(f"{ratio:.0%}" for ratio in ratios)
    assert len(ratios) == 2
    assert f"of the time ({shown})" in recorder("show", "resumed").out


def test_the_ratio_is_defined_where_it_is_shown(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recorder("show", "--help")
    assert "effective training time ratio" in " ".join(capsys.readouterr().out.split())
