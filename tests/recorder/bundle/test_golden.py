"""The frozen bundle of format 1: read and verified for ever, its bytes explained with no more than JSON and BLAKE3."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from helpers.golden import RUN_ID, make_golden

from recorder.bundle import layout
from recorder.bundle.manifest import bundle_files
from recorder.bundle.reader import Bundle
from recorder.bundle.verify import verify_bundle
from recorder.canonical import canonical_json, digest_json, readable_json
from recorder.cli.main import main
from recorder.ledger.chain import chained_line
from recorder.ledger.parquet import read_segment

GOLDEN = Path(__file__).parents[2] / "golden/format-1" / RUN_ID
ROOT = "7eeaec5b9f2c0fb19130c53c0f6cff37095cdd160f538d7d734608b4c9c9132b"


def canonical(value: Any) -> bytes:
    """As docs/bundle-format.md puts it, in words of the standard library."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def test_verifies() -> None:
    report = verify_bundle(GOLDEN)
    assert report.findings == ()
    assert report.root == ROOT
    assert report.notes == ("3 steps were recorded more than once, with equal results",)


def test_is_small_and_whole() -> None:
    assert sum((GOLDEN / name).stat().st_size for name in bundle_files(GOLDEN)) < 200_000
    assert layout.archived_seal(1) in bundle_files(GOLDEN)


def test_the_manifests_root_is_that_of_its_canonical_form() -> None:
    data = (GOLDEN / layout.MANIFEST).read_bytes()
    manifest = json.loads(data)
    assert blake3(canonical(without(manifest, "root"))).hexdigest() == manifest["root"] == ROOT
    assert (json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode() == data
    assert manifest["previous_root"] == json.loads((GOLDEN / layout.archived_seal(1)).read_bytes())["root"]


def test_the_ledger_is_one_chain_from_run_json() -> None:
    previous = blake3((GOLDEN / layout.RUN).read_bytes()).hexdigest()
    for path in sorted((GOLDEN / layout.LEDGER).iterdir()):
        for line in path.read_bytes().splitlines():
            event = json.loads(line)
            assert line == canonical(event)
            assert event["prev"] == previous
            content = canonical(without(event, "prev", "hash"))
            previous = event["hash"]
            assert previous == blake3(bytes.fromhex(event["prev"]) + content).hexdigest()


def test_the_metrics_are_one_chain_from_run_json() -> None:
    previous = blake3((GOLDEN / layout.RUN).read_bytes()).hexdigest()
    for path in sorted((GOLDEN / layout.METRICS).iterdir()):
        segment = read_segment(path)
        assert segment.prev == previous
        previous = blake3(bytes.fromhex(previous) + canonical({"header": segment.header})).hexdigest()
        for row, stored in zip(segment.rows(), segment.table.column("hash").to_pylist(), strict=True):
            shown = {name: "NaN" if value != value else value for name, value in row.items()}
            shown = {name: "Infinity" if value == math.inf else value for name, value in shown.items()}
            previous = blake3(bytes.fromhex(previous) + canonical(shown)).hexdigest()
            assert stored.hex() == previous


def test_is_read_as_it_was_written() -> None:
    bundle = Bundle(GOLDEN)
    assert [attempt.outcome for attempt in bundle.attempts] == ["interrupted", "killed", "finished"]
    assert [row["step"] for row in bundle.committed.rows] == list(range(1, 13))
    assert [(row["step"], row["attempt"], row["membership"]) for row in bundle.committed.superseded] == [
        (5, 2, 0),
        (6, 2, 0),
        (9, 2, 1),
    ]
    first = bundle.committed.rows[0]
    assert math.isnan(first["accuracy"])
    assert first["norm"] == math.inf
    assert next(bundle.rows(layout.SYSTEM_METRICS))["cpu_percent"] == 12.5
    assert [(found.step, found.removed) for found in bundle.checkpoints] == [
        (4, "checkpoint.keep=1"),
        (8, "checkpoint.keep=1"),
        (12, None),
    ]
    note = next(event for event in bundle.events() if event["type"] == "note")
    assert note["fields"] == {"text": "événement inconnu", "value": "-Infinity"}


@pytest.mark.parametrize("command", ["show", "timeline", "verify"])
def test_every_command_reads_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(GOLDEN)]) == 0
    assert capsys.readouterr().err == ""


def test_todays_writer_makes_a_run_that_equals_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_golden(tmp_path / "runs")
    assert main(["diff", str(GOLDEN), str(made)]) == 0
    assert "same bits, 12 steps compared" in capsys.readouterr().out


def test_a_changed_byte_is_found_in_it_too(tmp_path: Path) -> None:
    path = Path(shutil.copytree(GOLDEN, tmp_path / RUN_ID))
    log = path / layout.log_file(1, "rank-0")
    log.chmod(0o644)
    log.write_bytes(log.read_bytes().replace(b"zwei", b"drei"))
    assert [finding.file for finding in verify_bundle(path).findings] == [layout.log_file(1, "rank-0")]


def test_canonical_forms_byte_for_byte() -> None:
    value = {"b": [1, 2.5, -0.0, 1e-05, 1e22, True, None], "a": 'ä\n"\\', "c": {"nan": math.nan, "inf": -math.inf}}
    assert canonical_json(value) == (
        b'{"a":"\xc3\xa4\\n\\"\\\\","b":[1,2.5,-0.0,1e-05,1e+22,true,null],"c":{"inf":"-Infinity","nan":"NaN"}}'
    )
    assert readable_json({"b": [1], "a": {}}) == b'{\n  "a": {},\n  "b": [\n    1\n  ]\n}\n'
    assert digest_json({"a": 1}) == blake3(b'{"a":1}').hexdigest()
    own, line = chained_line("00" * 32, {"seq": 1, "type": "note"})
    assert own == "c453e5afa2ca62d344a8afd3c6993cc498b9a7c226db82d60be0e84c359defdb"
    assert line == (b'{"hash":"' + own.encode() + b'","prev":"' + b"00" * 32 + b'","seq":1,"type":"note"}\n')
