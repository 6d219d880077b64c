from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import fastjsonschema
import pytest

from recorder.bundle import layout
from recorder.bundle.schema import EVENT, schema_of, violation
from recorder.ledger import events

FOLDER = resources.files("recorder.bundle.schemas")
SCHEMAS = sorted(path.name for path in FOLDER.iterdir() if path.name.endswith(".json"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    schema = json.loads(FOLDER.joinpath(name).read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    fastjsonschema.compile(schema)


def test_every_json_file_of_a_bundle_has_a_schema_that_it_follows(made: dict[str, Path]) -> None:
    used = set()
    for path in made.values():
        for file in path.rglob("*.json"):
            schema = schema_of(file.relative_to(path).as_posix())
            assert schema is not None, file
            assert violation(schema, json.loads(file.read_bytes())) is None
            used.add(f"{schema}.json")
    # The golden run, which these equal, is older than the tokenizer's file; tests/train/launch/test_capture.py has one.
    assert used | {"addendum.json", "event.json", "release.json", "tokenizer.json"} == set(SCHEMAS)


def test_a_further_attempts_version_has_the_same_schema() -> None:
    assert schema_of(layout.version(layout.SYSTEM, 2)) == "system"
    assert schema_of(layout.version(layout.node_file("node.example"), 3, 2)) == "node"
    assert schema_of("notes.json") is None


def test_every_type_of_event_but_the_free_ones_is_described() -> None:
    schema = json.loads(FOLDER.joinpath("event.json").read_text())
    described = {part["if"]["properties"]["type"]["const"] for part in schema["allOf"]}
    known = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    assert described <= known
    assert known - described == {
        events.CHECKPOINT_FAILED,
        events.EXCEPTION,
        events.EXCHANGE_FAILED,
        events.SIGNAL,
    }


def test_a_violation_is_one_line_that_names_the_place() -> None:
    event = {"seq": 1, "time": "2026-09-21T14:13:20.000000Z", "attempt": 1, "prev": "0" * 64, "hash": "0" * 64}
    wrong = violation(EVENT, event | {"type": "worker.lost", "fields": {"rank": 1, "cause": ""}})
    assert wrong == "fields.cause must be longer than or equal to 1 characters"
    assert violation(EVENT, event | {"type": "anything", "fields": {"rank": "x"}}) is None
