from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY, bits
from helpers.dvc_repositories import dvc, git
from helpers.recording import checked_events, of_type
from test_background import begun, tracked_paths

from recorder.bundle import layout
from recorder.bundle.manifest import bundle_files
from recorder.bundle.verify import verify_bundle
from recorder.tracking.open_part import IGNORE, OpenPart

# A stage that trains. Its first call waits in the middle to be killed, a later one goes on with the run that is there.
STAGE = """
import signal, os, sys
from pathlib import Path
from helpers.bundles import RunBuilder
from recorder.tracking.background import BackgroundTracking, TrackingOptions

root, last = Path.cwd(), int(sys.argv[1])
builder = RunBuilder(root / "runs")
tracking = BackgroundTracking(root, TrackingOptions(), print)
if builder.path.exists():
    builder = builder.resume()
    builder = builder.restored(last).join() if last else builder.join()
    builder.run.track(tracking)
    builder.steps(last + 1, 12).checkpoint(12).finish(12).close()
    Path("out.json").write_text("{}")
else:
    builder = builder.create().join()
    builder.run.track(tracking)
    if last:
        builder.print("first line").steps(1, last).checkpoint(last)
    tracking.finish()
    builder.print("second line").steps(last + 1, last + 2).drain().checkpoint(last + 2, announce=False)
    (builder.path / "checkpoints" / "empty").mkdir()
    print("waiting", os.getpid(), flush=True)
    signal.pause()
"""


@pytest.fixture
def staged(repository: Path) -> Path:
    """A repository with one stage, one parameter and a folder for bundles."""
    (repository / "stage.py").write_text(STAGE)
    (repository / "params.yaml").write_text("last: 5\nother: 1\n")
    (repository / "dvc.yaml").write_text(
        f"stages:\n  train:\n    cmd: {sys.executable} stage.py ${{last}}\n    params: [other]\n"
        "    outs: [out.json: {cache: false}]\n"
    )
    (repository / ".gitignore").write_text("/runs-spools\n")
    (repository / "runs").mkdir()
    (repository / "runs" / ".gitignore").write_text("/*\n!/.gitignore\n!/*.dvc\n")
    (repository / ".dvc" / "config").write_text('[cache]\n    type = "reflink,hardlink,copy"\n')
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=a stage")
    os.environ["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    return repository


@pytest.mark.parametrize("last", [5, 0], ids=["after a checkpoint", "before the first"])
def test_a_killed_experiment_goes_on_in_the_next_and_loses_nothing(staged: Path, last: int) -> None:
    bundle = staged / "runs" / "demo-1"
    _run_and_kill(staged, "exp", "run", "-S", f"last={last}", "-S", "other=2")
    before = _files(bundle)
    assert {"logs/0001/rank-0.log", layout.ledger_segment(2 if last else 1)} <= before.keys() - tracked_paths(staged)
    # What an experiment begins with, and what applying one does.
    dvc(staged, "checkout", "--force")
    assert _files(bundle) == before
    dvc(staged, "exp", "run", "-S", f"last={last}", "-S", "other=2")
    assert sorted(bits(bundle)) == list(range(1, 13))
    assert [event["outcome"] for event in of_type(checked_events(bundle), "attempt.ended")] == ["killed", "finished"]
    assert verify_bundle(bundle).findings == ()
    assert "up to date" in dvc(staged, "status")
    assert not (staged / "runs" / IGNORE).exists()


def test_a_run_that_goes_on_beside_an_experiment_keeps_writing_into_its_own_files(staged: Path) -> None:
    builder, tracking = begun(staged)
    builder.print("first line").steps(1, 5).checkpoint(5)
    while "ledger/0001.jsonl" not in tracking.done.get(timeout=60).entries:
        pass
    builder.steps(6, 7).drain().checkpoint(7, announce=False)
    before = _files(builder.path)
    (staged / "dvc.yaml").write_text(
        "stages:\n  other:\n    cmd: echo {} > out.json\n    outs: [out.json: {cache: false}]\n"
    )
    dvc(staged, "checkout", "--force")
    dvc(staged, "exp", "run")
    # Neither removed, nor linked into the cache, where a further line would change an object.
    assert _files(builder.path) == before
    assert "up to date" in dvc(staged, "status", "runs/demo-1.dvc")
    assert "?? runs/.dvcignore" not in git(staged, "status", "--short", "--untracked-files=all")
    bundle = builder.steps(8, 9).checkpoint(9).finish(9).close()
    assert verify_bundle(bundle).findings == ()
    assert "up to date" in dvc(staged, "status", "runs/demo-1.dvc")


def test_what_is_listed_is_seen_and_nothing_else(repository: Path) -> None:
    from dvc.repo import Repo

    bundle = repository / "runs" / "demo-1"
    listed = [f"ledger/{number:04d}.jsonl" for number in [*range(1, 124), 125]]
    listed += [f"metrics/{number:04d}.parquet" for number in range(1, 10_051)]
    listed += ["run.json", "config/resolved.yaml", "checkpoints/step-00000005/state.json", "data/a [1] #!.txt"]
    hidden = ["ledger/0124.jsonl", "ledger/0126.jsonl", "ledger/1125.jsonl", "metrics/0001.jsonl", "bundle.json"]
    hidden += ["metrics/10051.parquet", "metrics/0001.parquet.tmp", "config/overrides.yaml", "data/b"]
    hidden += ["checkpoints/step-00000005.partial/a", "checkpoints/step-00000006/state.json", "logs/0001/a.log"]
    OpenPart(bundle).hide(listed)
    assert len((repository / "runs" / IGNORE).read_text().splitlines()) < 50
    ignore = Repo(str(repository)).dvcignore
    assert [path for path in listed if ignore.is_ignored_file(str(bundle / path))] == []
    assert [path for path in hidden if not ignore.is_ignored_file(str(bundle / path))] == []
    folders = ["checkpoints/step-00000006", "logs", "checkpoints/step-00000005.partial"]
    assert [path for path in folders if not ignore.is_ignored_dir(str(bundle / path))] == []
    assert not ignore.is_ignored_dir(str(bundle))
    assert not ignore.is_ignored_file(str(repository / "runs" / "demo-2" / "run.json"))


def test_lines_of_others_stay_and_those_of_bundles_that_are_gone_do_not(tmp_path: Path) -> None:
    for run in ("demo-1", "demo-10", "demo-2"):
        (tmp_path / run).mkdir()
    path = tmp_path / IGNORE
    path.write_text("*.tmp")
    first, second, third = (OpenPart(tmp_path / run) for run in ("demo-1", "demo-10", "demo-2"))
    first.hide(["run.json"])
    only_first = path.read_text()
    second.hide(["run.json"])
    third.hide(["run.json"])
    (tmp_path / "demo-2").rmdir()
    first.hide(["run.json", "a/b"])
    assert "!/demo-1/a/b\n" in path.read_text()
    assert "!/demo-10/run.json\n" in path.read_text()
    assert "demo-2" not in path.read_text()
    second.show()
    first.hide(["run.json"])
    assert path.read_text() == only_first
    first.show()
    assert path.read_text() == "*.tmp\n"
    path.unlink()
    first.hide([])
    first.show()
    assert not path.exists()


def _run_and_kill(repository: Path, *arguments: str) -> None:
    """Run `dvc` until its stage waits, then kill both."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments], cwd=repository, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    waiting = next(line for line in process.stdout if line.startswith("waiting"))
    os.kill(process.pid, signal.SIGKILL)
    os.kill(int(waiting.split()[1]), signal.SIGKILL)
    process.communicate()


def _files(bundle: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Which file each path is, under how many names and with which rights, and its content."""
    status = {path: (bundle / path).stat() for path in bundle_files(bundle)}
    return {
        path: (found.st_ino, found.st_nlink, found.st_mode, (bundle / path).read_bytes())
        for path, found in status.items()
    }
