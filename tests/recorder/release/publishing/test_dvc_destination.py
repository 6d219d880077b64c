"""A DVC remote as a place for releases: killed on the way, and where something else has the name."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.dvc_repositories import dvc, new_repository
from helpers.publishing import Keys, KilledAt, killed, publish

from recorder.errors import UsageError
from recorder.release.destinations.protocol import Destination
from recorder.release.get import get_release
from recorder.release.places import open_destination
from recorder.release.selection import Selection
from recorder.release.verify_release import verify_release
from recorder.tracking.dvc_repository import ObjectStore


@pytest.fixture
def repository(lab: Path, tmp_path: Path) -> Path:
    """The lab as a DVC repository, with a folder as its remote."""
    new_repository(lab)
    dvc(lab, "remote", "add", "--default", "store", str(tmp_path / "store"))
    return lab


def opened(lab: Path) -> Destination:
    return open_destination("dvc://store/demo", lab / "runs")


def test_killed_on_the_way_nothing_is_there_and_what_was_sent_is_not_sent_again(
    repository: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = len(publish(repository, repository / "first", key=keys.private).release.files) + 2
    for at in (0, 1, files, files + 1, 2 * files - 2):
        assert killed(lambda at=at: publish(repository, KilledAt(opened(repository), at), key=keys.private))  # type: ignore[misc]
        assert opened(repository).list() == {}
        assert not (repository / "runs/demo.dvc").exists()
        with pytest.raises(UsageError, match="there is no release"):
            get_release(opened(repository), repository / "got", Selection())
    sent: list[str] = []
    upload = ObjectStore.upload

    def counted(store: ObjectStore, name: str, *arguments: object) -> None:
        sent.append(name)
        upload(store, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ObjectStore, "upload", counted)
    done = publish(repository, opened(repository), key=keys.private)
    assert done.report is not None
    assert done.report.ok
    assert len(sent) == 2, "release.json and the list of all files"
    assert verify_release(opened(repository), str(keys.public)).anchored


def test_killed_after_its_last_file_it_is_there_whole(repository: Path, keys: Keys) -> None:
    files = len(publish(repository, repository / "first", key=keys.private).release.files) + 2
    last = 2 * (files - 1) + 1
    assert killed(lambda: publish(repository, KilledAt(opened(repository), last), key=keys.private))
    assert verify_release(opened(repository), str(keys.public)).anchored
    assert publish(repository, opened(repository), key=keys.private).waiting == ()


def test_what_has_the_name_already_is_not_touched(repository: Path, tmp_path: Path) -> None:
    (repository / "runs/demo").mkdir()
    (repository / "runs/demo/notes.txt").write_text("somebody's")
    dvc(repository, "add", "--quiet", "runs/demo")
    dvc(repository, "push", "--quiet")
    pointer = (repository / "runs/demo.dvc").read_bytes()
    with pytest.raises(UsageError, match=r"holds notes\.txt, not of this release: choose an empty place"):
        publish(repository, opened(repository))
    assert (repository / "runs/demo.dvc").read_bytes() == pointer
    assert b"".join(opened(repository).read("notes.txt")) == b"somebody's"
