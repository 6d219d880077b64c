"""Names of people and machines that are also words of the record: a pseudonym would change what the record says."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.manifest import bundle_files
from recorder.bundle.rows import column_names
from recorder.errors import BundleError, UsageError
from recorder.ledger import events
from recorder.release.damaged import DamagedBundle
from recorder.release.secrets.gate import Finding
from recorder.release.secrets.masking import fingerprint
from recorder.release.secrets.private_rules import Names, named_rules

_NODES = layout.node_file("x").rpartition("/")[0]


def check_names(bundle: Path, names: Names, found: Iterable[Finding], left_out: Collection[str] = ()) -> None:
    """Raises UsageError when one of `names` that was `found`, and would be replaced, is a word of the record.

    Such are keys of documents and of the config, columns, parts of a `_target_` and of event types, names of files and
    packages, and the run's id. Keys that are themselves names, as those of nodes and paths, are not.
    """
    present = {finding.fingerprint for finding in found}
    at_stake = [rule for rule in named_rules(names) if fingerprint(rule, rule.hints) in present]
    if not at_stake:
        return
    words: dict[str, str] = {}
    for word, what in _words(bundle, left_out):
        words.setdefault(word, what)
    if wrong := [rule for rule in at_stake if rule.hints in words]:
        said = ", ".join(f"{rule.kind} {rule.hints!r} is also {words[rule.hints]}" for rule in wrong)
        allow = " ".join(f"--allow {fingerprint(rule, rule.hints)}" for rule in wrong)
        raise UsageError(
            f"{said}, where a pseudonym would change what the record of {bundle.name} says: publish the name as it is "
            f"({allow})"
        )


def _words(bundle: Path, left_out: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each word, and what it is."""
    opened = DamagedBundle(bundle)
    yield bundle.name, "the run's id"
    if layout.RESOLVED_CONFIG not in left_out:
        yield from _words_of_config(opened.config)
    for series in (layout.METRICS, layout.SYSTEM_METRICS):
        try:
            yield from ((name, f"a column of {series}") for name in column_names(bundle, series))
        except BundleError:
            continue  # a damaged table is not edited
    for path in bundle_files(bundle):
        if not path.startswith(f"{_NODES}/"):
            yield from ((word, "the name of a file") for word in re.split(r"[/.]", path))
    packages = (opened.document(layout.PACKAGES) or {}).get("packages")
    for package in packages if isinstance(packages, list) else ():
        yield str(package.get("name")) if isinstance(package, dict) else "", "a package"
    for kind in (value for value in vars(events).values() if isinstance(value, str)):
        yield from ((word, "part of an event's type") for word in kind.split("."))
    for schema in resources.files("recorder.bundle.schemas").iterdir():
        if schema.name.endswith(".json"):
            yield from (
                (word, "a word of the bundle's format") for word in _words_of_schema(json.loads(schema.read_text()))
            )


def _words_of_config(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key), "a key of the config"
            if key == "_target_":
                yield from ((word, "part of a _target_") for word in str(item).split("."))
            yield from _words_of_config(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words_of_config(item)


def _words_of_schema(value: Any) -> Iterator[str]:
    """Keys that are described, and texts that a value may be."""
    if isinstance(value, dict):
        properties = value.get("properties")
        yield from properties if isinstance(properties, dict) else ()
        yield from (str(item) for item in (*value.get("enum", ()), value.get("const")))
        for item in value.values():
            yield from _words_of_schema(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words_of_schema(item)
