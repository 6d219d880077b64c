"""A checkpoint is taken back from a published release: tombstones stay, and a killed call is gone on with."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import killed
from helpers.kill_points import run_until_killed
from helpers.private_runs import HOST, private_model, token
from helpers.publishing import Keys, Open, Recorder, content, make_key, publish
from helpers.releases import STATED

from recorder.bundle.files import digest_file
from recorder.bundle.verify import verify_bundle
from recorder.errors import BundleError, UsageError
from recorder.release import withdraw as withdrawing
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Destination
from recorder.release.destinations.s3 import S3Prefix
from recorder.release.get import get_release
from recorder.release.manifest import RELEASE, SIGNATURE, record_file
from recorder.release.publish import release_runs
from recorder.release.selection import Selection
from recorder.release.verify_release import read_release, verify_release
from recorder.release.withdraw import Withdrawn, withdraw
from recorder.release.withdrawal import Withdrawal
from recorder.release.work import FOLDER, Request, Work

REASON = "trained on what was not ours"
EVERY = 31  # one change of the file system in so many is tried


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A folder with `runs/` of a model after steps 2 and 4, and `out/`, its signed release with a statement."""
    folder = tmp_path_factory.mktemp("shelf")
    private_model(folder / "runs")
    (folder / "said.yaml").write_text(json.dumps(STATED))
    request = Request(folder / "runs", (folder / "runs/demo-1",), key=keys.private, statement=folder / "said.yaml")
    release_runs(request, Folder(folder / "out"))
    return folder


@pytest.fixture
def lab(shelf: Path, tmp_path: Path) -> Path:
    """A copy of it, without what the release was made from but for the runs."""
    copy = Path(shutil.copytree(shelf, tmp_path / "lab"))
    shutil.rmtree(copy / "runs" / FOLDER)
    return copy


def asked(lab: Path, step: int, key: Path | None, url: str = "out", **values: Any) -> Withdrawal:
    return Withdrawal(lab / "work", (), key=key, url=url, step=step, reason=REASON, **values)


def put_all(folder: Path, place: Destination) -> None:
    """Put the release in `folder` as it is."""
    for path in content(folder):
        place.put(path, folder / path, record_file(folder / path))


def take(lab: Path, step: int, keys: Keys, place: Any = None) -> Withdrawn:
    place = place or Folder(lab / "out")
    return withdraw(asked(lab, step, keys.private, place.url), place)


@pytest.mark.parametrize("opened", ["folder", "s3"], indirect=True)
def test_the_checkpoint_is_gone_and_all_else_stands(opened: Open, lab: Path, keys: Keys, tmp_path: Path) -> None:
    place = opened()
    put_all(lab / "out", place)
    before = content(lab / "out")
    old = read_release(opened())
    done = take(lab, 2, keys, opened())
    assert done.report is not None
    assert done.report.ok
    assert verify_release(opened(), str(keys.public)).anchored
    got = tmp_path / "got"
    get_release(opened(), got, Selection())
    assert verify_release(Folder(got), str(keys.public)).anchored
    after = content(got)
    assert not [path for path in opened().list() if "step-00000002" in path]
    assert set(before) - set(after) == set(done.removed)
    assert {path.rpartition("/")[0] for path in done.removed} == {
        "checkpoints/step-00000002",
        "runs/demo-1/checkpoints/step-00000002",
    }
    changed = {path for path in after if before.get(path) != after[path]}
    [addendum] = [path for path in changed if path not in before]
    anew = {"README.md", "report.html", "ro-crate-metadata.json", RELEASE, SIGNATURE}
    assert addendum.startswith("runs/demo-1/addenda/0002-tombstones")
    assert changed - anew - {"openness.json", "CITATION.cff"} == {addendum}
    assert after["model.safetensors"] == before["model.safetensors"]
    new = read_release(opened())
    [superseded] = new.superseded
    assert (superseded["previous_root"], superseded["checkpoint"], superseded["reason"]) == (old.root, 2, REASON)
    assert superseded["date"] == new.document["created"][:10]
    assert new.runs == old.runs


def test_the_tombstones_have_what_was_recorded_and_everything_says_so(lab: Path, keys: Keys) -> None:
    take(lab, 2, keys)
    stones = [stone for stone in read_release(Folder(lab / "out")).document["withheld"] if stone["reason"] == REASON]
    folder = lab / "runs/demo-1/checkpoints/step-00000002"
    assert [stone["path"] for stone in stones] == [
        f"checkpoints/{folder.name}/{path.name}" for path in sorted(folder.iterdir())
    ]
    for stone in stones:
        recorded = digest_file(lab / "runs/demo-1" / stone["path"]).record()
        assert {key: stone[key] for key in recorded} == recorded
    report = verify_bundle(lab / "out/runs/demo-1")
    assert report.findings == ()
    assert any(REASON in note for note in report.notes)
    card = (lab / "out/README.md").read_text()
    assert card.count(REASON) == len(stones)
    assert "step-00000002/model.safetensors)" not in card
    assert REASON in (lab / "out/report.html").read_text()
    assert "A demonstration of" in card, "what was stated is kept"
    assert HOST.encode() not in b"".join(data for path, data in content(lab / "out").items() if path.endswith(".md"))


def test_with_the_newest_checkpoint_the_model_at_the_top_is_the_one_before(lab: Path, keys: Keys) -> None:
    before = content(lab / "out")
    done = take(lab, 4, keys)
    after = content(lab / "out")
    weights = "runs/demo-1/checkpoints/step-0000000{}/model.safetensors"
    assert after["model.safetensors"] == before[weights.format(2)]
    assert before[weights.format(4)] not in after.values()
    assert "model.safetensors" in done.put
    card = after["README.md"].decode()
    assert "demo-1, step 2" in card
    assert "demo-1, step 4" not in card


def test_with_the_last_checkpoint_no_model_is_left_and_each_root_is_known(lab: Path, keys: Keys) -> None:
    first = read_release(Folder(lab / "out")).root
    take(lab, 4, keys)
    second = read_release(Folder(lab / "out")).root
    take(lab, 2, keys)
    left = set(content(lab / "out"))
    assert not [path for path in left if "safetensors" in path or path.startswith("checkpoints/")]
    assert not left & {"config.json", "generation_config.json", "tokenizer.json"}
    assert "This release holds no export" in (lab / "out/README.md").read_text()
    new = read_release(Folder(lab / "out"))
    assert [one["previous_root"] for one in new.superseded] == [first, second]
    assert verify_release(Folder(lab / "out"), str(keys.public)).anchored
    for root in (first, second):
        report = verify_release(Folder(lab / "out"), root)
        [found] = report.findings
        assert not report.anchored
        assert "which it says was superseded on" in found.reason
        assert REASON in found.reason


def test_only_who_signed_it_may_sign_what_follows(lab: Path, keys: Keys, tmp_path: Path) -> None:
    before = content(lab / "out")
    with pytest.raises(UsageError, match="was signed with a key: name it with --key"):
        withdraw(asked(lab, 2, None), Folder(lab / "out"))
    other = make_key(tmp_path / "other.pem")
    with pytest.raises(BundleError, match="was made with another key.*nothing was withdrawn"):
        withdraw(asked(lab, 2, other), Folder(lab / "out"))
    (lab / "out/more.txt").write_text("x")
    with pytest.raises(BundleError, match=r"does not verify \(more\.txt: .*nothing was withdrawn"):
        take(lab, 2, keys)
    (lab / "out/more.txt").unlink()
    assert content(lab / "out") == before
    publish(lab, lab / "unsigned")
    with pytest.raises(UsageError, match="was signed by nobody: leave --key and --sigstore out"):
        take(lab, 2, keys, Folder(lab / "unsigned"))
    assert withdraw(asked(lab, 2, None), Folder(lab / "unsigned")).report is not None


def test_what_somebody_else_signed_in_your_name_is_not_signed_by_you(lab: Path, keys: Keys, tmp_path: Path) -> None:
    """The hint of a signature is not signed: it says whose key it is, and may lie."""
    own = json.loads((lab / "out" / SIGNATURE).read_bytes())["verificationMaterial"]["publicKey"]["hint"]
    publish(lab, lab / "forged", key=make_key(tmp_path / "other.pem"))
    forged = json.loads((lab / "forged" / SIGNATURE).read_bytes())
    forged["verificationMaterial"]["publicKey"]["hint"] = own
    (path := lab / "forged" / SIGNATURE).unlink()
    path.write_text(json.dumps(forged))
    with pytest.raises(BundleError, match="is not a valid signature.*nothing was withdrawn"):
        take(lab, 2, keys, Folder(lab / "forged"))


def test_killed_anywhere_it_is_gone_on_with(lab: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawing, "Work", partial(Work, clock=lambda: 1.79e9))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    before, roots = content(lab / "out"), {read_release(Folder(lab / "out")).root}

    def prepare() -> None:
        shutil.rmtree(lab / "work", ignore_errors=True)
        shutil.rmtree(lab / "out")
        for path, data in before.items():
            (lab / "out" / path).parent.mkdir(parents=True, exist_ok=True)
            (lab / "out" / path).write_bytes(data)

    def body() -> None:
        take(lab, 4, keys)

    def files() -> dict[str, bytes]:
        found = content(lab / "out")
        assert found.pop(SIGNATURE)
        return found

    prepare()
    body()
    expected = files()
    roots.add(read_release(Folder(lab / "out")).root)
    prepare()
    changes = run_until_killed(body, None)
    assert changes is not None
    open_ended = 0
    for at in range(1, changes, EVERY):
        prepare()
        assert run_until_killed(body, at) is None
        if (lab / "out" / RELEASE).exists():
            assert read_release(Folder(lab / "out")).root in roots
            assert verify_release(Folder(lab / "out"), str(keys.public)).anchored
        else:
            open_ended += 1
        body()
        assert files() == expected, at
        assert verify_release(Folder(lab / "out"), str(keys.public)).anchored
    assert open_ended >= 2


class Cut(S3Prefix):
    """A bucket that is out of reach from its change number `left` on."""

    left = 0

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError

    def put(self, *arguments: Any, **options: Any) -> None:
        self._count()
        super().put(*arguments, **options)

    def remove(self, path: str) -> None:
        self._count()
        super().remove(path)


def test_cut_off_at_any_change_of_a_bucket_it_is_gone_on_with(bucket: str, lab: Path, keys: Keys) -> None:
    for at in (0, 4, 13):
        shutil.rmtree(lab / "work", ignore_errors=True)
        place = Cut(f"{bucket}/{at}")
        place.left = 1000
        put_all(lab / "out", place)
        place.left = at
        with pytest.raises(ConnectionError):
            take(lab, 4, keys, place)
        assert (RELEASE in place.list()) == (at == 0)
        place.left = 1000
        take(lab, 4, keys, place)
        assert verify_release(place, str(keys.public)).anchored
        assert not [path for path in place.list() if "step-00000004" in path]


def test_a_bucket_that_keeps_versions_is_told_of(bucket: str, lab: Path, keys: Keys) -> None:
    place = S3Prefix(bucket)
    place._client.create_bucket(Bucket="versioned")
    place._client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    versioned = S3Prefix("s3://versioned/demo")
    put_all(lab / "out", versioned)
    stays = take(lab, 2, keys, versioned).stays
    assert stays is not None
    assert "s3://versioned/demo keeps versions of objects: delete the old ones" in stays
    assert place.what_stays() is None


def test_who_fetched_it_before_follows(lab: Path, keys: Keys) -> None:
    get_release(Folder(lab / "out"), lab / "got", Selection())
    (own := lab / "got/runs/demo-1/checkpoints/step-00000002/model.safetensors").chmod(0o644)
    kept = own.read_bytes()
    own.write_bytes(b"mine")
    take(lab, 2, keys)
    with pytest.raises(UsageError, match="is not the file of the release: move it away"):
        get_release(Folder(lab / "out"), lab / "got", Selection())
    assert own.read_bytes() == b"mine"
    own.write_bytes(kept)
    fetched = get_release(Folder(lab / "out"), lab / "got", Selection())
    assert fetched.superseded is not None
    assert REASON in fetched.superseded
    assert content(lab / "got") == content(lab / "out")
    assert get_release(Folder(lab / "out"), lab / "got", Selection()).superseded is None


def test_following_is_gone_on_with_when_it_was_killed(lab: Path, keys: Keys) -> None:
    get_release(Folder(lab / "out"), lab / "first", Selection())
    take(lab, 2, keys)
    expected = content(lab / "out")

    def body() -> None:
        get_release(Folder(lab / "out"), lab / "got", Selection())

    at = 1
    while True:
        shutil.rmtree(lab / "got", ignore_errors=True)
        shutil.copytree(lab / "first", lab / "got")
        if run_until_killed(body, at) is not None:
            break
        body()
        assert content(lab / "got") == expected, at
        at += EVERY
    assert at > 20


def test_what_was_withdrawn_is_not_published_again(lab: Path, keys: Keys) -> None:
    take(lab, 2, keys)
    request = Request(lab / "runs", (lab / "runs/demo-1",), key=keys.private, statement=lab / "said.yaml")
    # As if the release were made once more, to the byte.
    old = read_release(Folder(lab / "out")).superseded[0]["previous_root"]
    made = content(lab / "out")
    with pytest.raises(UsageError, match="holds (what followed this release|another release)"):
        release_runs(request, Folder(lab / "out"))
    assert content(lab / "out") == made
    from recorder.release.upload import compare

    class Old:
        root, files = old, {}

    with pytest.raises(UsageError, match=f"holds what followed this release, which was superseded on .*{REASON}"):
        compare(Folder(lab / "out"), Old(), {})  # type: ignore[arg-type]


def test_the_command(recorder: Recorder, lab: Path, keys: Keys) -> None:
    before = content(lab / "out")
    command = ["withdraw", "out", "--checkpoint", "4", "--reason", f" {REASON} \n", "--key", str(keys.private)]
    planned = recorder(*command, "--dry-run")
    assert (planned.code, planned.err) == (0, "")
    assert "would be deleted or replaced at out: " in planned.out
    assert "  model.safetensors" in planned.out
    assert "runs/demo-1/checkpoints/step-00000004/optimizer.safetensors" in planned.out
    assert content(lab / "out") == before
    done = json.loads(recorder(*command, "--json").out)
    assert (done["ok"], done["withdrawn"], done["before"]) == (True, True, None)
    assert done["previous_root"] == json.loads(before[RELEASE])["root"]
    assert "runs/demo-1/checkpoints/step-00000004/optimizer.safetensors" in done["removed"]
    again = recorder(*command)
    assert (again.code, f"this checkpoint was withdrawn before, on {lab_date(lab)}: {REASON}" in again.out) == (0, True)
    assert recorder("verify", "out", "--anchor", str(keys.public)).code == 0
    shown = recorder(*[*command[:3], "2", *command[4:]])
    assert shown.code == 0
    assert "deleted  runs/demo-1/checkpoints/step-00000002/model.safetensors" in shown.out
    assert shown.out.splitlines()[-1].startswith("withdrawn: out, root ")
    assert not list((lab / "runs" / FOLDER).glob("withdraw-*"))


def lab_date(lab: Path) -> str:
    return str(read_release(Folder(lab / "out")).superseded[0]["date"])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["out", "--checkpoint", "3"], 2, "demo-1 has no checkpoint of step 3 in the release; it has: 2, 4"),
        (["out", "--checkpoint", "2", "--run", "demo-2"], 2, "has no run 'demo-2'; it has: demo-1"),
        (["nowhere", "--checkpoint", "2"], 2, "there is no release at nowhere"),
        (["https://example.org/x", "--checkpoint", "2"], 2, "name the folder or the bucket behind it"),
        (["hf://lab/demo", "--checkpoint", "2"], 2, "nothing can be withdrawn from the Hub by this command yet"),
        (["dvc://store/demo", "--checkpoint", "2"], 2, "call `dvc gc -c`"),
        (["ftp://x/y", "--checkpoint", "2"], 2, "is no place of a release"),
        (["part", "--checkpoint", "2"], 2, "is a part that was fetched of a release"),
        (["out"], 2, "the following arguments are required: --checkpoint"),
    ],
)
def test_a_mistake_is_one_line(
    recorder: Recorder, lab: Path, keys: Keys, arguments: list[str], code: int, told: str
) -> None:
    recorder("get", "out", "--only", "metrics", "--out", "part")
    before = content(lab / "out")
    said = recorder("withdraw", *arguments, "--reason", REASON, "--key", str(keys.private))
    assert (said.code, said.err.count("\n")) == (code, 1)
    assert told in said.err
    assert content(lab / "out") == before


def test_of_several_runs_the_one_that_is_named(recorder: Recorder, lab: Path) -> None:
    from helpers.bundles import finished

    finished(lab / "runs", "demo-2")
    assert recorder("release", "demo-1", "demo-2", "--to", "both").code == 0
    command = ["withdraw", "both", "--checkpoint", "10", "--reason", REASON]
    assert "has several runs (demo-1, demo-2): say which with --run ID" in recorder(*command).err
    assert recorder(*command, "--run", "demo-2").code == 0
    assert not (lab / "both/runs/demo-2/checkpoints/step-00000010").exists()
    assert recorder("verify", "both").code == 0
    assert recorder("withdraw", "both", "--checkpoint", "2", "--reason", "", "--run", "demo-1").code == 2


def test_a_run_that_was_published_without_a_seal_stays_marked_so(lab: Path) -> None:
    killed(lab / "runs", "killed-1")
    publish(lab, lab / "open", "killed-1", as_is=True)
    withdraw(asked(lab, 5, None, "open"), Folder(lab / "open"))
    report = verify_release(Folder(lab / "open"))
    assert (report.ok, report.state) == (True, "released as is")
    stones = read_release(Folder(lab / "open")).document["withheld"]
    for stone in stones:
        recorded = digest_file(lab / "runs/killed-1" / stone["path"]).record()
        assert {key: stone[key] for key in recorded} == recorded
    assert len(stones) == 3
    assert "killed-1 is open: its run ended without a seal" in (lab / "open/README.md").read_text()


def test_a_release_of_an_earlier_version_needs_its_statement(lab: Path, keys: Keys) -> None:
    """It kept none; what was stated must not be lost without a word."""
    from recorder.release.manifest import build_release
    from recorder.release.signing import sign_release

    out = lab / "out"
    old = read_release(Folder(out))
    (out / "statement.json").unlink()
    (out / RELEASE).unlink()
    files = {path: record for path, record in old.files.items() if path != "statement.json"}
    kept = {key: old.document[key] for key in ("runs", "created", "withheld", "allowed", "as_is", "signed")}
    (out / RELEASE).write_bytes(build_release(files, **kept).data())
    sign_release(out, files, keys.private)
    before = content(out)
    with pytest.raises(UsageError, match="keeps no statement.json: name what was stated with --statement FILE"):
        take(lab, 2, keys)
    assert content(out) == before
    withdraw(asked(lab, 2, keys.private, statement=lab / "said.yaml"), Folder(out))
    assert "A demonstration of" in (out / "README.md").read_text()


def test_a_secret_in_the_reason_changes_nothing(lab: Path, keys: Keys) -> None:
    before = content(lab / "out")
    with pytest.raises(UsageError, match=r"a secret \(github-token\) stands in --reason, which is published"):
        withdraw(replace(asked(lab, 2, keys.private), reason=f"it knew {token().secret}"), Folder(lab / "out"))
    assert content(lab / "out") == before
