from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3
from helpers.disks import fill, small_disk

from recorder.bundle.files import (
    FileDigest,
    append_whole,
    blake3_file,
    digest_file,
    recording_errors,
    remove_temporaries,
    temporary_path,
    write_file,
)
from recorder.errors import RecordingError


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digests_are_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(1000)) * (size // 1000 + 1)
    path = tmp_path / "folder" / "file"
    written = write_file(path, data[:size])
    expected = FileDigest(size, blake3(data[:size]).hexdigest(), hashlib.md5(data[:size]).hexdigest())
    assert path.read_bytes() == data[:size]
    assert written == digest_file(path) == expected
    assert blake3_file(path) == expected.blake3
    assert expected.record() == {"size": size, "blake3": expected.blake3, "md5": expected.md5}


def test_a_file_is_replaced_or_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail(handle: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordingError, match=r"cannot write .*file: the disk quota is used up; free some space"):
        write_file(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    with path.open("rb") as reading:
        write_file(path, b"new")
        assert reading.read() == b"old"
    assert path.read_bytes() == b"new"


def test_on_a_full_disk_no_half_file_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        fill(disk)
        with pytest.raises(RecordingError, match=r"cannot write .*run\.json: the disk is full; free some space"):
            write_file(disk / "run.json", b"x" * 10_000)
        assert [entry.name for entry in disk.iterdir()] == ["filler"]


def test_what_killed_processes_had_begun_is_removed(tmp_path: Path) -> None:
    begun = [temporary_path(tmp_path / "bundle.json"), temporary_path(tmp_path / "config" / "resolved.yaml")]
    for path in begun:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / "config" / "note.tmp").write_bytes(b"whole")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config", "note.tmp"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "permission denied; make the folder writable"),
        (errno.EROFS, "the file system is read-only; choose another folder with run.dir"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_refusal_is_one_line_with_a_way_out(number: int, words: str) -> None:
    with pytest.raises(RecordingError) as caught, recording_errors(Path("runs/demo")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"cannot write runs/demo: {words}"


def test_appending_goes_on_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda target, data: write(target, data[:3]))
    append_whole(handle, b"0123456789")
    monkeypatch.undo()
    os.close(handle)
    assert (tmp_path / "file").read_bytes() == b"0123456789"
