from __future__ import annotations

import json
import math
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.children import Child, Counter, write_until_killed
from helpers.disks import fill, small_disk, write_until_full
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import RecordingError
from recorder.ledger.spool import SpoolReader, SpoolWriter


def records(path: Path) -> list[dict[str, Any] | None]:
    return [line.record for line in SpoolReader(path).read()]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every `os.write` of this process."""
    seen: list[bytes] = []
    write = os.write

    def note(handle: int, data: bytes) -> int:
        seen.append(bytes(data))
        return write(handle, data)

    monkeypatch.setattr(os, "write", note)
    return seen


def test_a_record_is_one_line_and_one_write_call(tmp_path: Path, writes: list[bytes]) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool", clock=lambda: 1.5)
    writer.write("event", {"type": "note", "fields": {"text": "zwei\nZeilen"}})
    writer.write("step", {"step": 1}, ',"more":[2]')
    assert writes == [
        b'{"t":1.5,"k":"event","type":"note","fields":{"text":"zwei\\nZeilen"}}\n',
        b'{"t":1.5,"k":"step","step":1,"more":[2]}\n',
    ]
    assert (tmp_path / "a.0.spool").read_bytes() == b"".join(writes)


def test_non_finite_numbers_and_odd_text_are_kept(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    writer.write("event", {"values": [math.nan, math.inf, -math.inf, -0.0], "file": "\udcff"})
    (record,) = records(writer.path)
    assert record is not None
    assert record["values"] == ["NaN", "Infinity", "-Infinity", 0.0]
    assert math.copysign(1, record["values"][3]) == -1
    assert record["file"] == "\udcff"


def test_what_json_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    with pytest.raises(TypeError):
        writer.write("event", {"value": object()})
    writer.write("event", {"value": 1})
    assert [line.number for line in SpoolReader(writer.path).read()] == [1]


def test_an_existing_spool_is_never_opened_again(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    writer.write("event", {})
    with pytest.raises(RecordingError, match=r"cannot write .*a\.0\.spool: File exists"):
        SpoolWriter(tmp_path / "a.0.spool")
    assert len(records(writer.path)) == 1


def test_a_closed_spool_takes_nothing_more_and_touches_no_other_file(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    writer.close()
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)  # takes the number of the closed descriptor
    with pytest.raises(RecordingError):
        writer.write("event", {})
    writer.close()
    os.write(other, b"still open")
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b"still open"


CONTENT = st.dictionaries(st.sampled_from("abc"), st.text(max_size=6) | st.integers() | st.floats(), max_size=3)


@given(st.lists(CONTENT, min_size=1, max_size=5), st.data())
@settings(deadline=None, max_examples=40)
def test_a_cut_at_any_byte_leaves_exactly_the_whole_records(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.0.spool"
    writer = SpoolWriter(path, clock=lambda: 1.5)
    for content in contents:
        writer.write("event", content)
    writer.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])

    reader = SpoolReader(path)
    read = reader.read(data.draw(st.integers(1, 100)))
    while more := reader.read(data.draw(st.integers(1, 100))):
        read += more
    lines = whole.splitlines(keepends=True)
    count = whole[:cut].count(b"\n")
    assert [line.record for line in read] == [json.loads(line) for line in lines[:count]]
    assert [line.number for line in read] == list(range(1, count + 1))
    torn = whole[sum(map(len, lines[:count])) : cut]
    assert reader.take_torn() == torn
    assert reader.take_torn() == b""


def test_reading_goes_on_where_it_stopped_once_a_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.0.spool"
    path.write_bytes(b'{"a":1}\n{"b"')
    reader = SpoolReader(path)
    assert [line.record for line in reader.read()] == [{"a": 1}]
    assert reader.read() == []
    with path.open("ab") as file:
        file.write(b':2}\n{"c":3}\n')
    assert [(line.number, line.offset, line.record) for line in reader.read()] == [(2, 8, {"b": 2}), (3, 16, {"c": 3})]


def test_a_damaged_line_is_handed_over_as_it_is_and_the_next_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.0.spool"
    path.write_bytes(b'{"a":1}\n\x00\x00 broken\n[1]\n{"b":2}\n')
    read = SpoolReader(path).read()
    assert [line.record for line in read] == [{"a": 1}, None, None, {"b": 2}]
    assert (read[1].offset, read[1].data, read[1].number) == (8, b"\x00\x00 broken\n", 2)


def test_a_record_longer_than_one_reading_does_not_stop_the_rest(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    writer.write("event", {"text": "x" * 5000})
    writer.write("event", {"text": "short"})
    reader = SpoolReader(writer.path)
    read = reader.read(100)
    read += reader.read(100)
    assert [len(line.record["text"]) for line in read if line.record] == [5000, 5]


def test_a_spool_that_is_not_there_yet_has_nothing(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path / "none.0.spool")
    assert (reader.read(), reader.take_torn()) == ([], b"")


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")

    def write(thread: int) -> None:
        for number in range(300):
            writer.write("event", {"thread": thread, "number": number, "fill": "x" * (number % 50)})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = [record for record in records(writer.path) if record is not None]
    assert len(read) == 4 * 300
    for thread in range(4):
        assert [record["number"] for record in read if record["thread"] == thread] == list(range(300))


def test_a_signal_handler_may_write_while_the_lock_is_held(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    with writer._lock:
        writer.write("log", {"text": "from the handler"})
    assert len(records(writer.path)) == 1


def test_a_forked_child_can_write_although_a_thread_held_the_lock(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with writer._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        writer.write("log", {"text": "from the child"})
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    release.set()
    thread.join()
    assert [record["text"] for record in records(writer.path) if record] == ["from the child"]


def test_half_a_write_is_taken_back_when_the_rest_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path / "a.0.spool")
    writer.write("event", {"number": 1})
    write, calls = os.write, iter([True, False])

    def fill_up(handle: int, data: bytes) -> int:
        if next(calls):
            return write(handle, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(RecordingError, match="the disk is full; free some space"):
        writer.write("event", {"number": 2})
    monkeypatch.undo()
    writer.write("event", {"number": 3})
    assert [record["number"] for record in records(writer.path) if record] == [1, 3]
    assert writer.path.read_bytes().count(b"\n") == 2


def test_on_a_full_disk_every_record_that_was_taken_is_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        writer = SpoolWriter(disk / "a.0.spool")
        filler = fill(disk)
        written = write_until_full(lambda number: writer.write("event", {"number": number, "fill": "x" * 100}))
        filler.unlink()
        writer.write("event", {"number": "after"})
        writer.close()
        read = [record["number"] if record else None for record in records(writer.path)]
    assert read == [*range(written), "after"]


def test_sigkill_loses_no_record_whose_write_returned(tmp_path: Path) -> None:
    rng = random.Random(1)
    for life in range(5):
        path, counter = tmp_path / f"a.{life}.spool", Counter(tmp_path / f"counter-{life}")
        child = Child(write_until_killed, path, tmp_path / f"counter-{life}")
        counter.wait_for(rng.randrange(1, 4000), child)
        child.kill()
        reader = SpoolReader(path)
        read = []
        while lines := reader.read():
            read += lines
        numbers = [line.record["number"] if line.record else None for line in read]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) - counter.get() in (0, 1)
        assert len(reader.take_torn()) < 10_000
