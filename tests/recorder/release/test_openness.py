from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import finished
from helpers.records import captured_files, config_with, dataset_record
from helpers.releases import contents_of

from recorder.bundle import layout
from recorder.canonical import readable_json
from recorder.release.contents import Contents
from recorder.release.export import Exported
from recorder.release.openness import MISSING, PRESENT, UNLICENSED, openness, openness_json
from recorder.release.statement import parse_statement

LICENCES = {"model": "Apache-2.0", "code": "Apache-2.0", "documents": "CC-BY-4.0"}
PAPER, REPORT, CARD = "https://example.org/paper", "https://example.org/report", "https://example.org/data"
ALL: dict[str, Any] = {"licences": LICENCES, "research_paper": PAPER, "technical_report": REPORT, "data_card": CARD}


def release(tmp_path: Path, stated: dict[str, Any], *, exported: bool = True, **values: Any) -> Contents:
    """A release of a run on generated data; all but a paper, a report and licences are there."""
    source = {"kind": "stories", "generator": "stories", "seed": 1, "version": 1}
    files = captured_files(config_with()) | {layout.DATASET: readable_json(dataset_record() | {"source": source})}
    folder = tmp_path / "release"
    folder.mkdir()
    if exported:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        values["exported"] = Exported("demo-1", 12, "checkpoints/step-00000012", ("config.json", "model.safetensors"))
    bundle = finished(tmp_path / "runs", files=files)
    return contents_of(folder, bundle, statement=parse_statement(stated), **values)


def statuses(contents: Contents) -> dict[str, str]:
    return {item.name: item.status for item in openness(contents).components}


def test_with_everything_it_is_open_science(tmp_path: Path) -> None:
    found = openness(release(tmp_path, ALL))
    assert found.reached == 1
    assert [found.missing(mof_class) for mof_class in (3, 2, 1)] == [[], [], []]
    assert {item.status for item in found.components if item.required} == {PRESENT}


@pytest.mark.parametrize(
    ("without", "reached", "missing"),
    [
        ("research_paper", 2, ["Research paper"]),
        ("technical_report", 1, []),  # the paper stands in for it
        ("data_card", None, ["Data card"]),
    ],
)
def test_what_is_lacking_decides(tmp_path: Path, without: str, reached: int | None, missing: list[str]) -> None:
    found = openness(release(tmp_path, {key: value for key, value in ALL.items() if key != without}))
    assert (found.reached, found.missing(1)) == (reached, missing)


def test_without_report_and_paper_no_class_is_reached(tmp_path: Path) -> None:
    found = openness(release(tmp_path, {"licences": LICENCES, "data_card": CARD}))
    assert (found.reached, found.missing(3)) == (None, ["Technical report"])


def test_without_licences_nothing_counts_that_needs_one(tmp_path: Path) -> None:
    found = statuses(release(tmp_path, {"research_paper": PAPER}))
    assert found["Model architecture"] == found["Model card"] == found["Model parameters (final)"] == UNLICENSED
    assert found["Data card"] == MISSING
    assert found["Datasets"] == PRESENT, "the data's licence is in the record"


def test_a_licence_that_is_not_known_as_open_does_not_count(tmp_path: Path) -> None:
    found = openness(release(tmp_path, ALL | {"licences": LICENCES | {"model": "CC-BY-NC-4.0"}}))
    assert found.reached is None
    assert found.missing(3) == ["Model parameters (final)"]


def test_without_an_export_there_are_no_final_weights_to_run(tmp_path: Path) -> None:
    found = openness(release(tmp_path, ALL, exported=False))
    assert found.missing(3) == ["Model parameters (final)"]
    assert "Inference code" in found.missing(2)


@pytest.mark.parametrize(
    ("withheld", "components"),
    [
        ("source.tar.gz", {"Model architecture", "Training code", "Evaluation code", "Evaluation data", "Datasets"}),
        ("dataset.json", {"Evaluation data", "Datasets"}),
        ("step-00000010/model.safetensors", {"Model parameters (intermediate)"}),
        (".jsonl", {"Evaluation results", "Evaluation code"}),
    ],
)
def test_what_is_withheld_is_missing(tmp_path: Path, withheld: str, components: set[str]) -> None:
    whole = release(tmp_path, ALL)
    less = {path: record for path, record in whole.files.items() if not path.endswith(withheld)}
    assert less.keys() < whole.files.keys()
    found = statuses(Contents(whole.bundles, less, whole.created, whole.statement, whole.exported))
    assert components <= {name for name, status in found.items() if status == MISSING}


def test_evidence_is_in_the_release_or_stated(tmp_path: Path) -> None:
    contents = release(tmp_path, ALL)
    evidence = {path for item in openness(contents).components for path in item.evidence}
    assert evidence <= contents.files.keys() | {PAPER, REPORT, CARD, "README.md"}


def test_the_file_has_components_and_class(tmp_path: Path) -> None:
    contents = release(tmp_path, ALL)
    document = json.loads(openness_json(contents))
    assert (document["class"], document["class_name"]) == (1, "Class I, open science")
    assert [item["name"] for item in document["components"]] == [item.name for item in openness(contents).components]
    assert len(document["components"]) == 17
