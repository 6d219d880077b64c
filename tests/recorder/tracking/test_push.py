from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.dvc_repositories import cached, dvc, git
from helpers.object_servers import Wire, add_s3_remote, s3_server
from helpers.recording import checked_events, of_type
from test_background import begun

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.bundle.verify import verify_bundle
from recorder.errors import UsageError
from recorder.ledger import events
from recorder.run import is_sealed
from recorder.tracking import push
from recorder.tracking.background import TrackingOptions, open_tracking
from recorder.tracking.dvc_repository import DvcRepository
from recorder.tracking.push import Pusher


class Watching:
    """Pushes, and tells a test what happens."""

    def __init__(self, repository: Path) -> None:
        self.events: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self.there: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.pusher = Pusher(repository, "store", self._record, self.there.put)

    def _record(self, type: str, **fields: Any) -> None:
        self.events.put((type, fields))


def stored(store: Path) -> set[str]:
    return {path.parent.name + path.name for path in (store / "files" / "md5").glob("??/*")}


def put_object(repository: Path, data: bytes) -> dict[str, int]:
    """An object of the cache."""
    source = repository / "source"
    source.write_bytes(data)
    digest = digest_file(source)
    target = DvcRepository(repository).object_path(digest.md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    target.chmod(0o444)
    return {digest.md5: digest.size}


@pytest.fixture
def store(repository: Path, tmp_path: Path) -> Path:
    """A remote in a folder."""
    dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def wire(repository: Path, tmp_path: Path) -> Iterator[Wire]:
    """A remote in an S3 server, and the wire to it."""
    with s3_server(tmp_path / "server.log") as port:
        wire = Wire(port)
        add_s3_remote(repository, wire.port)
        yield wire
        wire.close()


def test_a_run_is_on_the_remote_while_it_runs_and_whole_at_its_end(
    repository: Path, store: Path, tmp_path: Path
) -> None:
    builder, tracking = begun(repository, push="store")
    builder.steps(1, 5).checkpoint(5)
    tracking.finish()
    assert tracking._pusher is not None
    assert tracking._pusher.settle()["waiting"] == 0
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=in the open")
    git(tmp_path, "clone", "--quiet", str(repository), "while")
    dvc(tmp_path / "while", "pull", "--quiet")
    report = verify_bundle(tmp_path / "while" / "runs" / "demo-1")
    assert (report.state, report.findings, report.counts["checkpoints"]) == ("open", (), 1)
    bundle = builder.steps(6, 8).checkpoint(8).finish(8).close()
    ledger = checked_events(bundle)
    assert of_type(ledger, "push.started") == [{"remote": "store"}]
    (ended,) = of_type(ledger, "push.ended")
    assert (ended["remote"], ended["reason"]) == ("store", None)
    assert ended["objects"] + ended["waiting"] > 10
    assert "are not on the remote" not in "".join(tracking.said)
    assert cached(repository) <= stored(store)
    git(repository, "commit", "--quiet", "--all", "--message=at the end")
    git(tmp_path, "clone", "--quiet", str(repository), "after")
    dvc(tmp_path / "after", "pull", "--quiet")
    assert verify_bundle(tmp_path / "after" / "runs" / "demo-1").findings == ()


def test_a_dead_remote_neither_fails_training_nor_keeps_it(repository: Path, wire: Wire) -> None:
    wire.cut()
    builder, tracking = begun(repository, push="store")
    while "takes nothing for now" not in tracking.told.get(timeout=60):
        pass
    bundle = builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert verify_bundle(bundle).findings == ()
    ledger = checked_events(bundle)
    (failed,) = of_type(ledger, "push.failed")
    (ended,) = of_type(ledger, "push.ended")
    assert failed["remote"] == "store"
    assert ended["waiting"] >= failed["waiting"] > 0
    assert ended["reason"]
    assert "`dvc push --remote store runs/demo-1.dvc` sends them" in tracking.said[-1]
    wire.mend()
    dvc(repository, "push", "--quiet", "--remote", "store", "runs/demo-1.dvc")


def test_a_remote_that_dies_in_the_middle_of_an_upload(
    repository: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_FIRST_PAUSE", 0.05)
    watching = Watching(repository)
    first, second = put_object(repository, b"small"), put_object(repository, os.urandom(4 << 20))
    watching.pusher.add(first)
    assert watching.there.get(timeout=60) == next(iter(first))
    wire.cut_after = 1 << 20
    watching.pusher.add(second)
    type, fields = watching.events.get(timeout=60)
    assert (type, fields["waiting"]) == (events.PUSH_FAILED, 1)
    assert wire.was_cut.is_set()
    wire.mend()
    assert watching.there.get(timeout=60) == next(iter(second))
    assert watching.events.get(timeout=60) == (events.PUSH_RESUMED, {"remote": "store"})
    done = watching.pusher.settle()
    assert (done["objects"], done["waiting"], done["bytes"]) == (2, 0, 5 + (4 << 20))
    watching.pusher.stop()
    (name,) = second
    content = b"".join(DvcRepository(repository).remote("store").read(name))
    assert content == DvcRepository(repository).object_path(name).read_bytes()


def test_a_further_attempt_sends_only_what_is_missing(repository: Path, store: Path) -> None:
    objects = put_object(repository, b"one") | put_object(repository, b"two")
    first = Watching(repository).pusher
    first.add(objects)
    assert first.settle()["objects"] == 2
    first.stop()
    # Cut short on the remote, as a copy that was interrupted would be.
    cut = next(iter(objects))
    path = store / "files" / "md5" / cut[:2] / cut[2:]
    path.chmod(0o644)
    path.write_bytes(b"x")
    again = Watching(repository).pusher
    again.add(objects | put_object(repository, b"three"))
    done = again.settle()
    again.stop()
    assert (done["objects"], done["found"]) == (2, 1)
    assert stored(store) == cached(repository)
    assert path.read_bytes() == DvcRepository(repository).object_path(cut).read_bytes()


def test_a_directory_comes_after_what_it_lists(repository: Path, store: Path) -> None:
    watching = Watching(repository)
    (name,) = put_object(repository, b"[]")
    listing = DvcRepository(repository)
    listing.add_directory(f"{'0' * 32}.dir", b"[]")
    watching.pusher.add({f"{'0' * 32}.dir": 2, name: 2})
    assert [watching.there.get(timeout=60), watching.there.get(timeout=60)] == [name, f"{'0' * 32}.dir"]
    watching.pusher.stop()


def test_what_was_removed_before_its_turn_is_passed_over(repository: Path, store: Path) -> None:
    watching = Watching(repository)
    watching.pusher.add({"0" * 32: 3} | put_object(repository, b"one"))
    done = watching.pusher.settle()
    watching.pusher.stop()
    assert (done["gone"], done["objects"], done["waiting"]) == (1, 1, 0)


def test_what_was_removed_and_saved_again_has_another_turn(repository: Path, store: Path) -> None:
    watching = Watching(repository)
    ((name, size),) = put_object(repository, b"one").items()
    path = DvcRepository(repository).object_path(name)
    path.rename(repository / "aside")
    watching.pusher.add({name: size})
    assert watching.pusher.settle()["gone"] == 1
    (repository / "aside").rename(path)
    watching.pusher.add({name: size})
    done = watching.pusher.settle()
    watching.pusher.stop()
    assert (done["objects"], done["waiting"], stored(store)) == (1, 0, {name})


def test_removed_checkpoints_stay_in_the_cache_once_pushed(repository: Path, store: Path) -> None:
    builder, tracking = begun(repository, push="store")
    builder.run.writer.keep = 1
    builder.steps(1, 1).checkpoint(1)
    tracked = tracking.done.get(timeout=60)
    folder = layout.checkpoint_folder(1)
    while folder + "/state.json" not in tracked.entries:
        tracked = tracking.done.get(timeout=60)
    assert tracking._pusher is not None
    assert tracking._pusher.settle()["waiting"] == 0
    builder.steps(2, 2).checkpoint(2)
    builder.finish(2).close()
    assert tracked.entries[folder + "/state.json"].md5 in cached(repository) & stored(store)


class Slow:
    """A remote to which bytes go for ever, until it is let go."""

    def __init__(self, moves: bool) -> None:
        self.moves = moves
        self.began, self.let_go = threading.Event(), threading.Event()

    def size(self, name: str) -> None:
        return None

    def upload(self, name: str, source: Path, progress: Callable[[], None]) -> None:
        self.began.set()
        while not self.let_go.wait(0.01):
            if self.moves:
                progress()


@pytest.fixture(params=[True, False], ids=["moving", "standing"])
def slow(request: pytest.FixtureRequest, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """That remote instead of the store."""
    slow = Slow(request.param)
    monkeypatch.setattr(push, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(Pusher.__init__, "__defaults__", (lambda repository, name: slow,))
    yield slow
    slow.let_go.set()


def test_a_slow_remote_is_waited_for_after_the_seal_until_a_signal_comes(repository: Path, slow: Slow) -> None:
    sealed: list[bool] = []
    builder, tracking = begun(repository, push="store")

    def is_hurried() -> bool:
        """The signal comes once it was said what is left."""
        told = any("still go to the remote store; the run is sealed" in text for text in tracking.said)
        if told:
            sealed.append(is_sealed(builder.path))
        return told

    tracking.is_hurried = is_hurried
    bundle = builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert sealed
    assert all(sealed)
    assert "the run was told to stop, and did not wait for it; `dvc push --remote store " in tracking.said[-1]
    (ended,) = of_type(checked_events(bundle), "push.ended")
    assert ended["waiting"] > 0
    assert ended["reason"] is None


def test_a_slow_remote_is_not_waited_for_without_end(
    repository: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "_STALLED_SECONDS", 0.5)
    watching = Watching(repository)
    watching.pusher.add(put_object(repository, b"one"))
    assert slow.began.wait(60)
    left = watching.pusher.settle(0.1 if slow.moves else 60.0)
    assert left["waiting"] == 1
    assert left["reason"] == ("it takes longer than 0 s" if slow.moves else "nothing moved for 0 s")
    slow.let_go.set()
    watching.pusher.stop()


def test_a_remote_that_is_not_there_is_wrong_use(repository: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^DVC has no remote 'stroe'; it has: store\. `dvc remote add stroe URL` adds"
    ):
        open_tracking(repository / "runs", TrackingOptions(push="stroe"), print)
    with pytest.raises(UsageError, match=r"^recorder\.push=store needs tracking"):
        open_tracking(repository / "runs", TrackingOptions(False, "store"), print)
    with pytest.raises(UsageError, match=r"^recorder\.push=store, but .* is in no DVC repository"):
        open_tracking(tmp_path / "elsewhere", TrackingOptions(push="store"), print)
