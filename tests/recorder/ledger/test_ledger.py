from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import ticking_clock
from helpers.disks import fill, small_disk, write_until_full
from helpers.recording import checked_events
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import layout
from recorder.errors import BundleError, RecordingError
from recorder.ledger.ledger import Ledger, read_events


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def make_bundle(folder: Path) -> Path:
    (folder / layout.RUN).write_text("{}\n")
    return folder


def new_ledger(bundle: Path, attempt: int = 1) -> Ledger:
    return Ledger(bundle, attempt, ticking_clock())


def types(bundle: Path) -> list[str]:
    return [event["type"] for event in checked_events(bundle)]


def test_an_event_is_on_disk_when_append_returns(bundle: Path) -> None:
    assert new_ledger(bundle).append("note", {"text": "hi"}) == 1
    (event,) = checked_events(bundle)
    assert {key: event[key] for key in ("seq", "attempt", "type", "fields")} == {
        "seq": 1,
        "attempt": 1,
        "type": "note",
        "fields": {"text": "hi"},
    }


def test_an_event_from_a_spool_keeps_its_own_time(bundle: Path) -> None:
    new_ledger(bundle).append("note", {}, ("rank-0.0.spool", 7, 1.5))
    (event,) = checked_events(bundle)
    assert (event["spool"], event["spool_seq"], event["time"]) == ("rank-0.0.spool", 7, "1970-01-01T00:00:01.500000Z")


def test_segments_name_the_one_before_with_its_digest(bundle: Path) -> None:
    ledger = new_ledger(bundle)
    assert ledger.close_segment() is None
    for number in range(3):
        ledger.append("note", {"number": number})
        closed = ledger.close_segment()
        assert closed is not None
        assert closed[0] == layout.ledger_segment(number + 1)
        assert (bundle / closed[0]).stat().st_mode & 0o222 == 0
    assert ledger.close_segment() is None
    assert types(bundle) == ["note", "segment.opened", "note", "segment.opened", "note"]


def test_nothing_can_be_appended_after_the_end(bundle: Path) -> None:
    ledger = new_ledger(bundle)
    ledger.append("note", {})
    assert ledger.end() is not None
    with pytest.raises(RecordingError, match="cannot record late: the run is closed"):
        ledger.append("late", {})
    assert types(bundle) == ["note"]


def test_threads_append_to_one_chain(bundle: Path) -> None:
    ledger = new_ledger(bundle)

    def append(thread: int) -> None:
        for number in range(100):
            ledger.append("note", {"thread": thread, "number": number})
            if number % 30 == 0:
                ledger.close_segment()

    threads = [threading.Thread(target=append, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes = [event["fields"] for event in checked_events(bundle) if event["type"] == "note"]
    for thread in range(2):
        assert [note["number"] for note in notes if note["thread"] == thread] == list(range(100))


@given(st.lists(st.sampled_from(["append", "close"]), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=40)
def test_a_ledger_cut_anywhere_goes_on_and_keeps_the_torn_piece(
    tmp_path_factory: pytest.TempPathFactory, actions: list[str], data: st.DataObject
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("cut"))
    ledger = new_ledger(bundle)
    for action in ["append", *actions]:
        ledger.append("note", {"text": "x" * 20}) if action == "append" else ledger.close_segment()
    before = checked_events(bundle)
    last = layout.segments(bundle, layout.LEDGER)[-1]
    whole = last.read_bytes()
    # The first event of a run is in the bundle before anything of it can be resumed.
    first = len(whole.splitlines(keepends=True)[0]) if last.name == "0001.jsonl" else 0
    cut = data.draw(st.integers(first, len(whole)))
    os.truncate(last, cut)
    torn = whole[:cut].rpartition(b"\n")[2]
    kept = len(before) - whole.count(b"\n") + whole[:cut].count(b"\n")

    new_ledger(bundle, attempt=2).append("note", {"text": "after"})
    after = checked_events(bundle)
    assert after[:kept] == before[:kept]
    assert after[-1]["fields"] == {"text": "after"}
    evidence = [event["fields"] for event in after if event["type"] == "segment.torn"]
    assert [base64.b64decode(fields["base64"]) for fields in evidence] == ([torn] if torn else [])
    assert all((fields["bytes"], fields["path"]) == (len(torn), f"ledger/{last.name}") for fields in evidence)


def test_an_event_that_could_not_be_written_leaves_no_trace(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = new_ledger(bundle)
    ledger.append("note", {"number": 1})
    ledger.close_segment()
    write, parts = os.write, iter([True, False])

    def fill_up(handle: int, data: bytes) -> int:
        if next(parts):
            return write(handle, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(RecordingError, match=r"cannot write .*0002\.jsonl: the disk is full; free some space"):
        ledger.append("note", {"number": 2})
    monkeypatch.undo()
    ledger.append("note", {"number": 3})
    assert types(bundle) == ["note", "segment.opened", "note"]
    assert checked_events(bundle)[-1]["fields"] == {"number": 3}


def test_a_full_disk_stops_the_ledger_with_whole_lines_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        bundle = make_bundle(disk)
        ledger = new_ledger(bundle)
        ledger.append("note", {})
        filler = fill(disk)
        write_until_full(lambda _: ledger.append("note", {"fill": "x" * 100}))
        assert types(bundle)[-1] == "note"
        filler.unlink()
        ledger.append("after", {})
        assert types(bundle)[-1] == "after"


def test_a_folder_that_cannot_be_made_is_one_clear_line(bundle: Path) -> None:
    (bundle / layout.LEDGER).write_text("a file where the folder should be")
    ledger = new_ledger(bundle)
    with pytest.raises(RecordingError, match=r"cannot write .*ledger/0001\.jsonl"):
        ledger.append("note", {})


@pytest.mark.parametrize(
    "change",
    [
        lambda line: b"nonsense\n",
        lambda line: b'{"no":"event"}\n',
        lambda line: json.dumps(json.loads(line) | {"fields": 3}).encode() + b"\n",
    ],
)
def test_a_damaged_line_is_named(bundle: Path, change: Any) -> None:
    ledger = new_ledger(bundle)
    for _ in range(3):
        ledger.append("note", {})
    path = bundle / layout.ledger_segment(1)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + change(second) + third)
    with pytest.raises(BundleError, match=r"ledger/0001\.jsonl line 2 is not"):
        list(read_events(bundle))
    with pytest.raises(BundleError, match=r"ledger/0001\.jsonl line 2 is not"):
        new_ledger(bundle, attempt=2)


def test_what_is_kept_of_a_torn_event_has_no_credentials(bundle: Path) -> None:
    token = "ghp_" + "aB3" * 12
    ledger = new_ledger(bundle)
    for text in ("first", f"used {token}, " + "x" * 80):
        ledger.append("note", {"text": text})
    last = layout.segments(bundle, layout.LEDGER)[-1]
    os.truncate(last, last.stat().st_size - 80)
    new_ledger(bundle, attempt=2).append("note", {"text": "after"})
    [torn] = [event["fields"] for event in checked_events(bundle) if event["type"] == "segment.torn"]
    assert b"<hidden:github-token:" in base64.b64decode(torn["base64"])
    assert token.encode() not in base64.b64decode(torn["base64"])
