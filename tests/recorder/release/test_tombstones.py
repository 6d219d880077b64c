"""What is taken out of a published copy leaves a tombstone, also when the taking is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import bundles

from recorder.bundle.addenda import read_addenda
from recorder.bundle.files import digest_file
from recorder.bundle.verify import verify_bundle
from recorder.errors import UsageError
from recorder.release.redaction import redact
from recorder.release.secrets.names import recorded_names
from recorder.release.tombstones import withhold, withhold_checkpoint


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    bundle = bundles.finished(tmp_path / "runs")
    redact(bundle, tmp_path / "out", names=recorded_names(bundle), key=bytes(32))
    return tmp_path / "out"


def test_a_removed_checkpoint_leaves_tombstones_and_the_rest_verifies(copy: Path) -> None:
    digests = digest_file(copy / "checkpoints/step-00000010/model.safetensors")
    names = withhold_checkpoint(copy, 10, "superseded", clock=lambda: 1.79e9)
    assert not (copy / "checkpoints/step-00000010").exists()
    report = verify_bundle(copy)
    assert report.findings == ()
    assert any("checkpoints/step-00000010/model.safetensors" in note and "superseded" in note for note in report.notes)
    stones = read_addenda(copy)[1].fields["tombstones"]
    assert [stone["path"] for stone in stones] == names
    assert stones[0] == {
        "path": "checkpoints/step-00000010/model.safetensors",
        **digests.record(),
        "reason": "superseded",
        "date": "2026-09-21",
    }


def test_an_edited_file_is_buried_with_the_digest_it_was_recorded_with(copy: Path) -> None:
    withhold(copy, ["environment"], "too much")
    assert verify_bundle(copy).findings == ()


def test_several_removals_are_one_chain(copy: Path) -> None:
    withhold_checkpoint(copy, 10, "one")
    withhold(copy, ["logs"], "two")
    assert withhold_checkpoint(copy, 12, "three") != []
    assert [addendum.record["number"] for addendum in read_addenda(copy)] == [1, 2, 3, 4]
    assert verify_bundle(copy).findings == ()


def test_a_call_that_was_cut_off_is_a_finding_until_it_is_finished(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            withhold_checkpoint(copy, 10, "superseded")
    assert {finding.kind for finding in verify_bundle(copy).findings} == {"addendum"}
    assert withhold_checkpoint(copy, 10, "superseded") == []
    assert verify_bundle(copy).findings == ()
    assert len(read_addenda(copy)) == 2


def test_a_file_that_comes_back_or_goes_without_a_word_is_a_finding(copy: Path) -> None:
    kept = (copy / "checkpoints/step-00000010/state.json").read_bytes()
    withhold_checkpoint(copy, 10, "superseded")
    (copy / "checkpoints/step-00000010").mkdir()
    (copy / "checkpoints/step-00000010/state.json").write_bytes(kept)
    assert "addendum" in {finding.kind for finding in verify_bundle(copy).findings}
    (copy / "checkpoints/step-00000010/state.json").unlink()
    (copy / "checkpoints/step-00000012/state.json").unlink()
    assert {finding.file for finding in verify_bundle(copy).findings} == {"checkpoints/step-00000012/state.json"}
    [missing] = verify_bundle(copy, quick=True).findings
    assert (missing.kind, missing.file) == ("missing", "checkpoints/step-00000012/state.json")


@pytest.mark.parametrize(
    "path", ["ledger", "run.json", "bundle.json", "metrics", "addenda", "nothing", ".", "/", "../x"]
)
def test_what_cannot_go_is_refused_and_nothing_has_gone(path: str, copy: Path) -> None:
    before = sorted(copy.rglob("*"))
    with pytest.raises(UsageError, match="cannot be withheld"):
        withhold(copy, ["logs", path], "why")
    assert sorted(copy.rglob("*")) == before
