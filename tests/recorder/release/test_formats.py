"""Each description before the program that its format's authors check it with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.bundles import continued, failed, finished, killed, resumed
from helpers.releases import bare_contents, contents_of, golden_contents, write
from helpers.validators import terms_without_definition, validate_citation, validate_crate, validate_croissant

from recorder.release.citation import citation
from recorder.release.licences import OPEN, for_citation
from recorder.release.ro_crate import ro_crate
from recorder.release.statement import parse_statement

Make = Callable[..., Path]


@pytest.mark.parametrize("make", [golden_contents, bare_contents], ids=["full", "bare"])
def test_the_crate_passes_the_validator(tmp_path: Path, make: Callable[[Path], object]) -> None:
    write(tmp_path / "release", make(tmp_path / "release"))  # type: ignore[arg-type]
    passed, said = validate_crate(tmp_path / "release", tmp_path)
    assert passed, said


@pytest.mark.parametrize("make", [finished, failed, resumed, continued])
def test_crates_of_other_courses_of_events_pass_too(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "runs", "with-a_long.name-1")
    write(tmp_path / "release", contents_of(tmp_path / "release", path))
    passed, said = validate_crate(tmp_path / "release", tmp_path)
    assert passed, said


def test_the_validator_finds_a_crate_that_is_not_as_it_should_be(tmp_path: Path) -> None:
    made = write(tmp_path / "release", bare_contents(tmp_path / "release"))
    crate = json.loads(made["ro-crate-metadata.json"])
    for entity in crate["@graph"]:
        entity.pop("instrument", None)
    (tmp_path / "release" / "ro-crate-metadata.json").write_text(json.dumps(crate))
    passed, said = validate_crate(tmp_path / "release", tmp_path)
    assert not passed
    assert "MUST have an instrument" in said


@pytest.mark.parametrize("make", [golden_contents, bare_contents], ids=["full", "bare"])
def test_every_term_of_the_crate_is_defined(tmp_path: Path, make: Callable[[Path], object]) -> None:
    made = write(tmp_path, make(tmp_path))  # type: ignore[arg-type]
    assert terms_without_definition(made["ro-crate-metadata.json"]) == set()


@pytest.mark.parametrize("make", [finished, failed, resumed, continued, killed])
def test_every_attempt_is_an_action_and_failed_ones_say_why(tmp_path: Path, make: Make) -> None:
    contents = contents_of(tmp_path / "release", make(tmp_path / "runs"))
    graph = json.loads(ro_crate(contents))["@graph"]
    actions = [entity for entity in graph if entity["@type"] == "CreateAction"]
    (bundle,) = contents.bundles
    assert [action["@id"] for action in actions] == [f"#demo-1-attempt-{item.number}" for item in bundle.attempts]
    statuses = {None: None, "finished": "http://schema.org/CompletedActionStatus"}
    for action, attempt in zip(actions, bundle.attempts, strict=True):
        assert action.get("actionStatus") == statuses.get(attempt.outcome, "http://schema.org/FailedActionStatus")
        assert ("error" in action) == (attempt.outcome not in statuses)
        listed = [item["@id"] for key in ("object", "result") for item in action.get(key, [])]
        assert set(listed) <= contents.files.keys()
    if make is failed:
        assert actions[0]["error"] == "failed: ValueError: no such token"


def test_an_attempt_has_the_config_that_it_had(tmp_path: Path) -> None:
    from helpers.bundles import killed_builder
    from helpers.records import config_with

    builder = killed_builder(tmp_path / "runs").resume(config_with(train__steps=10)).restored(5).join()
    contents = contents_of(tmp_path / "release", builder.steps(6, 10).finish(10).close())
    actions = [item for item in json.loads(ro_crate(contents))["@graph"] if item["@type"] == "CreateAction"]
    configs = [[item["@id"] for item in action["object"] if "/config/" in item["@id"]] for action in actions]
    below = "runs/demo-1/config/"
    assert configs == [[f"{below}resolved.yaml"], [f"{below}resolved.attempt-0002.yaml"]]


@pytest.mark.parametrize("make", [golden_contents, bare_contents], ids=["full", "bare"])
def test_the_citation_passes_the_validator(tmp_path: Path, make: Callable[[Path], object]) -> None:
    write(tmp_path, make(tmp_path))  # type: ignore[arg-type]
    passed, said = validate_citation(tmp_path / "CITATION.cff")
    assert passed, said


def test_every_open_licence_can_be_cited(tmp_path: Path) -> None:
    stated = parse_statement({"licences": {"model": "Apache-2.0"}})
    values = yaml.safe_load(citation(contents_of(tmp_path / "release", finished(tmp_path / "runs"), statement=stated)))
    values["license"] = [found["license"] for licence in sorted(OPEN) if "license" in (found := for_citation(licence))]
    assert len(values["license"]) == len(OPEN) - 2
    (tmp_path / "CITATION.cff").write_text(yaml.safe_dump(values))
    passed, said = validate_citation(tmp_path / "CITATION.cff")
    assert passed, said


@pytest.mark.parametrize("licence", [None, "LicenseRef-Lab-1", "OpenMDW-1.0"])
def test_other_licences_are_cited_by_their_address(tmp_path: Path, licence: str | None) -> None:
    stated = parse_statement({"licences": {"model": licence}} if licence else {})
    write(tmp_path / "release", contents_of(tmp_path / "release", finished(tmp_path / "runs"), statement=stated))
    passed, said = validate_citation(tmp_path / "release" / "CITATION.cff")
    assert passed, said


def test_croissant_passes_the_validator_and_mlcroissant_reads_the_data(tmp_path: Path) -> None:
    write(tmp_path, golden_contents(tmp_path))
    passed, said = validate_croissant(tmp_path / "croissant.json")
    assert passed, said
    assert "context` is not standard" not in said


def test_the_validator_finds_data_without_a_digest(tmp_path: Path) -> None:
    made = json.loads(write(tmp_path, golden_contents(tmp_path))["croissant.json"])
    del made["distribution"][0]["sha256"]
    (tmp_path / "croissant.json").write_text(json.dumps(made))
    assert validate_croissant(tmp_path / "croissant.json")[0] is False
