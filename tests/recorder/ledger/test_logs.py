from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle.files import digest_file
from recorder.ledger.logs import LogSource, LogWriter, RawTail

OUT, ERR = LogSource("rank-0", 0, "stdout"), LogSource("rank-0", 0, "stderr")
PATH = "logs/0001/rank-0.log"


def new_log(bundle: Path) -> LogWriter:
    return LogWriter(bundle, PATH)


def texts(bundle: Path) -> list[str]:
    """Stream and text of each line."""
    return [line.split(" ", 1)[1] for line in (bundle / PATH).read_text().split("\n")[:-1]]


def test_a_line_has_time_stream_and_text(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    log.append(1.5, OUT, "10%\r50%\rdone")
    log.append(2.5, ERR, "two\nlines")
    log.append(3.5, OUT, "\udcff and \u2028")
    assert (tmp_path / PATH).read_bytes() == (
        b"1970-01-01T00:00:01.500000Z stdout 10%\\r50%\\rdone\n"
        b"1970-01-01T00:00:02.500000Z stderr two\\nlines\n"
        b"1970-01-01T00:00:03.500000Z stdout \\udcff and \xe2\x80\xa8\n"
    )
    assert log.close() == digest_file(tmp_path / PATH)
    assert (tmp_path / PATH).stat().st_mode & 0o222 == 0


def test_no_line_makes_no_file(tmp_path: Path) -> None:
    assert new_log(tmp_path).close() is None
    assert not (tmp_path / PATH).exists()


def test_what_is_new_is_announced_once(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    assert log.extended() is None
    log.append(0, OUT, "one")
    assert log.extended() == digest_file(tmp_path / PATH)
    assert log.extended() is None


def test_a_process_that_takes_over_a_rank_is_told_apart(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    later = OUT._replace(incarnation=2)
    for source, text in ((OUT, "a"), (later, "b"), (later, "c"), (OUT, "d"), (later, "e")):
        log.append(0, source, text)
    assert texts(tmp_path) == [
        "stdout a",
        "recorder incarnation 2",
        "stdout b",
        "stdout c",
        "recorder incarnation 0",
        "stdout d",
        "recorder incarnation 2",
        "stdout e",
    ]
    for reopened in (log, new_log(tmp_path)):
        assert [reopened.lines(source) for source in (OUT, later, ERR)] == [2, 3, 0]


def test_who_took_over_is_read_from_logs_of_older_bundles_too(tmp_path: Path) -> None:
    """Before workers had incarnations their place was taken by the number of the membership."""
    (tmp_path / PATH).parent.mkdir(parents=True)
    time = "1970-01-01T00:00:00.000000Z"
    (tmp_path / PATH).write_text(f"{time} stdout a\n{time} recorder membership 1\n{time} stdout b\n")
    log = new_log(tmp_path)
    assert [log.lines(OUT), log.lines(OUT._replace(incarnation=1))] == [1, 1]
    log.append(0, OUT._replace(incarnation=1), "c")
    assert texts(tmp_path) == ["stdout a", "recorder membership 1", "stdout b", "stdout c"]


def test_going_on_cuts_a_torn_line_and_opens_a_closed_file(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    log.append(0, OUT, "one")
    log.close()
    new_log(tmp_path).close()  # nothing was added: still as it was closed
    assert (tmp_path / PATH).stat().st_mode & 0o222 == 0
    path = tmp_path / PATH
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"1970-01-01T00:00:00.0000")
    path.chmod(0o444)

    log = new_log(tmp_path)
    assert log.lines(OUT) == 1
    log.append(0, OUT, "two")
    assert texts(tmp_path) == ["stdout one", "stdout two"]
    assert log.close() == digest_file(path)


RAW = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"\xff", b"\xc3", b"\xa9", b"bc"]), max_size=30).map(b"".join)


def expected_lines(raw: bytes) -> list[str]:
    """What the log has of `raw`, where no line is longer than one reading."""
    return [line.removesuffix(b"\r").decode(errors="backslashreplace") for line in raw.split(b"\n")[:-1]]


@given(RAW, st.lists(st.integers(0, 40), max_size=4), st.integers(0, 8))
@settings(deadline=None, max_examples=40)
def test_lines_come_whole_once_and_after_those_to_skip(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, pieces: list[int], skip: int
) -> None:
    path = tmp_path_factory.mktemp("tail") / "rank-0.0.out"
    tail, collected = RawTail(path, skip), []
    for end in [*sorted(pieces), len(raw)]:
        path.write_bytes(raw[:end])
        collected += tail.read()
    assert collected == expected_lines(raw)[skip:]
    lines, rest = raw.count(b"\n"), raw.rpartition(b"\n")[2]
    last = [rest.removesuffix(b"\r").decode(errors="backslashreplace") + " [unfinished]"]
    assert tail.finish() == (last if rest and lines >= skip else [])
    assert tail.finish() == []


def test_a_line_longer_than_one_reading_is_cut_at_the_same_places_every_time(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.0.out"
    path.write_bytes(b"x" * 25 + b"\nshort\n")
    tail, lines = RawTail(path), []
    while more := tail.read(10):
        lines += more
    assert lines == ["x" * 10, "x" * 10, "x" * 5, "short"]
    again, lines = RawTail(path, skip=2), []
    while more := again.read(10):
        lines += more
    assert lines == ["x" * 5, "short"]


def test_skipping_more_than_one_reading_does_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.0.out"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1000)))
    assert RawTail(path, skip=990).read(50) == [str(number) for number in range(990, 1000)][:10]
    assert RawTail(path, skip=990).finish() == [str(number) for number in range(990, 1000)]
    assert RawTail(path, skip=1000).finish() == []


def test_an_unfinished_line_that_is_recorded_already_is_not_recorded_again(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.0.out"
    path.write_bytes(b"one\ntwo")
    assert RawTail(path, skip=2).finish() == []


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    tail = RawTail(tmp_path / "none.0.out")
    assert (tail.read(), tail.finish()) == ([], [])


def test_a_log_survives_what_is_no_line_of_ours(tmp_path: Path) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"\n\xff\n1970 recorder\n")
    log = new_log(tmp_path)
    log.append(0, OUT, "on")
    assert log.lines(OUT) == 1
    assert log.close() == digest_file(tmp_path / PATH)
