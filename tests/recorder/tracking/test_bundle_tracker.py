from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml
from helpers.bundles import finished
from helpers.dvc_repositories import cached, digests, dvc, git, tracker
from test_dvc_lock import held
from test_read_back import flip

from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.verify import verify_bundle
from recorder.errors import TrackingError
from recorder.tracking.bundle_tracker import BundleTracker
from recorder.tracking.dvc_repository import DvcRepository
from recorder.tracking.pointer import pointer_path, read_pointer


def write(bundle: Path, path: str, data: bytes) -> dict[str, FileDigest]:
    (bundle / path).parent.mkdir(parents=True, exist_ok=True)
    (bundle / path).write_bytes(data)
    return {path: digest_file(bundle / path)}


@pytest.fixture
def bundle(repository: Path) -> Path:
    folder = repository / "runs" / "demo-1"
    write(folder, "run.json", b"{}\n")
    return folder


def object_of(repository: Path, digest: FileDigest) -> Path:
    return repository / ".dvc/cache/files/md5" / digest.md5[:2] / digest.md5[2:]


def test_a_closed_file_is_linked_and_neither_read_nor_copied(repository: Path, bundle: Path) -> None:
    files = write(bundle, "checkpoints/step-00000001/model.safetensors", os.urandom(8 << 20))
    ours = tracker(repository, bundle)
    ours.update(write(bundle, "ledger/0001.jsonl", b"warm\n"))
    before = read_bytes()
    ours.update(files)
    assert read_bytes() - before < 1 << 20
    ((path, digest),) = files.items()
    there, cached_file = (bundle / path).stat(), object_of(repository, digest).stat()
    assert there.st_ino == cached_file.st_ino
    assert stat.S_IMODE(there.st_mode) == 0o444


def read_bytes() -> int:
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


def test_a_sealed_bundle_is_clean_to_dvc_and_valid_to_the_recorder(repository: Path) -> None:
    bundle = finished(repository / "runs")
    ours = tracker(repository, bundle)
    assert ours.prepare_folder() is None
    ours.seal(digests(bundle))
    assert "up to date" in dvc(repository, "status")
    assert git(repository, "status", "--short", "--untracked-files=all") == "?? runs/.gitignore\n?? runs/demo-1.dvc\n"
    assert verify_bundle(bundle).findings == ()


def test_checkout_brings_back_every_byte(repository: Path, tmp_path: Path) -> None:
    bundle = finished(repository / "runs")
    before = digests(bundle)
    tracker(repository, bundle).seal(before)
    bundle.rename(tmp_path / "aside")
    dvc(repository, "checkout", "--quiet")
    assert digests(bundle) == before
    assert verify_bundle(bundle).findings == ()


def test_an_update_adds_what_is_new_and_frees_what_is_gone(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    first = write(bundle, "checkpoints/step-00000001/a", b"one") | write(bundle, "checkpoints/step-00000001/b", b"two")
    second = write(bundle, "checkpoints/step-00000002/a", b"three") | write(
        bundle, "checkpoints/step-00000002/b", b"two"
    )
    ours.update(digests_of(bundle, "run.json") | first)
    tracked = ours.update(second, ["checkpoints/step-00000001"])
    assert set(ours.files()) == {"run.json", *second}
    # `b` is the same in both checkpoints and stays; the tree before is gone too.
    assert object_of(repository, second["checkpoints/step-00000002/b"]).exists()
    assert not object_of(repository, first["checkpoints/step-00000001/a"]).exists()
    assert cached(repository) == {entry.md5 for entry in ours.files().values()} | {tracked.object}


def digests_of(bundle: Path, *paths: str) -> dict[str, FileDigest]:
    return {path: digest_file(bundle / path) for path in paths}


def test_what_others_use_is_not_freed(repository: Path, bundle: Path) -> None:
    for number in (1, 2, 3, 4):
        write(bundle, f"checkpoints/step-0000000{number}/a", b"%d" % number)
    # Somebody else has the same bytes: as a file of their own, in another bundle, and in a cache that nothing names.
    (repository / "model").write_bytes(b"1")
    dvc(repository, "add", "--quiet", "model")
    other = repository / "runs" / "demo-2"
    tracker_of_other = write(other, "run.json", b"other") | write(other, "checkpoints/step-00000002/a", b"2")
    tracker(repository, other).update(tracker_of_other)
    (repository / "gone").write_bytes(b"3")
    dvc(repository, "add", "--quiet", "gone")
    (repository / "gone.dvc").unlink()
    ours = tracker(repository, bundle)
    files = digests(bundle_with_manifest(bundle))
    ours.update(files)
    tracked = ours.update({}, ["checkpoints"])
    assert tracked.freed >= {files["checkpoints/step-00000004/a"].md5}
    for number in (1, 2, 3):
        assert object_of(repository, files[f"checkpoints/step-0000000{number}/a"]).exists(), number
    assert not object_of(repository, files["checkpoints/step-00000004/a"]).exists()


def bundle_with_manifest(bundle: Path) -> Path:
    write(bundle, "bundle.json", b"{}")
    return bundle


def test_what_git_knows_is_not_freed(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    files = write(bundle, "checkpoints/step-00000001/a", b"one")
    ours.update(files)
    ours.stage(None)
    committed = read_pointer(pointer_path(bundle))
    ours.update(write(bundle, "checkpoints/step-00000002/a", b"two"), ["checkpoints/step-00000001"])
    assert object_of(repository, *files.values()).exists()
    assert committed is not None
    assert committed.object in cached(repository)


def test_what_was_there_before_an_earlier_attempt_is_not_freed_by_a_later_one(repository: Path, bundle: Path) -> None:
    (repository / "gone").write_bytes(b"one")
    dvc(repository, "add", "--quiet", "gone")
    (repository / "gone.dvc").unlink()
    files = write(bundle, "checkpoints/step-00000001/a", b"one")
    tracker(repository, bundle).update(files)
    tracker(repository, bundle).update({}, ["checkpoints"])
    assert object_of(repository, *files.values()).exists()


def test_what_an_experiment_or_an_older_commit_names_is_not_freed(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    ours.update(tried := write(bundle, "checkpoints/step-00000001/a", b"one"))
    git(repository, "add", "runs/demo-1.dvc")
    # As `dvc exp` keeps an experiment: a commit that no branch has.
    tree = git(repository, "write-tree").strip()
    git(repository, "update-ref", "refs/exps/00/00/tried", git(repository, "commit-tree", tree, "-m", "tried").strip())
    git(repository, "reset", "--quiet")
    ours.update(committed := write(bundle, "checkpoints/step-00000002/a", b"two"), ["checkpoints/step-00000001"])
    ours.stage("Track it")
    git(repository, "rm", "--quiet", "--cached", "runs/demo-1.dvc")
    git(repository, "commit", "--quiet", "--message=no more")
    ours.update(free := write(bundle, "checkpoints/step-00000003/a", b"three"), ["checkpoints/step-00000002"])
    ours.update({}, ["checkpoints"])
    assert object_of(repository, *tried.values()).exists()
    assert object_of(repository, *committed.values()).exists()
    assert not object_of(repository, *free.values()).exists()


def test_in_a_cache_that_others_may_share_nothing_is_freed_and_its_folders_are_the_groups(
    repository: Path, bundle: Path, tmp_path: Path
) -> None:
    (repository / ".dvc" / "config").write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n    shared = group\n")
    ours = tracker(repository, bundle)
    ours.update(files := write(bundle, "checkpoints/step-00000001/a", b"one"))
    assert ours.update({}, ["checkpoints"]).freed == set()
    (digest,) = files.values()
    prefix = tmp_path / "shared" / "files" / "md5" / digest.md5[:2]
    assert (prefix / digest.md5[2:]).exists()
    assert stat.S_IMODE(prefix.stat().st_mode) == 0o2775


def test_what_is_kept_is_not_freed(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    files = write(bundle, "checkpoints/step-00000001/a", b"one")
    ours.update(files)
    more = write(bundle, "checkpoints/step-00000001/b", b"two")
    ours.update(more)
    for digest in files.values():
        ours.keep(digest.md5)
    # A further attempt knows it too, and which objects are the bundle's own.
    again = tracker(repository, bundle)
    freed = again.update({}, ["checkpoints"]).freed
    assert freed >= {digest.md5 for digest in more.values()}
    assert object_of(repository, *files.values()).exists()
    assert not object_of(repository, *more.values()).exists()


def test_a_truncated_object_is_mended_and_a_changed_file_refused(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    files = write(bundle, "checkpoints/step-00000001/a", b"one")
    target = object_of(repository, *files.values())
    target.parent.mkdir(parents=True)
    target.write_bytes(b"on")
    ours.update(files)
    assert target.read_bytes() == b"one"
    late = write(bundle, "checkpoints/step-00000002/a", b"two")
    (bundle / "checkpoints/step-00000002/a").write_bytes(b"longer")
    with pytest.raises(TrackingError, match=r"step-00000002/a has 6 bytes and was recorded with 3: it was changed"):
        ours.update(late)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_a_damaged_checkpoint_that_is_saved_again_is_tracked_and_its_object_good(
    repository: Path, bundle: Path, at_once: bool, kept: bool
) -> None:
    ours = tracker(repository, bundle)
    folder = "checkpoints/step-00000001"
    files = write(bundle, f"{folder}/a", b"good")
    ours.update(files | digests_of(bundle, "run.json"))
    if kept:
        ours.keep(files[f"{folder}/a"].md5)
    flip(bundle / folder / "a")  # and its object: it is the same file
    (bundle / folder).rename(bundle / "checkpoints/damaged")
    if not at_once:
        ours.update({}, [folder], [folder])
    again = write(bundle, f"{folder}/a", b"good")
    assert again == files
    ours.update(again, *([[folder], [folder]] if at_once else []))
    assert set(ours.files()) == {"run.json", f"{folder}/a"}
    assert object_of(repository, *files.values()).read_bytes() == b"good"
    assert (bundle / "checkpoints/damaged/a").read_bytes() != b"good"


def test_a_file_that_is_gone_already_is_passed_over(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    files = write(bundle, "checkpoints/step-00000001/a", b"one") | digests_of(bundle, "run.json")
    (bundle / "checkpoints/step-00000001/a").unlink()
    ours.update(files)
    assert list(ours.files()) == ["run.json"]


def test_a_further_attempt_goes_on_with_the_tree(repository: Path, bundle: Path) -> None:
    first = tracker(repository, bundle)
    first.update(digests_of(bundle, "run.json") | write(bundle, "bundle.json", b"seal"))
    (bundle / "bundle.json").rename(bundle / "seal-0001.json")
    second = tracker(repository, bundle)
    assert list(second.files()) == ["run.json"]
    second.seal(digests_of(bundle, "run.json", "seal-0001.json"))
    assert "up to date" in dvc(repository, "status")
    assert len(cached(repository)) == 3


def test_where_no_link_is_possible_it_is_one_copy(
    repository: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    ours = tracker(repository, bundle)
    assert ours.link_type in {"copy", "reflink"}
    files = write(bundle, "a", b"one")
    ours.update(files)
    assert object_of(repository, *files.values()).stat().st_ino != (bundle / "a").stat().st_ino
    assert (bundle / "a").stat().st_nlink == 1


def test_dvcs_own_setting_is_respected(repository: Path, bundle: Path) -> None:
    dvc(repository, "config", "cache.type", "copy")
    assert tracker(repository, bundle).link_type == "copy"
    dvc(repository, "config", "cache.type", "symlink,hardlink")
    assert tracker(repository, bundle).link_type == "hardlink"


def test_what_users_added_to_the_dvc_file_stays(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    ours.update(digests_of(bundle, "run.json"))
    document = yaml.safe_load(pointer_path(bundle).read_text())
    document["outs"][0]["desc"] = "the good one"
    document["meta"] = {"owner": "a"}
    pointer_path(bundle).write_text(yaml.safe_dump(document))
    ours.update(write(bundle, "a", b"one"))
    document = yaml.safe_load(pointer_path(bundle).read_text())
    assert (document["outs"][0]["desc"], document["outs"][0]["nfiles"]) == ("the good one", 2)
    assert document["meta"] == {"owner": "a"}


def test_the_folder_keeps_the_rules_it_has(repository: Path, bundle: Path) -> None:
    ignore = repository / "runs" / ".gitignore"
    ignore.write_text("*.tmp")
    ours = tracker(repository, bundle)
    assert ours.prepare_folder() is None
    assert ours.prepare_folder() is None
    assert ignore.read_text() == "*.tmp\n/demo-1\n/.dvcignore\n"
    (repository / ".gitignore").write_text("/runs/\n")
    assert "git ignores demo-1.dvc, so DVC does not see it" in (ours.prepare_folder() or "")


def test_only_what_was_asked_for_is_committed(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    ours.update(digests_of(bundle, "run.json"))
    (repository / "mine").write_text("unfinished")
    git(repository, "add", "mine")
    ours.stage("Track run demo-1")
    committed = git(repository, "show", "--format=%s", "--name-only").split()
    assert committed == ["Track", "run", "demo-1", "runs/.gitignore", "runs/demo-1.dvc"]
    assert git(repository, "status", "--short") == "A  mine\n"
    ours.stage("Track run demo-1")
    assert git(repository, "rev-list", "--count", "HEAD") == "2\n"


def test_a_repository_in_a_folder_of_a_larger_one_is_in_git_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "lab" / "runs").mkdir(parents=True)
    dvc(tmp_path / "lab", "init", "--quiet", "--subdir")
    bundle = tmp_path / "lab" / "runs" / "demo-1"
    write(bundle, "run.json", b"{}\n")
    ours = tracker(tmp_path / "lab", bundle)
    assert ours.prepare_folder() is None
    ours.update(digests_of(bundle, "run.json") | (files := write(bundle, "checkpoints/step-00000001/a", b"one")))
    ours.stage("Track run demo-1")
    ours.update({}, ["checkpoints"])
    assert object_of(tmp_path / "lab", *files.values()).exists()
    committed = git(tmp_path, "show", "--format=", "--name-only").split()
    assert committed[-2:] == ["lab/runs/.gitignore", "lab/runs/demo-1.dvc"]
    (tmp_path / "lab" / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    assert not DvcRepository(tmp_path / "lab").has_git


def test_a_broken_dvc_file_elsewhere_frees_nothing(repository: Path, bundle: Path) -> None:
    ours = tracker(repository, bundle)
    files = write(bundle, "a", b"one") | digests_of(bundle, "run.json")
    ours.update(files)
    broken = repository / "broken.dvc"
    broken.write_text("outs: 3\n")
    ours.update({}, ["a"])
    assert object_of(repository, files["a"]).exists()
    broken.unlink()
    ours.update(write(bundle, "b", b"two"))
    assert not object_of(repository, files["a"]).exists()


def test_the_repository_is_closed_by_its_owner(repository: Path, bundle: Path) -> None:
    store = DvcRepository(repository)
    BundleTracker(store, bundle, 1.0, print).update(digests_of(bundle, "run.json"))
    store.close()
    store.close()


def test_without_the_lock_it_adds_and_takes_nothing_out(repository: Path, bundle: Path) -> None:
    """An experiment of `--run-all`: DVC holds the lock until it has ended."""
    ours = tracker(repository, bundle, patience=0)
    ours.adds_unlocked = True
    first = write(bundle, "checkpoints/step-00000001/state.json", b"one")
    ours.update(first)
    with held(repository):
        second = write(bundle, "checkpoints/step-00000002/state.json", b"two")
        assert ours.update(second, ["checkpoints/step-00000001"]).freed == set()
        ours.adds_unlocked = False
        with pytest.raises(TrackingError, match="held DVC's lock"):
            ours.update({})
    for digest in (*first.values(), *second.values()):
        assert object_of(repository, digest).exists()
    assert set(ours.files()) == {"checkpoints/step-00000002/state.json"}


def test_it_is_staged_in_a_temporary_copy_and_not_here(repository: Path, tmp_path: Path) -> None:
    bundle = finished(repository / "runs")
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=before")
    git(tmp_path, "clone", "--quiet", str(repository), "copy")
    ours.seal(digests(bundle))
    ours.stage_in(tmp_path / "copy")
    name = f"runs/{bundle.name}.dvc"
    assert git(tmp_path / "copy", "diff", "--cached", "--name-only").split() == [name]
    assert (tmp_path / "copy" / name).read_bytes() == pointer_path(bundle).read_bytes()
    assert git(repository, "diff", "--cached", "--name-only") == ""
