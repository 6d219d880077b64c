"""A bundle that is damaged is published as it is where nothing private is left in it, or refused in one line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import bundles
from helpers.publishing import content, publish
from helpers.tampering import flip, overwrite

from recorder.capture.archive import SourceFile, pack
from recorder.errors import BundleError, UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.edits import edit_file
from recorder.release.pseudonyms import Pseudonyms
from recorder.release.replacement import Edited, Replacer
from recorder.release.secrets.gate import scan_file
from recorder.release.secrets.names import recorded_names
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.scanner import Scanner
from recorder.release.verify_release import verify_release

SCANNER = Scanner(Names(frozenset({"trainbox-17"})))
TOKEN = "ghp_" + "aB3" * 12


def edited(name: str, data: bytes, folder: Path) -> Edited | None:
    """What is done to a file of this content; the copy is `out` in `folder`."""
    (path := folder / Path(name).name).write_bytes(data)
    return edit_file(path, folder / "out", name, Replacer(SCANNER, Pseudonyms(bytes(32))))


def table(path: Path, text: str) -> bytes:
    pq.write_table(pa.table({"step": list(range(999)), "text": [f"{text} {n % 7}" for n in range(999)]}), path)
    return path.read_bytes()


def archive(*texts: bytes) -> bytes:
    """A tar.gz with texts that cannot be made much smaller."""
    noise = bytes(byte for number in range(5000) for byte in (number * number).to_bytes(4, "little"))
    return pack([SourceFile(b"%d.py" % number, text + noise, False) for number, text in enumerate(texts)])


def test_names_are_read_around_the_damage(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    whole = recorded_names(bundle)
    assert whole.hosts == {"node-a"}
    for path in (*bundle.glob("ledger/*"), bundle / "run.json", *bundle.glob("environment/**/*.json")):
        flip(path, 0)
    assert recorded_names(bundle) == whole
    [ledger, *_] = sorted(bundle.glob("ledger/*"))
    overwrite(ledger, ledger.read_bytes().replace(b'"type"', b'"typ\xff', 50))
    assert recorded_names(bundle).hosts == whole.hosts


@pytest.mark.parametrize("keep", [0.4, 0.9, 0.999])
def test_the_gate_reads_an_archive_that_was_cut_off_as_far_as_it_goes(keep: float, tmp_path: Path) -> None:
    data = archive(f"t = '{TOKEN}'\n".encode(), b"x = 1\n")
    (tmp_path / "source.tar.gz").write_bytes(data[: int(len(data) * keep)])
    found = list(scan_file(tmp_path / "source.tar.gz", "source/source.tar.gz", SCANNER))
    assert {finding.kind for finding in found} == {"github-token"}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:30]])
def test_a_cut_off_archive_is_published_only_where_nothing_is_found(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    name = "source/source.tar.gz"
    assert edited(name, damage(archive(b"x = 1\n", b"y = 2\n")), tmp_path) is None
    with pytest.raises(UsageError, match=r"source\.tar\.gz is damaged.*withhold it") as raised:
        edited(name, damage(archive(b"# on trainbox-17\n" * 99, b"y = 2\n"))[:-1] + b"\ntrainbox-17", tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_source_that_holds_a_cut_off_archive_is_healthy(tmp_path: Path) -> None:
    fixture = archive(b"x = 1\n", b"y = 2\n")[:-200]
    source = pack([SourceFile(b"tests/cut.tar.gz", fixture, False), SourceFile(b"a.py", b"# trainbox-17\n", False)])
    (tmp_path / "source.tar.gz").write_bytes(source)
    found = list(scan_file(tmp_path / "source.tar.gz", "source/source.tar.gz", SCANNER))
    assert [finding.path for finding in found] == ["source/source.tar.gz!a.py"]
    made = edited("source/source.tar.gz", source, tmp_path)
    assert made is not None
    assert [change["place"] for change in made.changes] == ["a.py"]


def test_what_is_packed_and_no_archive_is_published_only_where_nothing_is_found(tmp_path: Path) -> None:
    assert edited("logs/old.gz", gzip.compress(b"plain"), tmp_path) is None
    with pytest.raises(UsageError, match="withhold it"):
        edited("logs/old.gz", gzip.compress(b"on trainbox-17"), tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:4] + b"\0" * 90 + data[94:]])
def test_a_damaged_table_is_published_if_it_holds_numbers_alone(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    data = damage(table(tmp_path / "made", "x"))
    assert edited("metrics/0001.parquet", data, tmp_path) is None
    with pytest.raises(UsageError, match=r"metrics/0001\.parquet is damaged"):
        edited("metrics/0001.parquet", damage(table(tmp_path / "made", "x")) + b"\non trainbox-17\n", tmp_path)
    with pytest.raises(UsageError, match=r"system/0001\.parquet is damaged.*withhold it"):
        edited("system/0001.parquet", data, tmp_path)


def test_damaged_json_is_edited_as_text(tmp_path: Path) -> None:
    for name in ("environment/system.json", "ledger/0001.jsonl"):
        made = edited(name, b'{"host": \x00"trainbox-17"}\n', tmp_path)
        assert made is not None
        text = (tmp_path / "out").read_bytes()
        assert text.startswith(b'{"host": \x00"host-')
        assert set(made.lines) == ({"1"} if name.startswith("ledger") else set())


def damaged(root: Path) -> Path:
    """A bundle with damage to its ledger, its metrics, its config and the documents about its machines and source."""
    bundle = bundles.finished(root)
    ledger, *_ = sorted(bundle.glob("ledger/*"))
    lines = ledger.read_bytes().splitlines(keepends=True)
    overwrite(ledger, lines[0] + lines[1].replace(b'"attempt"', b'"attempt\x00', 1) + b"".join(lines[2:]))
    metrics = next(bundle.glob("metrics/*.parquet"))
    overwrite(metrics, metrics.read_bytes()[:-40])
    for name in ("config/resolved.yaml", "environment/system.json", "source/source.json", "data/dataset.json"):
        flip(bundle / name, 0)
    archive = bundle / "source/source.tar.gz"
    overwrite(archive, archive.read_bytes()[:-20])
    return bundle


def test_what_is_damaged_in_many_places_is_published_as_it_is(tmp_path: Path) -> None:
    bundle = damaged(tmp_path / "runs")
    with pytest.raises(BundleError, match=r"demo-1 does not verify.*--as-is publishes it"):
        publish(tmp_path, tmp_path / "out", bundle.name)
    published = publish(tmp_path, tmp_path / "out", bundle.name, as_is=True)
    assert published.release.as_is
    assert verify_release(Folder(tmp_path / "out")).ok
    assert "demo-1 does not verify" in (tmp_path / "out/README.md").read_text()
    assert not any(re.search(rb"node-a(?![A-Za-z0-9_-])", data) for data in content(tmp_path / "out").values())


def test_without_a_run_there_is_nothing_to_publish(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    flip(bundle / "run.json", 0)
    with pytest.raises(BundleError, match=r"^run\.json of demo-1 is damaged"):
        publish(tmp_path, tmp_path / "out", bundle.name, as_is=True)
