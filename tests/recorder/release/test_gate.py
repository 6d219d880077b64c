"""The gate finds what is planted in every place of a bundle, shows none of it, and finds nothing where nothing is."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arms.planted import NAMES, Sample, samples
from helpers import bundles
from helpers.commands import REPOSITORY

from recorder.capture.archive import SourceFile, pack
from recorder.release.edits import edit_file
from recorder.release.pseudonyms import Pseudonyms
from recorder.release.replacement import Replacer
from recorder.release.secrets.gate import Finding, scan_bundle, scan_file
from recorder.release.secrets.names import recorded_names
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.scanner import Scanner

PLANTED = samples(11)
SCANNER = Scanner(NAMES)


def as_log(sample: Sample) -> bytes:
    return b"nothing\n" * 1000 + sample.line.encode() + b"\nnothing\n"


def as_archive(sample: Sample) -> bytes:
    return pack([SourceFile(b"a.py", b"x = 1\n", False), SourceFile(b"b/c.sh", sample.line.encode(), True)])


def as_column(sample: Sample) -> bytes:
    table = pa.table({"step": [1, 2, 3], "note": ["a", sample.line, sample.line]})
    return parquet(table)


def as_metadata(sample: Sample) -> bytes:
    return parquet(pa.table({"step": [1]}).replace_schema_metadata({"k": sample.line}))


def as_list(sample: Sample) -> bytes:
    return parquet(pa.table({"notes": pa.array([["a"], ["b", sample.line]])}))


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def as_tensor_header(sample: Sample) -> bytes:
    header = json.dumps({"__metadata__": {"note": sample.line}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 1000


PLACES = {
    "config/resolved.yaml": lambda sample: f"a: 1\n{sample.line}\n".encode(),
    "logs/0001/rank-0.log": as_log,
    "source/diff.patch": lambda sample: f"--- a\n+++ b\n+{sample.line}\n".encode(),
    "ledger/0001.jsonl": lambda sample: json.dumps({"fields": {"message": sample.line}}).encode() + b"\n",
    "source/source.tar.gz": as_archive,
    "logs/old.gz": lambda sample: gzip.compress(sample.line.encode()),
    "metrics/0001.parquet": as_column,
    "metrics/0002.parquet": as_metadata,
    "metrics/0003.parquet": as_list,
    "checkpoints/step-00000001/model.safetensors": as_tensor_header,
    "checkpoints/step-00000001/other.bin": lambda sample: b"\xff\x00" + b"\n " + sample.line.encode() + b" \n\xfe",
}


@pytest.mark.parametrize("sample", PLANTED, ids=lambda sample: sample.kind)
def test_what_is_planted_is_found_in_every_place_and_not_shown(sample: Sample, tmp_path: Path) -> None:
    for name, make in PLACES.items():
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(make(sample))
        found = list(scan_file(path, name, SCANNER))
        assert sample.kind in {finding.kind for finding in found}, name
        assert not any(sample.secret in finding.excerpt for finding in found), name


def scan(data: bytes, name: str, folder: Path) -> list[Finding]:
    path = folder / Path(name).name
    path.write_bytes(data)
    return list(scan_file(path, name, SCANNER))


TOKEN = next(sample for sample in PLANTED if sample.kind == "github-token")


@pytest.mark.parametrize(
    ("name", "place", "line"),
    [
        ("logs/0001/rank-0.log", "logs/0001/rank-0.log", 1001),
        ("source/source.tar.gz", "source/source.tar.gz!b/c.sh", 1),
        ("metrics/0001.parquet", "metrics/0001.parquet!note", 2),
        ("metrics/0002.parquet", "metrics/0002.parquet!metadata", 0),
        ("metrics/0003.parquet", "metrics/0003.parquet!notes", 2),
        ("checkpoints/step-00000001/model.safetensors", "checkpoints/step-00000001/model.safetensors!header", 1),
    ],
)
def test_a_finding_says_where(name: str, place: str, line: int, tmp_path: Path) -> None:
    [finding] = scan(PLACES[name](TOKEN), name, tmp_path)
    assert (finding.path, finding.line, finding.kind, finding.private) == (place, line, "github-token", False)


def test_the_same_secret_has_the_same_fingerprint_wherever_it_is(tmp_path: Path) -> None:
    found = [finding for name, make in PLACES.items() for finding in scan(make(TOKEN), name, tmp_path)]
    assert len({finding.fingerprint for finding in found}) == 1


def test_names_of_files_and_members_are_looked_at(tmp_path: Path) -> None:
    assert [finding.line for finding in scan(b"", "environment/nodes/trainbox-17.json", tmp_path)] == [0]
    archive = pack([SourceFile(b"home/mmustermann/x.py", b"", False)])
    assert [finding.kind for finding in scan(archive, "source/source.tar.gz", tmp_path)] == ["user-name"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.parquet", "a.safetensors", "a.json"])
@pytest.mark.parametrize("start", [b"\x1f\x8b", b"PAR1", b"\xff" * 9, b""])
def test_what_is_damaged_is_read_as_lines(name: str, start: bytes, tmp_path: Path) -> None:
    assert [finding.kind for finding in scan(start + b"\n" + TOKEN.line.encode(), name, tmp_path)] == ["github-token"]


def test_a_key_that_spans_two_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arms.planted import key_lines

    monkeypatch.setattr("recorder.release.secrets.places._BLOCK", 100)
    lines, _ = key_lines(1, "RSA PRIVATE KEY")
    text = "\n".join(["x" * 60, *lines, "after"])
    found = scan(text.encode(), "logs/0001/driver.log", tmp_path)
    assert [(finding.kind, finding.line) for finding in found] == [("ssh-private-key", 3)]


def test_a_bundle_without_secrets_has_the_names_of_its_machines_and_nothing_else(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    assert recorded_names(bundle).hosts == {"node-a"}
    assert scan_bundle(bundle, Names()).private == ()
    verdict = scan_bundle(bundle, recorded_names(bundle))
    assert (verdict.credentials, {finding.kind for finding in verdict.private}) == ((), {"host-name"})


def test_what_is_allowed_is_let_through_and_a_wrong_fingerprint_is_named(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    (bundle / "config/extra.yaml").write_text(f"{TOKEN.line}\n")
    [finding] = scan_bundle(bundle, Names()).credentials
    verdict = scan_bundle(bundle, Names(), [finding.fingerprint, "0" * 16])
    assert (verdict.credentials, verdict.allowed, verdict.unknown) == ((), (finding,), ("0" * 16,))
    assert scan_bundle(bundle, Names(), leave_out=["config/extra.yaml"]).credentials == ()


def test_the_source_that_every_run_of_this_project_carries_bars_no_release() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    names = [name for name in tracked.decode().split("\0") if name and (REPOSITORY / name).is_file()]
    found = [finding for name in names for finding in scan_file(REPOSITORY / name, name, Scanner(Names()))]
    assert [finding for finding in found if not finding.private] == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("config/resolved.yaml", True),
        ("logs/0001/driver.log", True),
        ("source/launch.sh", True),
        ("source/.env", True),
        ("source/train.py", False),
        ("source/diff.patch", False),
        ("source/README.md", False),
    ],
)
def test_a_password_of_letters_is_found_where_no_program_stands(name: str, found: bool, tmp_path: Path) -> None:
    line = b"password = correcthorse" + b"battery"
    assert [finding.kind for finding in scan(line, name, tmp_path)] == ["password"] * found
    archive = pack([SourceFile(name.encode(), line, False)])
    assert [finding.kind for finding in scan(archive, "source/source.tar.gz", tmp_path)] == ["password"] * found


def test_what_is_no_finding_in_a_program_is_not_edited_there(tmp_path: Path) -> None:
    replacer = Replacer(SCANNER, Pseudonyms(bytes(32)))
    line = b"password = correcthorse" + b"battery"
    for name, edited in (("train.py", False), ("db.yaml", True)):
        (tmp_path / name).write_bytes(line)
        assert (edit_file(tmp_path / name, tmp_path / "out", name, replacer) is not None) == edited
        (tmp_path / "a.tar.gz").write_bytes(pack([SourceFile(name.encode(), line, False)]))
        assert (edit_file(tmp_path / "a.tar.gz", tmp_path / "out", "a.tar.gz", replacer) is not None) == edited
