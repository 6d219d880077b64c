"""What a run was made of and what it left: config, data, environment, samples, checkpoints, addenda."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.cli.quantities import count, size
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.report.history import History
from recorder.release.report.html import Child, Markup, code, details, section, table, tag
from recorder.replay.diff import config_changes, flat

_LISTED = 400
_VALUE = 400
_SAMPLE = 20_000


def config(bundle: Bundle, parent: dict[str, Any] | None) -> Markup:
    """The config, what was typed, and what differs from the parent's."""
    return section(
        "config",
        "Configuration",
        _parent(bundle, parent),
        _typed(bundle),
        details("The whole configuration of the newest attempt", _flat("Configuration", bundle.config)),
    )


def _parent(bundle: Bundle, parent: dict[str, Any] | None) -> Markup:
    named = bundle.info.get("parent")
    if not isinstance(named, dict):
        return tag("p", "The run is no fork of another.")
    fork = f"{named.get('run')} at step {named.get('step')}"
    if parent is None:
        return tag("p", f"A fork of {fork}, which was not at hand to be compared with.")
    rows = [(code(change.key), _value(change.a), _value(change.b)) for change in config_changes(parent, bundle.config)]
    if not rows:
        return tag("p", f"A fork of {fork}, with the same configuration.")
    return table(f"What differs from its parent, {fork}", ("key", "parent", "this run"), rows)


def _typed(bundle: Bundle) -> Markup | None:
    path = bundle.captured(layout.OVERRIDES)
    if path is None:
        return None
    import yaml

    try:
        typed = yaml.safe_load(path.read_bytes()) or []
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BundleError(f"{layout.OVERRIDES} of {bundle.path.name} is damaged: {error}") from None
    if not typed:
        return tag("p", "Nothing was overridden on the command line.")
    return tag("div", tag("h3", "Typed on the command line"), tag("pre", "\n".join(map(str, typed))))


def data(bundle: Bundle) -> Markup | None:
    """Which data the run read."""
    found = bundle.document(layout.DATASET)
    return section("data", "Data", _flat(f"From {layout.DATASET}", found)) if found else None


def environment(bundle: Bundle) -> Markup:
    """Machines, packages and source."""
    system, packages = bundle.document(layout.SYSTEM) or {}, bundle.document(layout.PACKAGES) or {}
    source = {name: value for name, value in (bundle.document(layout.SOURCE) or {}).items() if name != "files"}
    nodes = bundle.nodes()
    versions = [
        (str(package.get("name")), code(package.get("version")), str(package.get("origin") or "-"))
        for package in packages.get("packages", [])
    ]
    return section(
        "environment",
        "Environment",
        _flat("The driver's machine", system) if system else tag("p", "The driver's machine is not recorded."),
        *(details(f"Node {name}", _flat(f"Node {name}", node.get("system") or {})) for name, node in _first(nodes)),
        _more(len(nodes), "nodes", "environment/nodes"),
        _differing(bundle),
        details(f"{count(len(versions), 'package')}", table("Packages", ("package", "version", "from"), versions))
        if versions
        else None,
        details("Source", _flat(f"From {layout.SOURCE}", source)) if source else None,
    )


def _first(nodes: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(nodes.items())[:32]


def _more(number: int, what: str, where: str) -> Markup | None:
    return tag("p", f"{number - 32:,} more {what} are in {where}.") if number > 32 else None


def _differing(bundle: Bundle) -> Markup | None:
    differing = bundle.course.counts.get(events.NODE_DIFFERS, 0)
    if not differing:
        return tag("p", "No node was found to differ from the first.")
    return tag("p", f"Nodes were found to differ from the first {count(differing, 'time')}; the ledger says in what.")


def samples(history: History) -> Markup | None:
    """What the model wrote over time."""
    if not history.samples:
        return None
    rows = [
        (
            f"{sample.step:,}",
            tag("span", tag("span", sample.prompt, class_="dim"), sample.text[:_SAMPLE], class_="code"),
        )
        for sample in history.samples
    ]
    left = history.samples_left_out
    note = f" ({left:,} more, evenly between these, are in the ledger)" if left else ""
    listed = table(f"What the model wrote after so many steps{note}", ("step", "text"), rows, ("step",))
    legend = tag("p", "The prompt is in the paler colour.", class_="dim")
    return section("samples", "Samples over time", legend, tag("div", listed, class_="samples"))


def checkpoints(bundle: Bundle, history: History) -> Markup:
    """The checkpoints that were kept, with the digest of each file."""
    rows: list[tuple[Child, ...]] = []
    for saved in history.checkpoints[-_LISTED:]:
        is_here = (bundle.path / str(saved["path"])).is_dir()
        for name, record in sorted(saved["files"].items()):
            place = f"{saved['path']}/{name}"
            facts = (f"{saved['step']:,}", code(place), size(record["size"]), code(record["blake3"]))
            rows.append((*facts, "yes" if is_here else "no"))
    kept, removed = len(history.checkpoints), history.removed
    note = f"{count(kept, 'checkpoint')} kept" + (f", {removed:,} removed while the run went on." if removed else ".")
    if kept > _LISTED:
        note += f" Listed are the newest {_LISTED}; the ledger has all."
    head = ("after step", "file", "size", "BLAKE3-256", "in this bundle")
    listed = table("Checkpoints and their digests, taken while they were written", head, rows, ("after step", "size"))
    return section("checkpoints", "Checkpoints", tag("p", note), listed if rows else None)


def addenda(bundle: Bundle) -> Markup | None:
    """What came after the seal: audit certificates, tombstones, late records."""
    documents = sorted((bundle.path / layout.ADDENDA).glob("*.json"))
    found = [path for path in documents if not path.name.startswith("seal-")]
    if not found:
        return None
    return section("addenda", "After the seal", *map(_addendum, found))


def _addendum(path: Any) -> Markup:
    try:
        written = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{layout.ADDENDA}/{path.name} is damaged: {error}") from None
    return details(path.name, _flat(f"{layout.ADDENDA}/{path.name}", written))


def record(bundle: Bundle) -> Markup:
    """What the record consists of, and how to check it."""
    files, bytes_ = bundle.size()
    counts = sorted(bundle.course.counts.items())
    rows = [(code(kind), f"{number:,}") for kind, number in counts]
    return section(
        "record",
        "The record",
        tag(
            "p",
            f"{count(files, 'file')}, {size(bytes_)}. This page is made from it and proves nothing; the record does:",
        ),
        tag("pre", f"recorder verify {bundle.id}"),
        details(f"{count(sum(bundle.course.counts.values()), 'event')} in the ledger", _events(rows)),
    )


def _events(rows: list[tuple[Markup, str]]) -> Markup:
    return table("Events by type", ("type", "events"), rows, ("events",))


def _flat(caption: str, document: Any) -> Markup:
    """Any JSON as a table of dotted keys and values."""
    pairs = list(flat(document))
    shown = [(code(key), _value(value)) for key, value in pairs[:_LISTED]]
    more = f" (the first {_LISTED} of {len(pairs):,} values)" if len(pairs) > _LISTED else ""
    return table(f"{caption}{more}", ("key", "value"), shown)


def _value(value: Any) -> Markup:
    written = value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)
    return code(written if len(written) <= _VALUE else f"{written[:_VALUE]}…")


def sections(bundle: Bundle, history: History, parent: dict[str, Any] | None) -> Iterator[Markup]:
    """All of these, in order; those of which nothing is recorded are left out."""
    found = (
        config(bundle, parent),
        data(bundle),
        environment(bundle),
        samples(history),
        checkpoints(bundle, history),
        addenda(bundle),
        record(bundle),
    )
    yield from (part for part in found if part is not None)
