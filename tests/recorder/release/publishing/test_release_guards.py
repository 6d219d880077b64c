"""A release goes into a folder of its own, and leaves alone what it did not begin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.publishing import Recorder, content, publish

from recorder.errors import UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.get import get_release
from recorder.release.receive import PARTIAL
from recorder.release.selection import Selection
from recorder.release.verify_release import verify_release


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("runs/killed-1", "a bundle"),
        ("runs/killed-1/more/out", "a bundle"),
        ("released/runs/demo-1/out", "a bundle"),
        ("released/out", "another release"),
        ("runs/.release/out", "the folder in which releases are made"),
    ],
)
def test_a_release_does_not_go_into_what_would_no_longer_verify(
    recorder: Recorder, lab: Path, to: str, what: str
) -> None:
    before = content(lab)
    said = recorder("release", "demo-1", "--to", to)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{to} is inside {what}" in said.err
    assert content(lab) == before


def test_a_link_to_a_bundle_is_no_way_into_it(lab: Path) -> None:
    (lab / "out").symlink_to(lab / "runs/killed-1")
    with pytest.raises(UsageError, match="is inside a bundle"):
        publish(lab, lab / "out")


def test_what_somebody_keeps_in_a_folder_of_that_name_is_left_there(lab: Path) -> None:
    (notes := lab / "out" / PARTIAL / "notes.txt").parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(UsageError, match=r"holds \.partial/notes\.txt, not of this release: choose an empty place"):
        publish(lab, lab / "out")
    with pytest.raises(UsageError, match="is there already, and is no release"):
        get_release(Folder(lab / "released"), lab / "out", Selection())
    assert notes.read_text() == "mine"
    Folder(lab / "out").flush()
    assert notes.read_text() == "mine"
    (lab / "released" / PARTIAL).mkdir()
    notes.rename(lab / "released" / PARTIAL / "notes.txt")
    assert [found.file for found in verify_release(Folder(lab / "released")).findings] == [f"{PARTIAL}/notes.txt"]


def test_what_another_transfer_has_begun_does_not_bar_a_release(lab: Path) -> None:
    (lab / "out" / PARTIAL).mkdir(parents=True)
    (lab / "out" / PARTIAL / os.urandom(32).hex()).write_bytes(b"half")
    published = publish(lab, lab / "out")
    assert published.report is not None
    assert published.report.ok
    assert not (lab / "out" / PARTIAL).exists()
