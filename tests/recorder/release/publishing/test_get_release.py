"""Fetching: whole, in part, broken off, killed, and from those who give other bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY
from helpers.disks import fill, small_disk
from helpers.file_servers import file_server
from helpers.kill_points import run_until_killed
from helpers.publishing import Keys, content, publish

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.bundle.verify import verify_bundle
from recorder.errors import BundleError, RecordingError, TransferError, UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.https import WebFolder
from recorder.release.get import get_release
from recorder.release.manifest import RELEASE, SIGNATURE, record_file
from recorder.release.receive import PARTIAL, read_whole, receive
from recorder.release.selection import Selection
from recorder.release.verify_release import verify_release

ALL = Selection()
EVERY = 3  # one change of the file system in three is tried


@pytest.fixture
def released(made: Path) -> Folder:
    return Folder(made / "released")


@pytest.mark.parametrize(
    ("selection", "folders"),
    [
        (Selection(checkpoints=False), {"data", "environment", "logs", "metrics", "source"}),
        (Selection(only=("ledger", "metrics")), {"metrics"}),
        (Selection(only=("logs",)), {"logs"}),
        (Selection(only=("checkpoints",)), {"checkpoints"}),
        (Selection(checkpoint=10), {"checkpoints", "data", "environment", "logs", "metrics", "source"}),
    ],
)
def test_a_part_is_a_bundle_that_says_what_it_lacks(
    released: Folder, tmp_path: Path, selection: Selection, folders: set[str]
) -> None:
    fetched = get_release(released, tmp_path / "got", selection)
    bundle = tmp_path / "got" / "runs" / "demo-1"
    present = {path.relative_to(bundle).parts[0] for path in bundle.rglob("*") if path.is_dir()}
    assert present == folders | {"config", "ledger", "addenda"}
    report = verify_bundle(bundle)
    assert report.findings == ()
    of_the_bundle = [path for path in fetched.absent if path.startswith("runs/demo-1/")]
    assert report.counts["not_fetched"] == len(of_the_bundle) > 0
    assert any("were not fetched" in note for note in report.notes)
    assert verify_release(Folder(tmp_path / "got")).findings == ()
    assert Bundle(bundle).outcome == "finished"


def test_of_the_checkpoints_only_the_one_that_was_asked_for(released: Folder, tmp_path: Path) -> None:
    get_release(released, tmp_path / "got", Selection(checkpoint=10))
    steps = [path.name for path in (tmp_path / "got/runs/demo-1/checkpoints").iterdir()]
    assert steps == ["step-00000010"]
    with pytest.raises(UsageError, match="has no checkpoint of step 11; it has: 10, 12"):
        get_release(released, tmp_path / "other", Selection(checkpoint=11))
    with pytest.raises(UsageError, match="there is no part 'ledgers'"):
        get_release(released, tmp_path / "other", Selection(only=("ledgers",)))


def test_what_is_lost_is_told_from_what_was_not_fetched(released: Folder, tmp_path: Path) -> None:
    get_release(released, tmp_path / "got", Selection(checkpoints=False))
    (tmp_path / "got/runs/demo-1/metrics/0002.parquet").unlink()
    bundle = verify_bundle(tmp_path / "got/runs/demo-1")
    assert {finding.file for finding in bundle.findings if finding.kind == "missing"} >= {"metrics/0002.parquet"}
    release = verify_release(Folder(tmp_path / "got"))
    assert "runs/demo-1/metrics/0002.parquet" in {finding.file for finding in release.findings}


def test_more_is_fetched_later_and_only_that(released: Folder, tmp_path: Path, made: Path) -> None:
    get_release(released, tmp_path / "got", Selection(only=("metrics",)))
    more = get_release(released, tmp_path / "got", Selection(only=("logs",)))
    assert more.files == 1
    assert "runs/demo-1/metrics/0001.parquet" not in more.absent
    assert verify_release(Folder(tmp_path / "got")).ok
    assert get_release(released, tmp_path / "got", ALL).absent == ()
    assert content(tmp_path / "got") == content(made / "released")
    assert get_release(released, tmp_path / "got", ALL).files == 0


def test_a_folder_with_something_else_is_not_touched(released: Folder, lab: Path, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="is there already, and is no release"):
        get_release(released, tmp_path / "got", ALL)
    publish(lab, lab / "other", "killed-1", as_is=True)
    with pytest.raises(UsageError, match="holds another release"):
        get_release(released, lab / "other", ALL)
    get_release(released, lab / "got", ALL)
    (path := lab / "got/runs/demo-1/run.json").chmod(0o644)
    path.write_text("{}")
    with pytest.raises(UsageError, match=r"run\.json is not the file of the release: move it away"):
        get_release(released, lab / "got", ALL)
    assert path.read_text() == "{}"


def test_a_source_that_changes_in_between_is_named(released: Folder, lab: Path, tmp_path: Path) -> None:
    with file_server(lab / "released") as (address, faults):
        faults.corrupt.add("runs/demo-1/run.json")
        with pytest.raises(TransferError):
            get_release(WebFolder(address), tmp_path / "got", ALL)
    publish(lab, lab / "other", "killed-1", as_is=True)
    with pytest.raises(UsageError, match="holds another release"):
        get_release(Folder(lab / "other"), tmp_path / "got", ALL)


def test_a_transfer_that_breaks_off_is_gone_on_with(released: Folder, made: Path, tmp_path: Path) -> None:
    with file_server(made / "released") as (address, faults):
        faults.cut_after = 900
        whole = (made / "released/runs/demo-1/metrics/0001.parquet").stat().st_size
        get_release(WebFolder(address), tmp_path / "got", Selection())
        asked = [ranged for _, path, ranged in faults.requests if path.endswith("metrics/0001.parquet")]
    assert asked == [None, *(f"bytes={start}-" for start in range(900, whole, 900))]
    assert content(tmp_path / "got") == content(made / "released")


@pytest.mark.parametrize("ranges", [True, False])
def test_what_an_earlier_call_left_is_gone_on_with(made: Path, tmp_path: Path, ranges: bool) -> None:
    """Of a server that knows no ranges, everything is heard out once more, and the beginning is left aside."""
    name = "runs/demo-1/metrics/0001.parquet"
    record = record_file(path := made / "released" / name)
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / record.sha256).write_bytes(path.read_bytes()[:1000])
    came: list[int] = []
    with file_server(made / "released") as (address, faults):
        faults.no_ranges = not ranges
        receive(WebFolder(address), name, tmp_path / "x", tmp_path / PARTIAL, record, came.append)
    assert faults.requests == [("GET", name, "bytes=1000-")]
    assert sum(came) == record.size - 1000
    assert (tmp_path / "x").read_bytes() == path.read_bytes()


def test_a_begun_file_with_other_bytes_is_begun_anew(made: Path, tmp_path: Path) -> None:
    name = "runs/demo-1/metrics/0001.parquet"
    record = record_file(made / "released" / name)
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / record.sha256).write_bytes(b"?" * 1000)
    receive(Folder(made / "released"), name, tmp_path / "x", tmp_path / PARTIAL, record)
    assert record_file(tmp_path / "x") == record


@pytest.mark.parametrize("name", ["runs/demo-1/run.json", RELEASE, SIGNATURE])
def test_a_server_that_corrupts_is_named_and_nothing_looks_complete(made: Path, tmp_path: Path, name: str) -> None:
    with file_server(made / "released") as (address, faults):
        faults.corrupt.add(name)
        with pytest.raises((TransferError, BundleError), match=name.rpartition("/")[2].replace(".", r"\.")):
            get_release(WebFolder(address), tmp_path / "got", ALL)
        assert not (tmp_path / "got" / RELEASE).exists()
        assert not (tmp_path / "got/runs/demo-1/run.json").exists() or name != "runs/demo-1/run.json"
        faults.corrupt.clear()
        get_release(WebFolder(address), tmp_path / "got", ALL)
    assert content(tmp_path / "got") == content(made / "released")


def test_a_server_that_never_ends_is_not_heard_to_the_end(made: Path, tmp_path: Path) -> None:
    class Endless:
        url = "endless"
        given = 0

        def read(self, path: str, start: int = 0) -> Iterator[bytes]:
            while True:
                self.given += 1 << 20
                yield bytes(1 << 20)

    source = Endless()
    with pytest.raises(BundleError, match="has more than 64 MiB"):
        read_whole(source, RELEASE)
    source.given = 0
    with pytest.raises(TransferError, match="other digests than recorded"):
        receive(source, "a", tmp_path / "a", tmp_path / PARTIAL, record_file(made / "released" / RELEASE))
    assert source.given == 1 << 20


@pytest.mark.parametrize(("status", "told"), [(403, "was revoked"), (500, "HTTP 500")])
def test_a_server_that_refuses_is_named(made: Path, tmp_path: Path, status: int, told: str) -> None:
    with file_server(made / "released") as (address, faults):
        faults.refused = status
        with pytest.raises(TransferError, match=told):
            get_release(WebFolder(address), tmp_path / "got", ALL)


def test_where_there_is_no_release_is_named(tmp_path: Path) -> None:
    with file_server(tmp_path) as (address, _), pytest.raises(UsageError, match="there is no release at"):
        get_release(WebFolder(address), tmp_path / "got", ALL)
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):
        get_release(WebFolder("http://127.0.0.1:9"), tmp_path / "got", ALL)


def test_killed_at_any_change_it_never_looks_complete_and_goes_on(released: Folder, made: Path, tmp_path: Path) -> None:
    out, at, kills = tmp_path / "got", 1, 0

    def body() -> None:
        get_release(released, out, ALL)

    while run_until_killed(body, at) is None:
        kills += 1
        if (out / RELEASE).exists():
            assert verify_release(Folder(out)).ok
        if kills % 3 == 0:
            body()
            assert content(out) == content(made / "released")
            shutil.rmtree(out)
        at += EVERY
    assert kills > 20
    assert content(out) == content(made / "released")


def test_a_full_disk_is_named_and_the_next_call_goes_on(released: Folder, made: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 300) as disk:
        filler = fill(disk)
        with pytest.raises(RecordingError, match="the disk is full; free some space"):
            get_release(released, disk / "got", ALL)
        filler.unlink()
        get_release(released, disk / "got", ALL)
        assert content(disk / "got") == content(made / "released")


@pytest.mark.parametrize("name", ["more.txt", "runs/.hidden", "runs/demo-1/.hidden", ".git/config"])
def test_what_a_release_does_not_have_is_found_however_it_is_named(made: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(made / "released", tmp_path / "released"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("more")
    assert name in {finding.file for finding in verify_release(Folder(folder)).findings if finding.kind == "extra"}


def test_a_damaged_note_excuses_nothing(released: Folder, tmp_path: Path) -> None:
    get_release(released, tmp_path / "got", Selection(only=("metrics",)))
    (tmp_path / "got/runs" / layout.NOT_FETCHED).write_text("[")
    assert any(finding.kind == "missing" for finding in verify_bundle(tmp_path / "got/runs/demo-1").findings)


def test_a_reader_needs_nothing_that_trains_or_publishes(made: Path, keys: Keys, tmp_path: Path) -> None:
    """Fetched over http, its signature checked, its bundle read: in a process in which the rest cannot be imported."""
    missing = (
        "torch ray hydra omegaconf pydantic numpy dvc dvc_data boto3 botocore huggingface_hub model_signing sigstore "
        "transformers safetensors httpx requests"
    )
    with file_server(made / "released") as (address, _):
        commands = [
            ["get", address, "--out", str(tmp_path / "got"), "--anchor", str(keys.public)],
            ["verify", str(tmp_path / "got"), "--anchor", str(keys.public)],
            ["verify", str(tmp_path / "got/runs/demo-1"), "--digests"],
            ["show", "demo-1", "--runs", str(tmp_path / "got/runs")],
        ]
        code = (
            f"import sys\nfor name in {missing.split()!r}: sys.modules[name] = None\n"
            f"from recorder.cli.main import main\nsys.exit(max(main(command) for command in {commands!r}))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "consistent, anchored" in done.stdout
