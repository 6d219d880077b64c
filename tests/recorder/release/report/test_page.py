"""What a report says, and that nothing in a bundle can break out of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import b64decode
from pathlib import Path

import pytest
from helpers.bundles import RunBuilder, finished
from helpers.pages import HOSTILE, Elements, chart, data_of, hostile_run
from helpers.records import config_with

from recorder.bundle.costs import effective_times
from recorder.bundle.reader import Bundle
from recorder.cli.main import main
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.report.curves import read_curves
from recorder.release.report.html import script_json
from recorder.release.report.page import parent_config, report

KINDS = ("finished", "failed", "killed", "resumed", "continued", "recovered", "lost_node", "differed")


@pytest.mark.parametrize("kind", KINDS)
def test_the_curves_are_the_rows(kind: str, runs: Path) -> None:
    bundle = Bundle(runs / kind)
    lines = chart(report(bundle), "Loss")["lines"]
    drawn = {
        (x, y) for line in lines if line["kept"] for x, y in zip(line["curve"]["x"], line["curve"]["y"], strict=True)
    }
    assert drawn == {(row["step"], row["loss"]) for row in bundle.committed.rows}
    again = [x for line in lines if not line["kept"] for x in line["curve"]["x"]]
    assert sorted(again) == sorted({row["step"] for row in bundle.committed.superseded})


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_all_rows_in_memory(kind: str, runs: Path) -> None:
    bundle = Bundle(runs / kind)
    curves = read_curves(bundle)
    known = effective_times(bundle.attempts, bundle.committed)
    assert {number: time.training_seconds for number, time in known.items()} == pytest.approx(
        {number: curves.training_seconds.get(number, 0.0) for number in known}
    )
    assert curves.final is not None
    assert curves.final["step"] == bundle.committed.last_step
    assert curves.superseded == len(bundle.committed.superseded)


def test_throughput_is_the_tokens_of_a_step_by_its_time(runs: Path) -> None:
    rates = chart(report(Bundle(runs / "finished")), "Throughput")["lines"][0]["curve"]
    assert rates == {"width": 1, "x": list(range(2, 13)), "y": [64 / 0.015] * 11}
    # After a return to an earlier step the row before is none to measure from.
    again = chart(report(Bundle(runs / "resumed")), "Throughput")["lines"]
    assert {rate for line in again for rate in line["curve"]["y"]} == {64 / 0.015}


def test_moments_are_marked_at_their_steps(runs: Path) -> None:
    moments = data_of(report(Bundle(runs / "recovered")))["moments"]
    told = [(moment["kind"], moment["step"]) for moment in moments]
    assert ("lost", 6) in told
    assert ("drained", 18) in told
    assert [step for kind, step in told if kind == "membership"] == [0, 6, 8, 18]
    restored = data_of(report(Bundle(runs / "resumed")))["moments"]
    assert [moment["step"] for moment in restored if moment["kind"] == "restored"] == [5]
    assert [moment["step"] for moment in restored if moment["kind"] == "attempt"] == [0, 5]


def test_losses_costs_checkpoints_and_validation_are_told(runs: Path) -> None:
    bundle = Bundle(runs / "recovered")
    text = Elements(report(bundle)).text
    for told in ("signal SIGKILL", "1.2 s", "node-b", "rank-1.0", "of the time went to steps that were kept"):
        assert told in text
    kept = [event["fields"] for event in bundle.events() if event["type"] == events.CHECKPOINT_SAVED]
    assert all(record["blake3"] in text for fields in kept for record in fields["files"].values())
    finished_page = report(Bundle(runs / "finished"))
    assert chart(finished_page, "Loss")["dots"] == {"width": 1, "x": [12], "y": [1.75]}
    assert "2 checkpoints kept, 1 removed while the run went on." in Elements(finished_page).text


def test_how_a_run_ended_is_said(runs: Path) -> None:
    said = {kind: Elements(report(Bundle(runs / kind))).text for kind in ("finished", "failed", "killed")}
    assert "Its record is sealed." in said["finished"]
    assert "failed Its record is sealed." in said["failed"]
    assert "abandoned It was never sealed; its last attempt: killed." in said["killed"]


def test_a_fork_tells_what_differs_from_its_parent(tmp_path: Path) -> None:
    finished(tmp_path / "runs", "parent-1")
    changed = config_with(optim__lr=0.5)
    fork = finished(tmp_path / "runs", "fork-1", config=changed, parent={"run": "parent-1", "step": 5})
    alone = finished(tmp_path / "others", "fork-1", config=changed, parent={"run": "parent-1", "step": 5})
    text = Elements(report(Bundle(fork), parent_config(Bundle(fork)))).text
    assert re.search(r"parent-1 at step 5keyparentthis runoptim\.lr0\.0030\.5", text)
    assert parent_config(Bundle(alone)) is None
    assert "was not at hand to be compared with" in Elements(report(Bundle(alone))).text


def test_samples_and_addenda_are_shown(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 3)
    for step in (1, 3):
        builder.ranks[0].event(events.SAMPLE, step=step, prompt="Once", text=f" upon {step}\ntimes")
    path = builder.finish(3).close()
    (path / "addenda").mkdir(exist_ok=True)
    (path / "addenda" / "audit-0001.json").write_text('{"verdict": "the same bits", "steps": [1, 3]}')
    text = Elements(report(Bundle(path))).text
    assert " upon 1\ntimes" in text
    assert "the same bits" in text
    (path / "addenda" / "audit-0001.json").write_text("{")
    with pytest.raises(BundleError, match=r"addenda/audit-0001\.json is damaged"):
        report(Bundle(path))


def test_the_same_bundle_gives_the_same_bytes(runs: Path) -> None:
    assert report(Bundle(runs / "recovered")) == report(Bundle(runs / "recovered"))


def test_what_a_bundle_says_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    page = report(Bundle(hostile_run(tmp_path / "runs")))
    found = Elements(page)
    assert [tag for tag, _ in found.elements].count("script") == 2
    assert not {tag for tag, _ in found.elements} & {"img", "iframe", "object", "base", "form"}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert found.text.count("alert('1')") > 8


def test_data_holds_no_character_of_markup() -> None:
    text = HOSTILE + "\udcff"
    written = script_json({text: [text, math.nan]})
    assert json.loads(written) == {text: [text, "NaN"]}
    assert written.isascii()
    assert not set(written) & set("<>&")


def test_the_page_loads_nothing_and_allows_no_script_but_its_own(runs: Path) -> None:
    page = report(Bundle(runs / "recovered"))
    found = Elements(page)
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        content = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digests = re.findall(rf"{directive} 'sha256-([^']+)'", policy)
        assert [b64decode(found) for found in digests] == [hashlib.sha256(text.encode()).digest() for text in content]
    links = [value for _, attributes in found.elements for name, value in attributes.items() if name in {"src", "href"}]
    assert all(link is not None and link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import|//[a-z]+\.", re.sub(r"http://www\.w3\.org/2000/svg", "", page))


def test_the_command_writes_the_page(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.html"
    assert main(["report", "resumed", "--runs", str(runs), "--out", str(out)]) == 0
    assert out.read_text("utf-8") == report(Bundle(runs / "resumed"))
    assert main(["report", "resumed", "--runs", str(runs), "--out", str(tmp_path / "no/such"), "--json"]) == 2
    assert "name a file with --out FILE" in capsys.readouterr().err


def test_a_damaged_record_is_one_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished(tmp_path / "runs")
    segment = sorted((path / "metrics").iterdir())[0]
    segment.chmod(0o644)
    segment.write_bytes(b"no parquet")
    assert main(["report", "latest", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "a.html")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a.html").exists()
