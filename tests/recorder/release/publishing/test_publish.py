"""The steps on this machine: what is refused, what is kept, and what a kill or a full disk leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.disks import fill, small_disk
from helpers.kill_points import run_until_killed
from helpers.publishing import Keys, content, make_key, publish

from recorder.bundle.addenda import CERTIFICATE, append_addendum
from recorder.bundle.verify import verify_bundle
from recorder.errors import BundleError, RecordingError, UsageError
from recorder.lock import RunLock
from recorder.release import steps
from recorder.release.destinations.folder import Folder
from recorder.release.manifest import RELEASE, SIGNATURE, parse_release
from recorder.release.publish import release_runs
from recorder.release.redaction import Redaction
from recorder.release.stage import record_stage
from recorder.release.verify_release import verify_release
from recorder.release.work import FOLDER, Request

EVERY = 3  # one change of the file system in three is tried


def damage(lab: Path) -> Path:
    (path := lab / "runs/demo-1/config/overrides.yaml").chmod(0o644)
    path.unlink()
    path.write_text("[a=1]\n")
    return path


def test_an_open_bundle_is_refused_and_as_it_is_published_marked_so(lab: Path) -> None:
    with pytest.raises(BundleError, match=r"killed-1 is open: its run ended without a seal.*--as-is"):
        publish(lab, lab / "out", "killed-1")
    assert not (lab / "out").exists()
    published = publish(lab, lab / "out", "killed-1", as_is=True)
    assert published.release.as_is
    assert published.release.runs == {"killed-1": None}
    assert verify_release(Folder(lab / "out")).state == "released as is"


def test_a_bundle_that_fails_is_refused_with_the_reason(lab: Path) -> None:
    damage(lab)
    with pytest.raises(BundleError, match=r"demo-1 does not verify \(config/overrides\.yaml: it has 6 bytes instead"):
        publish(lab, lab / "out")
    assert publish(lab, lab / "out", as_is=True).release.as_is
    report = verify_release(Folder(lab / "out"))
    assert report.ok
    assert any("demo-1 was published as it is, with" in note for note in report.notes)


def test_as_is_does_not_mark_what_is_as_it_should_be(lab: Path) -> None:
    assert not publish(lab, lab / "out", as_is=True).release.as_is


def test_a_run_that_is_being_written_is_refused_in_any_case(lab: Path) -> None:
    lock = RunLock(lab / "runs", "killed-1")
    try:
        with pytest.raises(UsageError, match="killed-1 is still being written"):
            publish(lab, lab / "out", "killed-1", as_is=True)
    finally:
        lock.release()


def test_the_bundles_are_left_as_they_are(lab: Path, keys: Keys) -> None:
    before = content(lab / "runs" / "demo-1")
    modes = {path: path.stat().st_mode for path in (lab / "runs").rglob("*")}
    publish(lab, lab / "out", key=keys.private)
    assert content(lab / "runs" / "demo-1") == before
    assert {path: path.stat().st_mode for path in modes} == modes
    assert verify_bundle(lab / "runs" / "demo-1").ok


def test_what_was_added_after_the_seal_makes_another_release(lab: Path) -> None:
    first = publish(lab, lab / "one")
    name = append_addendum(lab / "runs/demo-1", CERTIFICATE, {"subject": "audit", "result": "equal"})
    second = publish(lab, lab / "two")
    assert f"runs/demo-1/{name}" not in first.release.files
    assert (lab / "two/runs/demo-1" / name).read_bytes() == (lab / "runs/demo-1" / name).read_bytes()
    assert first.release.runs == second.release.runs, "the seal is the same"


def test_several_runs_are_one_release(lab: Path, keys: Keys) -> None:
    published = publish(lab, lab / "out", "demo-1", "killed-1", key=keys.private, as_is=True)
    assert list(published.release.runs) == ["demo-1", "killed-1"]
    assert verify_release(Folder(lab / "out"), str(keys.public)).anchored


def test_the_same_release_goes_to_a_second_place(lab: Path) -> None:
    first, second = publish(lab, lab / "one"), publish(lab, lab / "two")
    assert first.release == second.release
    assert content(lab / "one") == content(lab / "two")


def test_a_dry_run_says_what_would_go_and_sends_nothing(lab: Path, keys: Keys) -> None:
    shutil.rmtree(lab / "runs" / FOLDER)
    request = Request(lab / "runs", (lab / "runs/demo-1",), key=keys.private)
    told: list[str] = []
    planned = release_runs(
        request, Folder(lab / "out"), dry_run=True, told=lambda number, total, name, said, before: told.append(name)
    )
    assert not (lab / "out").exists()
    assert not (planned.stage / SIGNATURE).exists()
    assert told == ["verify", "secrets", "redact", "export", "report", "describe", "list"]
    done = release_runs(request, Folder(lab / "out"))
    assert set(done.waiting) == {*planned.waiting, SIGNATURE}


def test_what_was_changed_after_it_was_verified_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = steps.redacted

    def redact_and_change(bundle: Path, target: Path, **options: Any) -> Redaction:
        done = real(bundle, target, **options)
        (path := target / "run.json").unlink()
        path.write_bytes((bundle / "run.json").read_bytes().replace(b"demo", b"dem0"))
        return done

    monkeypatch.setattr(steps, "redacted", redact_and_change)
    with pytest.raises(RecordingError, match=r"run\.json of demo-1 was changed after it was verified"):
        publish(lab, lab / "out")
    assert not (lab / "out").exists()


def test_another_key_signs_anew_and_never_over_what_was_published(lab: Path, keys: Keys) -> None:
    publish(lab, lab / "one", key=keys.private)
    other = make_key(lab / "second.pem")
    with pytest.raises(UsageError, match="holds this release, signed with another key"):
        publish(lab, lab / "one", key=other)
    assert verify_release(Folder(lab / "one"), str(keys.public)).anchored
    publish(lab, lab / "two", key=other)
    assert verify_release(Folder(lab / "two"), str(other.with_suffix(".pub"))).anchored


def test_what_is_done_is_not_done_again(lab: Path, keys: Keys) -> None:
    request, told = Request(lab / "runs", (lab / "runs/demo-1",), key=keys.private), {}
    publish(lab, lab / "one", key=keys.private)
    staged = content(lab / "one")
    release_runs(
        request, Folder(lab / "two"), told=lambda number, total, name, said, before: told.update({name: before})
    )
    assert told == {step.name: True for step in steps.STEPS} | {"publish": False, "check": False}
    assert content(lab / "two") == staged, "the very same signature too"


def test_what_a_killed_call_began_to_write_is_not_released(tmp_path: Path) -> None:
    kept, step = ("runs/demo-1/.odd.tmp", "run.json"), "checkpoints/step-00000005"
    begun = (".release.json.77.tmp", ".report.html.77.tmp", f"{step}/.model.safetensors.77.tmp")
    for name in (*kept, *begun, RELEASE, SIGNATURE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert record_stage(tmp_path).keys() == set(kept)
    (tmp_path / "link").symlink_to("run.json")
    with pytest.raises(RecordingError, match="link in .* is a link; a release holds none"):
        record_stage(tmp_path)


def test_what_was_lost_of_a_published_release_is_put_back(lab: Path, keys: Keys) -> None:
    publish(lab, lab / "out", key=keys.private)
    for name in (SIGNATURE, "runs/demo-1/run.json"):
        (lab / "out" / name).unlink()
    assert publish(lab, lab / "out", key=keys.private).waiting == ("runs/demo-1/run.json", SIGNATURE)
    assert verify_release(Folder(lab / "out"), str(keys.public)).anchored


def test_two_calls_at_once_do_not_mix(lab: Path) -> None:
    request = Request(lab / "runs", (lab / "runs/demo-1",))
    lock = RunLock(lab / "runs" / FOLDER, request.name)
    try:
        with pytest.raises(UsageError, match="is still being written by process"):
            release_runs(request, Folder(lab / "out"))
    finally:
        lock.release()


def test_a_stage_that_was_removed_is_made_again(lab: Path) -> None:
    first = publish(lab, lab / "out")
    shutil.rmtree(first.stage)
    again = publish(lab, lab / "out")
    assert again.release == first.release, "its time is that of the first call"
    assert again.waiting == ()


def test_killed_at_any_change_the_next_call_goes_on(lab: Path, keys: Keys) -> None:
    """Between any two changes at the destination: nothing looks complete, nothing is lost, the end is the same.

    What a kill in the steps before leaves is in test_steps_killed.py.
    """
    expected = content(publish(lab, lab / "first").stage)

    def body() -> None:
        publish(lab, lab / "out")

    at, kills = 1, 0
    while run_until_killed(body, at) is None:
        kills += 1
        if (release := lab / "out" / RELEASE).exists():
            assert verify_release(Folder(lab / "out")).ok
        if kills % 4 == 0 or release.exists():
            publish(lab, lab / "out")
            assert content(lab / "out") == expected
            shutil.rmtree(lab / "out")
        at += EVERY
    assert kills > 20
    assert verify_release(Folder(lab / "out")).ok


def test_a_full_disk_is_named_and_nothing_is_lost(lab: Path, tmp_path: Path, keys: Keys) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        filler = fill(disk)
        with pytest.raises(RecordingError, match=r"cannot write .*: the disk is full; free some space"):
            publish(lab, disk / "out", key=keys.private)
        assert not (disk / "out" / RELEASE).exists()
        filler.unlink()
        publish(lab, disk / "out", key=keys.private)
        assert verify_release(Folder(disk / "out"), str(keys.public)).anchored


def test_the_journal_is_no_bundle(lab: Path) -> None:
    from recorder.bundle.find import bundles

    published = publish(lab, lab / "out")
    assert [path.name for path in bundles(lab / "runs")] == ["demo-1", "killed-1"]
    journal = json.loads((published.stage.parent / "steps.json").read_bytes())
    assert journal["done"].keys() == {step.name for step in steps.STEPS}
    assert parse_release((published.stage / RELEASE).read_bytes(), "").document["created"] == journal["created"]
