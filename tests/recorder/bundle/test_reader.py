from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import bundles
from helpers.bundles import RunBuilder
from helpers.records import CONFIG, config_with
from helpers.tampering import overwrite

from recorder.bundle import layout
from recorder.bundle.glance import glance
from recorder.bundle.reader import Bundle
from recorder.errors import BundleError

Copy = Callable[[str], Path]


def test_states_and_outcomes(made: dict[str, Path], tmp_path: Path) -> None:
    told = {kind: (Bundle(path).state, Bundle(path).outcome) for kind, path in made.items()}
    assert told == {
        "finished": ("sealed", "finished"),
        "failed": ("sealed", "failed"),
        "killed": ("open", None),
        "resumed": ("sealed", "finished"),
        "continued": ("sealed", "finished"),
        "recovered": ("sealed", "finished"),
        "lost_node": ("sealed", "finished"),
        "differed": ("sealed", "finished"),
    }
    builder = RunBuilder(tmp_path / "runs").create()
    assert Bundle(builder.path).state == "running"
    builder.kill()


def test_attempts_have_a_beginning_and_an_end(made: dict[str, Path]) -> None:
    first, second = Bundle(made["resumed"]).attempts
    assert (first.number, first.outcome, first.host) == (1, "killed", "node-a")
    assert (second.number, second.outcome, second.command) == (2, "finished", "python train.py")
    assert second.ended is not None
    assert second.started < second.ended


def test_checkpoints_that_are_there_and_that_were(made: dict[str, Path]) -> None:
    told = [(found.step, found.removed) for found in Bundle(made["finished"]).checkpoints]
    assert told == [(5, "checkpoint.keep=2"), (10, None), (12, None)]
    sizes = [found.size for found in Bundle(made["finished"]).checkpoints]
    folder = made["finished"] / layout.checkpoint_folder(12)
    assert sizes[2] == sum(path.stat().st_size for path in folder.iterdir())


def test_the_row_that_counts_is_that_of_the_last_attempt(made: dict[str, Path]) -> None:
    series = Bundle(made["resumed"]).committed
    assert [row["step"] for row in series.rows] == list(range(1, 13))
    assert [row["attempt"] for row in series.rows] == [1] * 5 + [2] * 7
    assert [(row["step"], row["attempt"]) for row in series.superseded] == [(6, 1), (7, 1), (8, 1)]


def test_the_config_is_that_of_the_newest_attempt(tmp_path: Path) -> None:
    builder = bundles.killed_builder(tmp_path / "runs")
    assert Bundle(builder.path).config == CONFIG
    path = builder.resume(config_with(cluster__workers=7)).restored(5).join().steps(6, 12).close()
    assert Bundle(path).config["cluster"]["workers"] == 7


def test_documents_and_what_was_never_recorded(made: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle(made["finished"])
    dataset = bundle.document(layout.DATASET)
    assert dataset is not None
    assert dataset["licence"] == "CC0-1.0"
    assert list(bundle.nodes()) == ["node-a"]
    bare = Bundle(RunBuilder(tmp_path / "runs", files={}).create().close())
    assert (bare.config, bare.document(layout.SOURCE), bare.nodes(), bare.committed.rows) == ({}, None, {}, [])


def test_a_captured_path_never_leads_out_of_the_bundle(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    builder = RunBuilder(tmp_path / "runs", files={}).create()
    builder.run.event("attempt.started", previous_root=None, files={"../../outside.json": "0" * 64})
    assert Bundle(builder.close()).captured("../../outside.json") is None


def test_torn_tails_of_an_open_bundle(copy_of: Copy) -> None:
    path = copy_of("killed")
    assert Bundle(path).torn_tails() == []
    segment = layout.segments(path, layout.METRICS)[-1]
    overwrite(segment, segment.read_bytes() + b'{"st')
    assert Bundle(path).torn_tails() == [(segment.relative_to(path).as_posix(), 4)]
    assert len(Bundle(path).committed.rows) == 6


@pytest.mark.parametrize("name", [layout.RUN, layout.MANIFEST, "ledger/0001.jsonl", layout.DATASET])
def test_damage_is_one_clear_error(copy_of: Copy, name: str) -> None:
    path = copy_of("finished")
    overwrite(path / name, b"{\n")
    bundle = Bundle(path)
    with pytest.raises(BundleError, match=Path(name).name):
        _ = bundle.id, bundle.manifest, bundle.course, bundle.document(layout.DATASET)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        _ = Bundle(tmp_path).info


def test_a_glance_agrees_with_the_reader(made: dict[str, Path]) -> None:
    for path in made.values():
        seen, bundle = glance(path), Bundle(path)
        assert (seen.state, seen.outcome, seen.attempts) == (bundle.state, bundle.outcome, len(bundle.attempts))
        assert seen.last_step == bundle.committed.last_step
        assert seen.loss == bundle.committed.rows[-1]["loss"]
        assert seen.problem is None


def test_a_glance_is_not_misled_by_what_a_lost_worker_left(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2)
    builder.ranks[0].step(3, loss=9.0, step_seconds=0.1)
    path = builder.drain().lose(1).join(membership=1).steps(3, 6).checkpoint(6).close()
    assert [row["step"] for row in Bundle(path).rows()][-1] == 3
    assert (glance(path).last_step, glance(path).loss) == (6, bundles.step_values(6)["loss"])


def test_a_glance_at_something_damaged_says_so(copy_of: Copy) -> None:
    path = copy_of("finished")
    overwrite(path / layout.MANIFEST, b"{}\n")
    assert "bundle.json" in str(glance(path).problem)
    assert json.dumps(glance(path).record())
