"""What the chains, events, schemas and captured files say, where the manifest alone would be content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import bundles
from helpers.bundles import RunBuilder
from helpers.records import captured_files, config_with
from helpers.tampering import edit_json, overwrite, reseal

from recorder.bundle import layout
from recorder.bundle.verify import verify_bundle
from recorder.canonical import readable_json
from recorder.ledger import events

Copy = Callable[[str], Path]


def found(path: Path) -> list[tuple[str, str]]:
    return [(finding.file, finding.kind) for finding in verify_bundle(path).findings]


def notes(path: Path) -> str:
    return "\n".join(verify_bundle(path).notes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_counts_what_it_looked_at(made: dict[str, Path]) -> None:
    counts = verify_bundle(made["finished"]).counts
    assert {name: counts[name] for name in ("attempts", "checkpoints", "rows", "steps")} == {
        "attempts": 1,
        "checkpoints": 2,
        "rows": 12,
        "steps": 12,
    }
    assert counts["files"] == len([path for path in made["finished"].rglob("*") if path.is_file()]) - 1


def test_progress_reaches_the_end(made: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    verify_bundle(made["finished"], quick=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == verify_bundle(made["finished"], quick=True).counts["bytes"]


@pytest.mark.parametrize("key", ["config_digest", "source_digest"])
def test_a_worker_that_used_something_else_is_found(root: Path, key: str) -> None:
    builder = RunBuilder(root).create().join(**{key: "0" * 64}).steps(1, 2)
    file = layout.RESOLVED_CONFIG if key == "config_digest" else layout.SOURCE_ARCHIVE
    assert found(builder.close()) == [(file, "config")] * 2


def test_a_further_attempt_is_held_against_its_own_config(root: Path) -> None:
    builder = bundles.killed_builder(root).resume(config_with(cluster__workers=1)).restored(5).join()
    path = builder.steps(6, 12).close()
    assert (path / layout.version(layout.RESOLVED_CONFIG, 2)).is_file()
    assert found(path) == []


def test_a_config_that_is_not_plain_is_found(root: Path) -> None:
    files = captured_files(config_with()) | {layout.RESOLVED_CONFIG: b"a: !!python/object:os.system {}\n"}
    path = RunBuilder(root, files=files).create().join().steps(1, 1).close()
    assert (layout.RESOLVED_CONFIG, "config") in found(path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (layout.RUN, {"created": "yesterday"}),
        (layout.DATASET, {"inputs": [{"path": "a.txt"}]}),
        (layout.SOURCE, {"files": 3}),
        (layout.PACKAGES, {"packages": [{}]}),
        (layout.node_file("node-a"), {"system": []}),
        ("checkpoints/step-00000012/state.json", {"format": 2}),
    ],
)
def test_json_that_is_not_as_its_schema_says_is_found(copy_of: Copy, name: str, change: dict[str, Any]) -> None:
    path = copy_of("finished")
    edit_json(path / name, lambda value: value.update(change))
    reseal(path)
    assert (name, "schema") in found(path)


def test_a_manifest_that_is_not_as_its_schema_says_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    edit_json(path / layout.MANIFEST, lambda manifest: manifest.update(sealed="now"))
    reseal(path)
    assert (layout.MANIFEST, "schema") in found(path)


def test_a_malformed_event_is_found_and_one_of_an_unknown_type_is_not(root: Path) -> None:
    builder = RunBuilder(root).create().join().steps(1, 1)
    builder.run.event(events.WORKER_LOST, rank=0)
    builder.run.event("note", files=[1, 2], text="hello")
    assert found(builder.close()) == [("ledger/0001.jsonl", "schema")]


def test_an_unrecorded_checkpoint_is_found_in_a_sealed_bundle(copy_of: Copy) -> None:
    path = copy_of("finished")
    bundles.write_checkpoint(path / layout.checkpoint_folder(7), 7)
    reseal(path)
    assert found(path) == [(layout.checkpoint_folder(7), "checkpoint")]


def test_in_an_open_bundle_the_event_of_a_checkpoint_may_not_have_come(root: Path) -> None:
    path = RunBuilder(root).create().join().steps(1, 5).checkpoint(5, announce=False).kill()
    assert found(path) == []
    assert layout.checkpoint_folder(5) in notes(path)


def test_a_removed_checkpoint_that_is_there_again_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    bundles.write_checkpoint(path / layout.checkpoint_folder(5), 5)
    reseal(path)
    assert found(path) == [(layout.checkpoint_folder(5), "checkpoint")]


def test_a_missing_and_an_added_file_of_a_checkpoint_are_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    folder = layout.checkpoint_folder(12)
    (path / folder / layout.CHECKPOINT_MODEL).unlink()
    (path / folder / "scheduler.bin").write_bytes(b"x")
    reseal(path)
    assert found(path) == [
        (f"{folder}/{layout.CHECKPOINT_MODEL}", "checkpoint"),
        (f"{folder}/scheduler.bin", "checkpoint"),
    ]


def test_a_checkpoint_whose_state_is_not_that_of_its_step_is_found(root: Path) -> None:
    builder = RunBuilder(root).create().join().steps(1, 12, fingerprint="f" * 16).checkpoint(12)
    assert found(builder.close()) == [("checkpoints/step-00000012/state.json", "checkpoint")]


def test_a_log_that_lost_a_line_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    log = path / layout.log_file(1, "rank-0")
    overwrite(log, log.read_bytes().splitlines(keepends=True)[0])
    reseal(path)
    assert found(path) == [(layout.log_file(1, "rank-0"), "event")]


def test_a_log_that_gained_a_line_after_it_was_closed_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    log = path / layout.log_file(1, "rank-0")
    overwrite(log, log.read_bytes() + b"2026-09-21T14:13:20.000000Z stdout invented\n")
    reseal(path)
    assert found(path) == [(layout.log_file(1, "rank-0"), "event")]


def test_the_seals_of_a_resumed_run_are_chained(copy_of: Copy) -> None:
    path = copy_of("continued")
    seal = layout.archived_seal(1)
    edit_json(path / layout.MANIFEST, lambda manifest: manifest.update(previous_root=None))
    reseal(path)
    assert found(path) == [(layout.MANIFEST, "seal")]

    path = copy_of("continued")
    edit_json(path / seal, lambda manifest: manifest.update(outcome="finished"))
    reseal(path)
    assert (seal, "seal") in found(path)

    path = copy_of("continued")
    (path / seal).unlink()
    reseal(path)
    assert {kind for _, kind in found(path)} == {"seal"}


def test_what_was_sealed_once_stays_as_it_was(copy_of: Copy) -> None:
    """Even for one who rewrites the newer seal: the older one may have been signed or sent to someone."""
    path = copy_of("continued")
    name = layout.SOURCE_PATCH
    overwrite(path / name, b"another patch\n")
    reseal(path)
    assert (name, "seal") in found(path)


def test_a_run_sealed_then_killed_then_resumed_is_consistent(root: Path) -> None:
    builder = RunBuilder(root).create().join().steps(1, 5).checkpoint(5)
    builder.close("interrupted")
    builder.resume().restored(5).join().steps(6, 8).kill()
    path = builder.resume().restored(5).join().steps(6, 12).close()
    assert found(path) == []
    assert verify_bundle(path).counts["attempts"] == 3


def test_gaps_that_are_stated_are_notes(root: Path) -> None:
    builder = bundles.killed_builder(root)
    for spool in sorted(builder.spools.rglob("*.spool")):
        spool.write_bytes(spool.read_bytes()[:-9])
    path = builder.resume().restored(5).join().steps(6, 12).close()
    assert found(path) == []
    assert "rank-0.0.spool" in notes(path)


def test_a_bundle_without_run_json_is_a_finding_and_no_traceback(copy_of: Copy) -> None:
    path = copy_of("finished")
    (path / layout.RUN).unlink()
    assert (layout.RUN, "missing") in found(path)
    reseal_without_run = {"format": 1, "files": "none"}
    overwrite(path / layout.MANIFEST, readable_json(reseal_without_run))
    assert {kind for _, kind in found(path)} >= {"manifest", "missing"}
