"""Every kind of place does the same: takes a release, gives it back, and never loses or overwrites anything."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import pytest
from helpers.dvc_repositories import dvc, git, new_repository
from helpers.file_servers import Handler, file_server, serving
from helpers.hub_server import Hub
from helpers.object_servers import add_s3_remote
from helpers.publishing import Keys, KilledAt, Open, content, killed, publish

from recorder.errors import MachineError, TransferError, UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.https import WebFolder
from recorder.release.destinations.protocol import Destination
from recorder.release.destinations.s3 import S3Prefix
from recorder.release.get import get_release
from recorder.release.manifest import RELEASE, record_file
from recorder.release.places import open_destination, open_source
from recorder.release.selection import Selection
from recorder.release.verify_release import verify_release


def test_what_was_published_is_given_back(opened: Open, lab: Path, keys: Keys, tmp_path: Path) -> None:
    place = opened()
    assert place.list() == {}
    published = publish(lab, place, key=keys.private)
    assert published.report is not None
    assert published.report.ok
    assert opened().list().keys() == {*published.release.files, RELEASE, "model.sig"}
    report = verify_release(opened(), str(keys.public))
    assert (report.ok, report.anchored) == (True, True)
    get_release(opened(), tmp_path / "got", Selection())
    got = content(tmp_path / "got")
    assert got == content(published.stage)


def test_a_second_call_sends_nothing(opened: Open, lab: Path, keys: Keys) -> None:
    publish(lab, opened(), key=keys.private)
    again = publish(lab, opened(), key=keys.private)
    assert again.waiting == ()
    assert again.report is not None
    assert again.report.ok


def test_what_is_something_else_is_not_touched(opened: Open, lab: Path, tmp_path: Path) -> None:
    publish(lab, opened())
    place = opened()
    before = place.list(), b"".join(place.read(RELEASE))
    with pytest.raises(UsageError, match="holds another release, of demo-1"):
        publish(lab, opened(), "killed-1", as_is=True)
    place = opened()
    assert (place.list(), b"".join(place.read(RELEASE))) == before


@pytest.mark.parametrize("opened", ["folder", "s3", "hf"], indirect=True)
@pytest.mark.parametrize("path", ["notes.txt", "runs/demo-1/run.json"])
def test_a_file_that_was_there_is_not_touched(opened: Open, lab: Path, tmp_path: Path, path: str) -> None:
    (other := tmp_path / "other").write_bytes(b"somebody's")
    place = opened()
    place.list()
    place.put(path, other, record_file(other))
    place.flush()
    with pytest.raises(UsageError, match=f"holds (another )?{path}.*choose an empty place"):
        publish(lab, opened())
    place = opened()
    assert list(place.list()) == [path]
    assert b"".join(place.read(path)) == b"somebody's"


def test_a_file_is_read_from_any_byte(opened: Open, lab: Path) -> None:
    publish(lab, opened())
    place, name = opened(), "runs/demo-1/run.json"
    data = b"".join(place.read(name))
    assert data == (lab / name).read_bytes()
    for start in (1, 100, len(data) - 1):
        assert b"".join(place.read(name, start)) == data[start:]


def test_what_is_not_there_is_not_there(opened: Open, lab: Path) -> None:
    publish(lab, opened())
    place = opened()
    with pytest.raises(FileNotFoundError):
        b"".join(place.read("runs/nobody/run.json"))


@pytest.mark.parametrize("opened", ["folder", "s3", "hf"], indirect=True)
def test_killed_at_every_file_it_never_looks_complete_and_goes_on(opened: Open, lab: Path, keys: Keys) -> None:
    files = len(publish(lab, lab / "first", key=keys.private).release.files) + 2
    skipped = 0 if isinstance(opened(), Folder) else 6
    there: set[str] = set()
    for life in itertools.count():
        at = 2 * skipped + life % 2
        if not killed(lambda at=at: publish(lab, KilledAt(opened(), at), key=keys.private)):
            break
        now = set(opened().list())
        assert there <= now, "what was sent before is still there"
        assert life % 2 == 0 or len(now) == len(there) + skipped + 1, "and is not sent again"
        if RELEASE in now:
            break
        with pytest.raises(UsageError, match="there is no release"):
            get_release(opened(), lab / "got", Selection())
        there = now
    assert life >= files // (skipped + 1)
    done = publish(lab, opened(), key=keys.private)
    assert done.report is not None
    assert done.report.ok
    assert verify_release(opened(), str(keys.public)).anchored


class Corrupting:
    """A place that keeps other bytes than it was given, as often as it is told."""

    def __init__(self, place: Destination, folder: Path, times: int) -> None:
        self._place, self._folder, self._times = place, folder, times
        self.url = place.url

    def __getattr__(self, name: str) -> object:
        return getattr(self._place, name)

    def put(self, path: str, source: Path, *arguments: object, **options: object) -> None:
        self._place.put(path, source, *arguments, **options)  # type: ignore[arg-type]
        if path.endswith("run.json") and self._times > 0:
            self._times -= 1
            (kept := self._folder / path).chmod(0o644)
            kept.write_bytes(b"?" + kept.read_bytes()[1:])


def test_what_a_place_gets_wrong_once_is_put_again(lab: Path, tmp_path: Path) -> None:
    done = publish(lab, Corrupting(Folder(tmp_path / "place"), tmp_path / "place", 1))  # type: ignore[arg-type]
    assert done.report is not None
    assert done.report.ok
    assert verify_release(Folder(tmp_path / "place")).ok


def test_a_place_that_corrupts_is_named_and_never_looks_complete(lab: Path, tmp_path: Path) -> None:
    place = Corrupting(Folder(tmp_path / "place"), tmp_path / "place", 9)
    with pytest.raises(TransferError, match=r"does not give back what it was given: runs/demo-1/run\.json"):
        publish(lab, place)  # type: ignore[arg-type]
    assert not (tmp_path / "place" / RELEASE).exists()
    assert verify_release(Folder(lab / "released")).ok, "nothing was lost"


def test_a_published_copy_that_was_damaged_since_is_named(lab: Path, bucket: str) -> None:
    publish(lab, S3Prefix(bucket))
    place = S3Prefix(bucket)
    (lab / "x").write_bytes(b"?" * (lab / "runs/demo-1/run.json").stat().st_size)
    stated = record_file(lab / "runs/demo-1/run.json")
    place._client.put_object(
        **place._object("runs/demo-1/run.json"), Body=(lab / "x").read_bytes(), Metadata={"sha256": stated.sha256}
    )
    with pytest.raises(
        TransferError, match=r"run\.json: it does not match its digests; remove it there and call again"
    ):
        publish(lab, S3Prefix(bucket))
    assert [finding.file for finding in verify_release(S3Prefix(bucket)).findings] == ["runs/demo-1/run.json"]


def test_an_upload_in_parts_goes_on_where_it_was(bucket: str, tmp_path: Path) -> None:
    (path := tmp_path / "large").write_bytes(os.urandom(41 << 20))
    record, length = record_file(path), 8 << 20

    def sent(place: S3Prefix, kill_at: int | None = None) -> list[int]:
        numbers: list[int] = []
        real = place._client.upload_part

        def upload_part(**options: object) -> object:
            if len(numbers) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            numbers.append(int(str(options["PartNumber"])))
            return real(**options)

        place._client.upload_part = upload_part
        place.put("large", path, record)
        return numbers

    assert killed(lambda: sent(S3Prefix(bucket, length), kill_at=4))
    assert S3Prefix(bucket).list() == {}
    assert sent(S3Prefix(bucket, length)) == [5, 6]
    (target := tmp_path / "back").write_bytes(b"".join(S3Prefix(bucket).read("large")))
    assert record_file(target) == record
    assert S3Prefix(bucket).sha256("large") == record.sha256


def test_a_folder_that_was_made_in_a_console_is_an_empty_place(bucket: str, lab: Path) -> None:
    place = S3Prefix(bucket)
    for name in ("", "runs/"):
        place._client.put_object(**place._object(name), Body=b"")
    assert place.list() == {}
    published = publish(lab, place)
    assert published.report is not None
    assert published.report.ok


def test_two_at_once_do_not_overwrite_each_other(bucket: str, tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(b"one")
    S3Prefix(bucket).put("a", path, record_file(path))
    path.write_bytes(b"two")
    with pytest.raises(TransferError, match="someone else has put it there"):
        S3Prefix(bucket).put("a", path, record_file(path))


@pytest.mark.parametrize(
    ("code", "told"),
    [("AccessDenied", "was revoked"), ("InvalidAccessKeyId", "was revoked"), ("ExpiredToken", "renew it")],
)
def test_a_revoked_key_of_a_bucket_is_named(bucket: str, lab: Path, code: str, told: str) -> None:
    from botocore.exceptions import ClientError

    place = S3Prefix(bucket)

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": ""}}, "PutObject")

    place._client.put_object = refuse
    place._client.upload_part = refuse
    with pytest.raises(TransferError, match=told):
        publish(lab, place)
    assert publish(lab, S3Prefix(bucket)).report is not None, "the next call goes on"


def test_a_bucket_that_is_not_there_and_a_server_that_is_gone_are_named(
    bucket: str, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TransferError, match="there is no such bucket"):
        publish(lab, S3Prefix("s3://nobodys/x"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransferError, match="127.0.0.1:9"):
        S3Prefix(bucket).list()


def test_checkpoints_are_revisions_of_their_own(hub: Hub, lab: Path, tmp_path: Path) -> None:
    """As an exporter leaves them in the stage: they are found where `from_pretrained(revision=…)` looks."""
    place = open_destination("hf://lab/demo", lab / "runs")
    (weights := tmp_path / "model.safetensors").write_bytes(b"weights of step 10")
    place.put("checkpoints/step-00000010/model.safetensors", weights, record_file(weights))
    place.put("model.safetensors", weights, record_file(weights))
    place.flush()
    held = hub.repositories["lab/demo"]
    assert held.files("step-00000010").keys() == {".gitattributes", "model.safetensors"}
    assert held.files("main").keys() == {".gitattributes", "model.safetensors"}
    assert list(open_destination("hf://lab/demo", lab).list()) == [
        "model.safetensors",
        "checkpoints/step-00000010/model.safetensors",
    ]
    source = open_source("hf://lab/demo", lab)
    assert b"".join(source.read("checkpoints/step-00000010/model.safetensors", 8)) == b"of step 10"
    assert hub.uploads == [record_file(weights).sha256], "one object for both"


def test_what_the_hub_has_received_is_not_sent_again(hub: Hub, lab: Path) -> None:
    hub.refuse_commits = 500
    with pytest.raises(TransferError, match="hf://lab/demo: revision main"):
        publish(lab, open_destination("hf://lab/demo", lab / "runs"))
    sent = list(hub.uploads)
    assert sent
    hub.refuse_commits = None
    publish(lab, open_destination("hf://lab/demo", lab / "runs"))
    assert hub.uploads == sent


def test_a_revoked_token_is_named(hub: Hub, lab: Path) -> None:
    hub.token = "another"
    with pytest.raises(TransferError, match="the token is missing, lacks the permission, or was revoked"):
        publish(lab, open_destination("hf://lab/demo", lab / "runs"))


def test_someone_elses_commit_in_between_is_not_overwritten(hub: Hub, lab: Path, tmp_path: Path) -> None:
    publish(lab, open_destination("hf://lab/demo", lab / "runs"))
    place = open_destination("hf://lab/demo", lab / "runs")
    place.list()
    held = hub.repositories["lab/demo"]
    held.commit("main", held.files("main") | {"theirs": b"x"})
    (path := tmp_path / "a").write_bytes(b"a")
    place.put("a", path, record_file(path))
    with pytest.raises(TransferError, match="someone else has changed it meanwhile"):
        place.flush()


def test_dvc_has_what_was_released(lab: Path, s3_port: int, tmp_path: Path) -> None:
    new_repository(lab)
    add_s3_remote(lab, s3_port)
    published = publish(lab, open_destination("dvc://store/demo-release", lab / "runs"))
    git(lab, "add", "runs/demo-release.dvc", ".dvc/config")
    dvc(lab, "pull", "runs/demo-release.dvc")
    assert content(lab / "runs" / "demo-release") == content(published.stage)


def test_a_web_server_gives_a_release(made: Path, keys: Keys, tmp_path: Path) -> None:
    with file_server(made / "released") as (address, _):
        assert verify_release(open_source(address, made), str(keys.public)).anchored
        get_release(open_source(address, made), tmp_path / "got", Selection())
    assert content(tmp_path / "got") == content(made / "released")


def test_a_token_does_not_go_where_a_server_redirects_to() -> None:
    """As from the Hub to where it keeps large files."""
    heard: list[tuple[str, str | None]] = []

    class Second(Handler):
        def do_GET(self) -> None:  # noqa: N802
            heard.append((self.path, self.headers.get("Authorization")))
            self.answer(200, b"data")

    with serving(Second) as second:

        class First(Handler):
            def do_GET(self) -> None:  # noqa: N802
                heard.append((self.path, self.headers.get("Authorization")))
                self.send_response(302)
                self.send_header("Location", f"{second}/kept")
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serving(First) as first:
            assert b"".join(WebFolder(first, "secret").read("a")) == b"data"
    assert heard == [("/a", "Bearer secret"), ("/kept", None)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://example.org/x", "can only be read"),
        ("ftp://x/y", "is no place for a release"),
        ("s3:///x", "names no bucket"),
        ("hf://x", "names no repository"),
        ("dvc://store/../x", "names no release in a DVC remote"),
        ("", "is no place for a release"),
    ],
)
def test_a_place_that_is_none_is_named(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        open_destination(text, tmp_path)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        Folder(tmp_path / "file")


def test_a_link_in_a_folder_is_not_followed(made: Path, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "runs").symlink_to(made / "runs")
    with pytest.raises(TransferError, match="runs is a link"):
        Folder(tmp_path / "place").list()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for module, text in (("boto3", "s3://a/b"), ("huggingface_hub", "hf://a/b")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MachineError, match="pip install 'run-recorder"):
            open_destination(text, tmp_path)
