"""Checks JSON of a bundle against the schemas in the package. Each is compiled once, when it is first needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from recorder.bundle import layout

EVENT = "event"

_FILES = (
    (layout.MANIFEST, "bundle"),
    (f"{layout.ADDENDA}/seal-*.json", "bundle"),
    (f"{layout.ADDENDA}/[0-9]*.json", "addendum"),
    (layout.RUN, "run"),
    (layout.PACKAGES, "packages"),
    (layout.SYSTEM, "system"),
    (layout.node_file("*"), "node"),
    (layout.SOURCE, "source"),
    (layout.DATASET, "dataset"),
    (layout.TOKENIZER, "tokenizer"),
    (f"{layout.CHECKPOINTS}/*/{layout.CHECKPOINT_STATE}", "state"),
)
_PATTERNS = [
    (re.compile(re.escape(path).replace(r"\*", "[^/]+").replace(r"\[0\-9\]", "[0-9]")), schema)
    for path, schema in _FILES
]


def schema_of(path: str) -> str | None:
    """The name of the schema for the file at `path` of a bundle; None for a file that has none."""
    name = layout.first_version(path)
    return next((schema for pattern, schema in _PATTERNS if pattern.fullmatch(name)), None)


def violation(schema: str, value: Any) -> str | None:
    """Where and how `value` differs from `schema`, in one line; None when it is as it should be."""
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema)(value)
    except JsonSchemaValueException as error:
        return str(error.message).removeprefix("data.").removeprefix("data ")
    return None


@cache
def _validator(schema: str) -> Callable[[Any], Any]:
    import fastjsonschema

    text = resources.files("recorder.bundle.schemas").joinpath(f"{schema}.json").read_text("utf-8")
    validator: Callable[[Any], Any] = fastjsonschema.compile(json.loads(text))
    return validator
