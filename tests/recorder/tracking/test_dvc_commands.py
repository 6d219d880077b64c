"""What people do with DVC works on what tracking leaves."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.bundles import finished, killed_builder, ticking_clock
from helpers.commands import recorder
from helpers.dvc_repositories import cached, digests, dvc, git, new_repository, tracker

from recorder.bundle.files import digest_file
from recorder.bundle.verify import verify_bundle
from recorder.run import Run
from recorder.tracking.background import BackgroundTracking, TrackingOptions


def tracked(repository: Path, run_id: str = "demo-1") -> Path:
    """A sealed bundle, tracked and committed."""
    bundle = finished(repository / "runs", run_id)
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    ours.seal(digests(bundle))
    ours.stage(f"Track run {run_id}")
    return bundle


def test_it_is_pushed_and_pulled_elsewhere_and_goes_on_there(repository: Path, tmp_path: Path) -> None:
    bundle = tracked(repository)
    dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store"))
    git(repository, "commit", "--quiet", "--all", "--message=remote")
    dvc(repository, "push", "--quiet")
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    dvc(tmp_path / "clone", "pull", "--quiet")
    pulled = tmp_path / "clone" / "runs" / "demo-1"
    assert digests(pulled) == digests(bundle)
    report = json.loads(recorder(tmp_path / "clone", "verify", "demo-1", "--json").out)
    assert (report["ok"], report["state"]) == (True, "sealed")
    run = Run.resume(pulled, spools=tmp_path / "spools", clock=ticking_clock())
    run.begin_attempt(command="again", host="b", pid=1, files={})
    run.track(BackgroundTracking(tmp_path / "clone", TrackingOptions(), print))
    run.close("interrupted")
    assert "up to date" in dvc(tmp_path / "clone", "status")


def test_garbage_collection_keeps_it_while_it_is_tracked(repository: Path) -> None:
    bundle = tracked(repository)
    before = cached(repository)
    dvc(repository, "gc", "--workspace", "--force", "--quiet")
    assert cached(repository) == before
    (repository / "runs" / "demo-1.dvc").unlink()
    dvc(repository, "gc", "--workspace", "--force", "--quiet")
    assert cached(repository) == set()
    assert verify_bundle(bundle).findings == ()


def test_list_get_diff_and_data_status(repository: Path, tmp_path: Path) -> None:
    tracked(repository)
    listed = dvc(repository, "list", ".", "runs/demo-1", "--recursive").split()
    assert {"bundle.json", "checkpoints/step-00000012/state.json"} <= set(listed)
    dvc(repository, "get", ".", "runs/demo-1/run.json", "--out", str(tmp_path / "run.json"))
    assert (tmp_path / "run.json").read_bytes() == (repository / "runs/demo-1/run.json").read_bytes()
    tracked(repository, "demo-2")
    changed = json.loads(dvc(repository, "diff", "HEAD~1", "--json"))
    assert {"path": "runs/demo-2/run.json"} in [{"path": item["path"]} for item in changed["added"]]
    assert not changed["deleted"]
    assert not changed["modified"]
    assert "No changes" in dvc(repository, "data", "status")


def test_a_recorded_config_is_parameters_to_dvc(repository: Path) -> None:
    bundle = tracked(repository)
    target = f"runs/{bundle.name}/config/resolved.yaml"
    shown = json.loads(
        dvc(repository, "params", "diff", "--all", "--json", "HEAD~1", "--targets", target).splitlines()[0]
    )
    assert shown[target]["seed"] == {"old": None, "new": 1}


def test_another_branch_does_not_take_the_bundle_away(repository: Path) -> None:
    """DVC removes what it had linked; this it was never told to have linked: evidence stays."""
    git(repository, "branch", "before")
    bundle = tracked(repository)
    git(repository, "checkout", "--quiet", "before")
    dvc(repository, "checkout", "--quiet")
    assert verify_bundle(bundle).findings == ()


def test_a_second_repository_does_not_see_the_first(tmp_path: Path, repository: Path) -> None:
    tracked(repository)
    other = new_repository(tmp_path / "other")
    tracked(other)
    assert cached(other) == cached(repository)


def test_a_killed_run_that_was_added_by_hand_goes_on_beside_what_dvc_has_of_it(repository: Path) -> None:
    (repository / ".dvc" / "config").write_text('[cache]\n    type = "hardlink"\n')
    builder = killed_builder(repository / "runs")
    for path in ("ledger/0002.jsonl", "metrics/0002.jsonl", "logs/0001/rank-0.log"):
        with (builder.path / path).open("a") as file:
            file.write("torn")
    dvc(repository, "add", "--quiet", "runs/demo-1")
    assert (builder.path / "ledger/0002.jsonl").stat().st_nlink == 2
    before = cached(repository)
    bundle = builder.resume().restored(5).join().steps(6, 12).checkpoint(12).finish(12).close()
    assert verify_bundle(bundle).findings == ()
    objects = {name: repository / ".dvc/cache/files/md5" / name[:2] / name[2:] for name in before}
    assert {name for name, path in objects.items() if digest_file(path).md5 != name.removesuffix(".dir")} == set()
