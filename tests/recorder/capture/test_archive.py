import io
import multiprocessing
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.canonical import digest
from recorder.capture.archive import SourceFile, extract_source, pack
from recorder.errors import BundleError, RecordingError

part = st.binary(min_size=1, max_size=40).filter(lambda b: b not in (b".", b"..") and not set(b) & set(b"\0/"))
names = st.lists(part, min_size=1, max_size=3).map(b"/".join)


def tree(folder: Path) -> dict[bytes, bytes]:
    return {os.fsencode(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.lists(st.tuples(names, st.binary(max_size=50), st.booleans()), max_size=6, unique_by=lambda file: file[0]))
@settings(max_examples=50, deadline=None)
def test_any_names_come_back_and_order_does_not_matter(tmp_path_factory, found):
    # One name cannot be both a file and a folder.
    files = [SourceFile(*file) for file in found if not any(other[0].startswith(file[0] + b"/") for other in found)]
    archive = pack(files)
    assert archive == pack(reversed(files))
    extracted = extract_source(archive, tmp_path_factory.mktemp("sources"))
    assert tree(extracted) == {file.name: file.data for file in files}
    for file in files:
        assert os.access(extracted / os.fsdecode(file.name), os.X_OK) == file.executable


def test_folder_is_named_by_the_digest_and_reused(tmp_path, monkeypatch):
    archive = pack([SourceFile(b"train.py", b"x", False)])
    first = extract_source(archive, tmp_path / "new" / "sources")
    assert first == tmp_path / "new" / "sources" / digest(archive)
    monkeypatch.setattr("recorder.capture.archive._unpack", None)
    assert extract_source(archive, tmp_path / "new" / "sources") == first
    assert list(first.parent.iterdir()) == [first]


def test_empty_archive(tmp_path):
    assert list(extract_source(pack([]), tmp_path).iterdir()) == []


def damaged(where: float, data: bytes) -> bytes:
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    archive = bytearray(pack([SourceFile(b"train.py", text, False)]))
    start = int(len(archive) * where)
    archive[start : start + len(data)] = data
    return bytes(archive)


def hostile(name: str, **fields) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(entry, key, value)
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        hostile("../outside"),
        hostile("link", type=tarfile.SYMTYPE, linkname="../../outside"),
        hostile("device", type=tarfile.CHRTYPE),
        pack([SourceFile(b"train.py", bytes(range(256)) * 64, False)])[:-20],
        damaged(0.5, b"\xff" * 50),
        damaged(0.5, b"\x00" * 50),
        damaged(0.05, b"\x00" * 50),
        b"not an archive",
    ],
    ids=["outside", "link", "device", "cut off", "ones inside", "zeros inside", "zeros early", "no archive"],
)
def test_unsafe_or_damaged_archive_leaves_nothing(tmp_path, archive):
    with pytest.raises(BundleError, match="source archive"):
        extract_source(archive, tmp_path / "sources")
    assert list((tmp_path / "sources").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_destination_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot write"):
        extract_source(pack([]), tmp_path / "file" / "sources")


def _extract(archive, destination, barrier, results):
    barrier.wait()
    results.put(extract_source(archive, destination))


def test_processes_at_once_agree_on_one_folder(tmp_path):
    archive = pack([SourceFile(b"%d.py" % number, b"x" * number, False) for number in range(200)])
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_extract, args=(archive, tmp_path, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert found == {tmp_path / digest(archive)}
    assert len(list(found.pop().iterdir())) == 200
    assert len(list(tmp_path.iterdir())) == 1
