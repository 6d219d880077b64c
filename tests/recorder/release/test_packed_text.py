"""Text that is packed, or in another encoding, is looked at; a name in it stops the release with a line."""

from __future__ import annotations

import bz2
import io
import lzma
import random
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.capture.archive import SourceFile, pack
from recorder.errors import UsageError
from recorder.release.edits import edit_file
from recorder.release.pseudonyms import Pseudonyms
from recorder.release.replacement import Edited, Replacer
from recorder.release.secrets.gate import Finding, scan_file
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.scanner import Scanner

HOST, TOKEN = "trainbox-17", "ghp_" + "aB3" * 12
SCANNER = Scanner(Names(frozenset({HOST})))


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", text)
    return buffer.getvalue()


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "x.zip": zipped,
    "x.whl": lambda text: zipped(zipped(text)),
    "x.bz2": bz2.compress,
    "x.xz": lzma.compress,
    "x.txt": lambda text: text.decode().encode("utf-16"),
    "y.txt": lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
}


def scan(name: str, data: bytes, folder: Path) -> list[Finding]:
    (folder / name).write_bytes(data)
    return list(scan_file(folder / name, name, SCANNER))


def edit(name: str, data: bytes, folder: Path) -> Edited | None:
    (folder / name).write_bytes(data)
    return edit_file(folder / name, folder / "out", name, Replacer(SCANNER, Pseudonyms(bytes(32))))


@pytest.mark.parametrize("name", FORMS)
def test_what_is_packed_is_read_alone_and_in_the_source(name: str, tmp_path: Path) -> None:
    data = FORMS[name](f"used {TOKEN} on {HOST}\n".encode())
    for found in (
        scan(name, data, tmp_path),
        scan("source.tar.gz", pack([SourceFile(name.encode(), data, False)]), tmp_path),
    ):
        assert {finding.kind for finding in found} == {"github-token", "host-name"}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_packed_cannot_be_edited(name: str, tmp_path: Path) -> None:
    for text, is_fine in ((b"nothing\n", True), (f"on {HOST}\n".encode(), False)):
        data = FORMS[name](text)
        for own, content in ((name, data), ("source.tar.gz", pack([SourceFile(name.encode(), data, False)]))):
            if is_fine:
                assert edit(own, content, tmp_path) is None
                continue
            with pytest.raises(UsageError, match=f"cannot be edited .it is in {name}, .*packed or not in UTF-8"):
                edit(own, content, tmp_path)


@pytest.mark.parametrize("name", FORMS)
def test_what_is_packed_and_damaged_is_read_as_lines(name: str, tmp_path: Path) -> None:
    data = FORMS[name](b"x" * 99)[:12] + f"\n{TOKEN}\n".encode()
    assert "github-token" in {finding.kind for finding in scan(name, data, tmp_path)}


def patch(before: bytes, after: bytes, folder: Path) -> bytes:
    """What git says of a binary file that changed."""
    for name, data in (("a", before), ("b", after)):
        (folder / name).write_bytes(data)
    command = ["git", "diff", "--no-index", "--binary", "a", "b"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).stdout


@pytest.mark.parametrize("size", [9, 3000])
def test_a_binary_file_in_a_patch_is_read_before_and_after(size: int, tmp_path: Path) -> None:
    noise = bytes(byte for number in range(size) for byte in (number * number).to_bytes(4, "little"))
    data = patch(noise + f"\nused {TOKEN} here\n".encode(), noise + f"\nlog of {HOST}\n".encode(), tmp_path)
    assert data.count(b"GIT binary patch") == 1
    found = scan("diff.patch", b"+x\n" + data, tmp_path)
    assert {(finding.path, finding.kind) for finding in found} == {
        ("diff.patch!binary", "github-token"),
        ("diff.patch!binary", "host-name"),
    }
    with pytest.raises(UsageError, match="packed or not in UTF-8.*withhold it, or let it through .--allow "):
        edit("diff.patch", data, tmp_path)
    plain = patch(noise, b"\0" + noise, tmp_path)
    assert edit("diff.patch", plain, tmp_path) is None
    made = edit("diff.patch", plain + f"+on {HOST}\n".encode(), tmp_path)
    assert made is not None
    assert [change["kind"] for change in made.changes] == ["host-name"]


def test_bytes_that_are_packed_are_not_taken_for_text(tmp_path: Path) -> None:
    """A short name stands by chance in what is compressed."""
    data = zipped(random.Random(1).randbytes(200_000).hex().encode())
    assert re.search(rb"(?<![A-Za-z0-9_-])vm(?![A-Za-z0-9_-])", data)
    (tmp_path / "x.zip").write_bytes(data)
    assert list(scan_file(tmp_path / "x.zip", "x.zip", Scanner(Names(frozenset({"vm"}))))) == []
