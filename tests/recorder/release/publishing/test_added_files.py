"""What somebody adds to a published release is found, wherever the place says what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.file_servers import file_server
from helpers.hub_server import Hub
from helpers.publishing import Keys, Open, Recorder, publish

from recorder.errors import TransferError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import NotListed
from recorder.release.destinations.s3 import S3Prefix
from recorder.release.manifest import record_file
from recorder.release.places import open_source
from recorder.release.verify_release import verify_release

ADAPTER = "adapter_model.safetensors"
IN_A_REVISION = "checkpoints/step-00000099/model.safetensors"


@pytest.mark.parametrize("opened", ["folder", "s3", "hf"], indirect=True)
@pytest.mark.parametrize("name", [ADAPTER, IN_A_REVISION])
def test_a_file_that_was_added_is_found(opened: Open, lab: Path, keys: Keys, tmp_path: Path, name: str) -> None:
    publish(lab, opened(), key=keys.private)
    assert verify_release(opened(), str(keys.public)).anchored
    (other := tmp_path / "other").write_bytes(b"somebody's")
    place = opened()
    place.list()
    place.put(name, other, record_file(other))
    place.flush()
    for source in (opened(), open_source(opened().url, lab / "runs")):
        report = verify_release(source, str(keys.public))
        assert [(found.file, found.kind) for found in report.findings] == [(name, "extra")]
        assert not report.anchored


def test_the_hub_is_asked_without_its_library_and_page_by_page(hub: Hub, lab: Path) -> None:
    from recorder.release.places import open_destination

    publish(lab, open_destination("hf://lab/demo", lab / "runs"))
    listed = open_destination("hf://lab/demo", lab / "runs").list()
    hub.page = 7
    assert open_source("hf://lab/demo", lab).list() == listed
    assert open_source("hf://lab/other", lab).list() == {}
    hub.repositories["lab/demo"].branches["step-00000099"] = "a commit that is not there"
    with pytest.raises(TransferError, match="a revision went while it was listed"):
        open_source("hf://lab/demo", lab).list()
    del hub.repositories["lab/demo"].branches["step-00000099"]
    hub.next_page_at = "http://127.0.0.1:9"
    with pytest.raises(TransferError, match=r"its list goes on elsewhere, at http://127\.0\.0\.1:9"):
        open_source("hf://lab/demo", lab).list()


def test_a_web_server_cannot_tell_and_verify_says_so(recorder: Recorder, lab: Path, keys: Keys) -> None:
    (lab / "released" / ADAPTER).write_bytes(b"somebody's")
    with file_server(lab / "released") as (address, _):
        said = recorder("verify", address, "--anchor", str(keys.public))
    assert "a web server does not say which files it has: whether there are files that" in said.out
    assert recorder("verify", "released").code == 1


def test_a_bucket_that_may_be_read_and_not_listed_is_verified_as_far_as_it_goes(bucket: str, lab: Path) -> None:
    from botocore.exceptions import ClientError

    publish(lab, S3Prefix(bucket))
    place = S3Prefix(bucket)

    def refuse(_: str) -> object:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "ListObjectsV2")

    place._client.get_paginator = refuse
    with pytest.raises(NotListed, match="access denied"):
        place.list()
    report = verify_release(place)
    assert report.ok
    assert any("was not looked at" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("runs/.not-fetched.json", True),
        ("runs/.locks/demo-1.lock", True),
        ("runs/.read-back/demo-1.jsonl", True),
        ("runs/.locks/adapter_model.safetensors", False),
        ("runs/.read-back/demo-2.jsonl", False),
        ("runs/.not-fetched.json.bak", False),
    ],
)
def test_only_what_commands_leave_beside_bundles_is_let_pass(
    made: Path, tmp_path: Path, name: str, is_ours: bool
) -> None:
    folder = Path(shutil.copytree(made / "released", tmp_path / "released"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    assert [found.file for found in verify_release(Folder(folder)).findings] == ([] if is_ours else [name])
