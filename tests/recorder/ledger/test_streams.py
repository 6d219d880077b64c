"""Each capture happens in a child: the descriptors of the test process itself stay as they are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.children import Child, captured_output, killed_while_printing

from recorder.errors import RecordingError
from recorder.ledger.spool import SpoolReader
from recorder.ledger.streams import StreamCapture


def test_everything_that_reaches_the_descriptors_is_caught_and_then_given_back(tmp_path: Path) -> None:
    child = Child(captured_output, tmp_path)
    out, err = child.finish()
    assert out == "print before\nputs before\nto the terminal\nprint after\nputs after\n"
    assert err == "err before\nnot recorded\nerr after\n"
    caught = (tmp_path / "rank-0.0.out").read_text().splitlines()
    assert caught == ["print", "write", "child", "puts", "printf 7"]
    assert (tmp_path / "rank-0.0.err").read_text().splitlines() == ["child err", "err", "to the stream handler"]
    messages = [line.record for line in SpoolReader(tmp_path / "rank-0.0.spool").read()]
    assert [(record["level"], record["logger"], record["text"]) for record in messages if record] == [
        ("WARNING", "train", "careful"),
        ("ERROR", "root", "to the stream handler"),
    ]


def test_a_printed_line_is_safe_although_stdout_was_a_pipe(tmp_path: Path) -> None:
    child = Child(killed_while_printing, tmp_path)
    assert child.process.wait(60) == -signal.SIGKILL
    child.kill()
    assert (tmp_path / "rank-0.0.out").read_bytes() == b"first\nsecond\nunfinished"


def test_a_folder_that_cannot_be_written_is_one_clear_line_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = os.fstat(1)
    with pytest.raises(RecordingError, match=r"cannot write .*file"):
        StreamCapture(tmp_path / "file", "rank-0.0")
    assert os.path.samestat(os.fstat(1), before)
