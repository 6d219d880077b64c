"""Who trained when, as text, as JSON and as a drawing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers.bundles import RunBuilder
from helpers.recovery import RecoveryBuilder

from recorder.bundle.costs import Costs
from recorder.bundle.lanes import lanes
from recorder.cli.lanes_svg import lanes_svg
from recorder.cli.lanes_text import lanes_text
from recorder.ledger import events

Recorder = Callable[..., Any]

GOLDEN = Path(__file__).parents[2] / "golden/timeline.svg"
NOTHING = Costs((), 0, 0, 0.0, ())
SVG = "{http://www.w3.org/2000/svg}"


IN_80_COLUMNS = [
    "recovered, sealed",
    "                       0                                                    16 s",
    "memberships                   0            1       2                 3",
    "node-a       rank 0           ━━━━━━━━━━━━╌━━━━━╌╌╌━━━━━━━━━━━━━━━━━━━━━━━━━━━━■",
    "node-b       rank 1           ━━━━━━━━━━━✗         ━━━━━━━━━━━━━━━━━━━━━━━━━━━━■",
    "node-c       rank 2           ━━━━━━━━━━━━╌━━━━━╌╌╌━━━━━━━━━━━━━━━━━━▷",
    "steps                         1            7       9                 19",
    "checkpoints                                    8                 16           24",
    "in memory                            4                           16",
    "nodes                                                                ▷ node-c",
    "━ trains, ╌ does not, ■ ends in order, ▷ drained, ✗ lost",
    "✗ rank 1 on node-b, signal SIGKILL: 1 step redone, 2.5 worker-seconds lost,",
    "  training again after 1.2 s",
]


def test_lanes_in_80_columns(recorder: Recorder, recovered: Path) -> None:
    assert recorder("timeline", "recovered", "--lanes", root=recovered).out.splitlines() == IN_80_COLUMNS


def test_the_events_follow_the_lanes(recorder: Recorder, recovered: Path) -> None:
    lines = recorder("timeline", "recovered", root=recovered).out.splitlines()
    assert lines[: len(IN_80_COLUMNS)] == IN_80_COLUMNS
    told = [
        "rank 1 is lost, pid 1010: signal SIGKILL",
        "membership 1: 2 workers (worker lost)",
        "step 7 will be redone",
        "training goes on 1.2 s after the loss: 1 step redone, 2.5 worker-seconds lost",
        "rank 1 receives the state of step 8 from rank 0",
        "node node-c is to be drained: node drained",
        "rank 2 leaves after step 18: node drained",
    ]
    places = [next(number for number, line in enumerate(lines) if text in line) for text in told]
    assert places == sorted(places)
    assert not any("in the memory of node" in line for line in lines), "snapshots come too often to be news"


def test_a_return_to_an_agreed_state_and_a_lost_node(recorder: Recorder, recovered: Path) -> None:
    text = recorder("timeline", "differed", root=recovered).out
    assert "the workers' states of step 8 differ, expelled: rank 1" in text
    assert "steps 5 to 8 will be redone" in text
    assert re.search(r"^restored +4$", text, re.MULTILINE)
    assert re.search(r"^differed +8$", text, re.MULTILINE)
    text = recorder("timeline", "lost_node", "--lanes", root=recovered).out
    assert re.search(r"^nodes +✗ node-c$", text, re.MULTILINE)
    assert "✗ rank 1 on node-b, expelled: hung: 1 step redone" in text


@pytest.mark.parametrize("columns", [43, 60, 80, 200])
def test_no_line_of_the_lanes_is_wider_than_the_terminal(
    columns: int, recorder: Recorder, recovered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for kind in ("recovered", "lost_node", "differed"):
        lines = recorder("timeline", kind, "--lanes", root=recovered).out.splitlines()
        assert max(map(len, lines)) <= columns


def test_many_marks_leave_no_line_wider(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 3)
    for _ in range(150):
        builder.clock.advance(0.1)
        builder.snapshot()
    from recorder.bundle.reader import Bundle

    bundle = Bundle(builder.finish().close())
    for columns in (43, 80):
        lines = list(lanes_text(lanes(bundle.events(), bundle.rows()), NOTHING, columns))
        assert max(map(len, lines)) <= columns
        assert sum(line.startswith("in memory") for line in lines) == 1


def test_several_attempts_have_a_line(recorder: Recorder) -> None:
    assert re.search(r"^attempts +1 +2$", recorder("timeline", "resumed", "--lanes").out, re.MULTILINE)
    assert "attempts" not in recorder("timeline", "finished", "--lanes").out


def test_lanes_of_next_to_nothing(recorder: Recorder, tmp_path: Path) -> None:
    RunBuilder(tmp_path / "runs", files={}).create().close("failed")
    assert recorder("timeline", "latest", "--lanes", root=tmp_path / "runs").code == 0
    assert recorder("timeline", "latest", "--svg", str(tmp_path / "a.svg"), root=tmp_path / "runs").code == 0
    ElementTree.parse(tmp_path / "a.svg")


def test_lanes_as_json(recorder: Recorder, recovered: Path) -> None:
    found = json.loads(recorder("timeline", "recovered", "--lanes", "--json", root=recovered).out)
    assert found["run"] == "recovered"
    assert [(lane["node"], lane["rank"], len(lane["spans"])) for lane in found["lanes"]] == [
        ("node-a", 0, 1),
        ("node-b", 1, 2),
        ("node-c", 2, 1),
    ]
    assert [mark["fields"]["step"] for mark in found["marks"] if mark["type"] == events.SNAPSHOT_SAVED] == [4, 16]
    assert found["costs"]["losses"][0]["resume_seconds"] == 1.25
    assert isinstance(json.loads(recorder("timeline", "recovered", "--json", root=recovered).out), list)


def test_the_drawing_of_a_fixed_record(recorder: Recorder, recovered: Path, tmp_path: Path) -> None:
    """After a deliberate change: look at the new drawing, then put it in the place of the old one."""
    said = recorder("timeline", "recovered", "--svg", str(tmp_path / "drawn.svg"), root=recovered)
    assert (said.code, said.out) == (0, "")
    assert (tmp_path / "drawn.svg").read_text("utf-8") == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize("kind", ["recovered", "lost_node", "differed"])
def test_a_drawing_is_well_formed_and_needs_nothing_else(
    kind: str, recorder: Recorder, recovered: Path, tmp_path: Path
) -> None:
    recorder("timeline", kind, "--svg", str(tmp_path / "drawn.svg"), root=recovered)
    tree = ElementTree.parse(tmp_path / "drawn.svg")
    assert {element.tag.removeprefix(SVG) for element in tree.iter()} <= {
        *("svg", "title", "style", "rect", "line", "text", "g", "path"),
    }
    attributes = {name for element in tree.iter() for name in element.attrib}
    assert not {name for name in attributes if "href" in name or name.startswith("on")}
    style = tree.getroot().findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    assert not re.search(r"url|import|@font", style)


def test_what_a_bundle_says_cannot_break_out_of_the_drawing(tmp_path: Path) -> None:
    hostile = "</title><script>alert('1')</script>&\"\x1b\x00\ufffe\udcff"
    worker = {"rank": 0, "worker": hostile, "node": hostile, "membership": 0}
    event = {"attempt": 1, "time": "2026-09-21T14:13:20.000000Z"}
    happened = [
        event | {"type": events.WORKER_JOINED, "fields": worker},
        event | {"type": events.WORKER_LOST, "fields": worker | {"cause": hostile}},
        event | {"type": events.NODE_LOST, "fields": {"node": hostile, "cause": hostile}},
    ]
    drawing = lanes_svg(hostile, lanes(happened, []), NOTHING)
    root = ElementTree.fromstring(drawing.encode("utf-8"))
    assert not [element for element in root.iter() if "script" in element.tag]
    assert "".join(root.itertext()).count("alert('1')") >= 4


def test_a_file_that_cannot_be_written_is_one_line(recorder: Recorder, recovered: Path, tmp_path: Path) -> None:
    said = recorder("timeline", "recovered", "--svg", str(tmp_path / "no/such.svg"), root=recovered)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "cannot be written (No such file or directory); name a file with --svg FILE" in said.err
