"""Killed anywhere in the steps on this machine, the next call goes on, and nobody can tell by the bytes."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from helpers.kill_points import run_until_killed
from helpers.private_runs import PRIVATE, naming, private_model
from helpers.publishing import Keys, content

from recorder.release import publish, steps
from recorder.release.destinations.folder import Folder
from recorder.release.manifest import RELEASE, SIGNATURE
from recorder.release.pseudonyms import read_or_make_key
from recorder.release.publish import release_runs
from recorder.release.secrets.private_rules import Names
from recorder.release.verify_release import verify_release
from recorder.release.work import FOLDER, Request, Work

EVERY = 5  # one change of the file system in five is tried


def test_killed_anywhere_the_next_call_goes_on_to_the_same_bytes(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "Work", partial(Work, clock=lambda: 1.79e9))
    monkeypatch.setattr(steps, "machine_names", Names)
    # A kill, unlike a loss of power, takes nothing that was not synced.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    runs, out = tmp_path / "runs", tmp_path / "out"
    withheld = ("checkpoints/*/optimizer.safetensors=too big",)
    request = Request(runs, (private_model(runs),), withhold=withheld, key=keys.private)

    def release() -> dict[str, bytes]:
        release_runs(request, Folder(out))
        files = content(out)
        # ECDSA draws a number: no two signatures of the same bytes are equal.
        assert files.pop(SIGNATURE)
        return files

    def prepare() -> None:
        shutil.rmtree(runs / FOLDER, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)

    def body() -> None:
        release_runs(request, Folder(out))

    expected = release()
    assert naming(out, PRIVATE[:2]) == set()
    prepare()
    changes = run_until_killed(body, None)
    assert changes is not None
    at_the_destination = 4 * len(expected)
    for at in range(1, changes - at_the_destination, EVERY):
        prepare()
        assert run_until_killed(body, at) is None
        assert not (out / RELEASE).exists()
        assert release() == expected, at
    assert verify_release(Folder(out), str(keys.public)).anchored
    assert at > 100


def test_the_key_of_the_pseudonyms_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    changes = run_until_killed(lambda: read_or_make_key(tmp_path) and None, None)
    assert changes is not None
    for at in range(1, changes + 1):
        (runs := tmp_path / str(at)).mkdir()
        assert run_until_killed(lambda: read_or_make_key(runs) and None, at) is None
        key = read_or_make_key(runs)
        assert len(key) == 32
        assert read_or_make_key(runs) == key
        assert (runs / ".pseudonym-key").stat().st_mode & 0o777 == 0o600
