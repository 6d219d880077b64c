"""Runs for the tests of the writing side, and a reader of their chains that shares no code with `verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from helpers.bundles import ticking_clock
from recorder.bundle import layout
from recorder.canonical import canonical_json
from recorder.ledger.parquet import read_segment
from recorder.run import Run


def new_run(folder: Path, run_id: str = "demo", **options: Any) -> Run:
    """A run in `folder` whose first attempt has begun."""
    defaults = {"spools": folder / "spools", "clock": ticking_clock(), "name": "demo", "seed": 1, "command": "test"}
    run = Run.create(folder / "runs", run_id=run_id, **defaults | options)
    run.begin_attempt()
    return run


def resumed_run(folder: Path, run_id: str = "demo") -> Run:
    """A further attempt of such a run, begun."""
    run = Run.resume(folder / "runs" / run_id, spools=folder / "spools", clock=ticking_clock())
    run.begin_attempt()
    return run


def checked_events(bundle: Path) -> list[dict[str, Any]]:
    """The ledger's events; fails where a link, a number or the digest of an earlier segment is not right."""
    last, previous, events = _genesis(bundle), None, []
    for path in layout.segments(bundle, layout.LEDGER):
        lines = path.read_bytes().splitlines(keepends=True)
        for line in lines:
            last = _check_link(line, last)
            events.append(json.loads(line))
        if previous is not None:
            opened = json.loads(lines[0])
            assert opened["type"] == "segment.opened"
            named = opened["fields"]["previous"]
            assert named["path"] == previous.relative_to(bundle).as_posix()
            assert named["blake3"] == blake3(previous.read_bytes()).hexdigest()
        previous = path
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    return events


def checked_rows(bundle: Path, series: str = layout.METRICS) -> list[dict[str, Any]]:
    """The rows of a series; fails where a link or the digest of an earlier segment is not right."""
    last, previous, rows = _genesis(bundle), None, []
    for number, path in enumerate(layout.segments(bundle, series), 1):
        assert int(path.stem) == number
        if path.suffix == ".parquet":
            segment = read_segment(path)
            assert segment.check(last) is None
            header, last = segment.header, segment.last_hash
            rows += segment.rows()
        else:
            lines = path.read_bytes().splitlines(keepends=True)
            for line in lines:
                last = _check_link(line, last)
            header = json.loads(lines[0])["header"]
            records = [json.loads(line) for line in lines[1:]]
            rows += [{key: value for key, value in row.items() if key not in {"prev", "hash"}} for row in records]
        if previous is not None:
            assert header["previous"]["path"] == previous.relative_to(bundle).as_posix()
            assert header["previous"]["blake3"] == blake3(previous.read_bytes()).hexdigest()
        previous = path
    return rows


def of_type(events: list[dict[str, Any]], type: str) -> list[dict[str, Any]]:
    """The fields of the events of one type."""
    return [event["fields"] for event in events if event["type"] == type]


def _genesis(bundle: Path) -> str:
    return blake3((bundle / layout.RUN).read_bytes()).hexdigest()


def _check_link(line: bytes, last: str) -> str:
    record = json.loads(line)
    assert line == canonical_json(record) + b"\n"
    own, prev = record.pop("hash"), record.pop("prev")
    assert prev == last
    assert own == blake3(bytes.fromhex(last) + canonical_json(record)).hexdigest()
    return str(own)
