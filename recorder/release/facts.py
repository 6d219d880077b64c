"""What a model card says of a run: each fact with the released files that it was read from.

A fact whose files are not in the release is not told. Values are the record's own: nothing is rounded, and what is
computed from it (a count of parameters, a lowest loss) says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from recorder.bundle import layout
from recorder.bundle.committed import commit
from recorder.bundle.reader import Bundle
from recorder.canonical import decode_float
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.contents import Contents
from recorder.release.export import WEIGHTS
from recorder.release.safetensors_header import read_header

_TRAIN = ("steps", "micro_batches", "micro_batch_size", "precision", "compile", "reduction")
_LISTED = 20


@dataclass(frozen=True)
class Fact:
    """`value` of `label`, read from the files `sources` of the release."""

    label: str
    value: str
    sources: tuple[str, ...]


class Facts:
    """Makes the facts of one run of a release."""

    def __init__(self, contents: Contents, bundle: Bundle) -> None:
        self._contents = contents
        self._bundle = bundle

    def model(self) -> list[Fact]:
        """What was trained."""
        config = self._bundle.config
        model = dict(_section(config, "model"))
        told = [
            self._fact("model", model.pop("_target_", None), self._config()),
            self._fact("arguments", _pairs(model), self._config()),
            self._fact("longest sequence, tokens", _section(config, "data").get("sequence_length"), self._config()),
            self._fact("vocabulary, tokens", self._data("tokenizer").get("vocabulary_size"), [layout.DATASET]),
            self._parameters(),
        ]
        return [fact for fact in told if fact]

    def training(self) -> list[Fact]:
        """How it was trained, and on what."""
        info, config = self._bundle.info, self._bundle.config
        determinism = info.get("determinism") or {}
        parent = info.get("parent")
        told = [
            self._fact("run", self._bundle.id, [layout.RUN]),
            self._fact("outcome", (self._bundle.manifest or {}).get("outcome"), [layout.MANIFEST]),
            self._fact("fork of", parent and f"{parent['run']} at step {parent['step']}", [layout.RUN]),
            self._fact("command", _command(info.get("command")), [layout.RUN]),
            self._fact("seed", info.get("seed"), [layout.RUN]),
            self._fact("training config", _pairs(_section(config, "train"), _TRAIN), self._config()),
            self._fact("optimizer config", _pairs(_section(config, "optim")), self._config()),
            *self._results(),
            self._fact("determinism class", determinism.get("id"), [layout.RUN]),
            *self._software(),
            *self._machines(),
        ]
        return [fact for fact in told if fact]

    def data(self) -> list[Fact]:
        """What it was trained on; of many input files the first, and how many there are more."""
        record = self._bundle.document(layout.DATASET) or {}
        inputs = record.get("inputs") or []
        told = [
            ("source", _pairs(record.get("source") or {})),
            ("licence", record.get("licence")),
            ("documents", record.get("documents")),
            ("characters", record.get("characters")),
            *(
                (f"{name} part", _pairs(split, ("documents", "tokens")))
                for name, split in sorted((record.get("splits") or {}).items())
            ),
            ("split", _pairs(record.get("split") or {}, ("rule", "validation_fraction"))),
            ("order", _pairs(record.get("order") or {})),
            ("tokenizer", self._data("tokenizer").get("kind")),
            *(("file", _pairs(entry, ("path", "bytes", "blake3"))) for entry in inputs[:_LISTED]),
            ("further files, counted", len(inputs) - _LISTED if len(inputs) > _LISTED else None),
        ]
        facts = [self._fact(label, value, [layout.DATASET]) for label, value in told]
        return [fact for fact in facts if fact]

    def _results(self) -> Iterator[Fact | None]:
        ends = self._ends()
        if ends:
            (path, last), is_one = ends[-1], ends[0][1]["step"] == ends[-1][1]["step"]
            yield self._fact("last step", last["step"], [path])
            yield self._fact("tokens seen", last.get("tokens"), [path])
            for place, row in ends[is_one:]:
                yield self._fact(f"training loss at step {row['step']}", row.get("loss"), [place])
        evaluations = list(self._contents.told(self._bundle, events.EVALUATED))
        if evaluations:
            newest = evaluations[-1]
            lowest = min(evaluations, key=lambda told: _comparable(told.fields.get("loss")))
            for word, told in (("", newest), ("lowest ", lowest)):
                label = f"{word}{told.fields.get('split', '')} loss at step {told.fields.get('step')}"
                yield self._fact(label, told.fields.get("loss"), [told.path])
        lost = list(self._contents.told(self._bundle, events.WORKER_LOST))
        causes = Counter(str(told.fields.get("cause")) for told in lost)
        text = ", ".join(f"{number} ({cause})" for cause, number in sorted(causes.items()))
        yield self._fact("workers lost, counted", text or None, sorted({told.path for told in lost}))

    def _software(self) -> Iterator[Fact | None]:
        packages = self._bundle.document(layout.PACKAGES) or {}
        versions = {str(item["name"]): str(item["version"]) for item in packages.get("packages", [])}
        found = {"python": (packages.get("python") or {}).get("version")}
        found |= {name: versions[name] for name in ("torch", "ray") if name in versions}
        yield self._fact("software", _pairs(found), [layout.PACKAGES])
        source = self._bundle.document(layout.SOURCE) or {}
        dirty = {True: "with changes", False: "unchanged"}.get(source.get("dirty"), "")  # type: ignore[arg-type]
        commit = source.get("commit")
        yield self._fact("code", f"commit {commit} {dirty}".strip() if commit else None, [layout.SOURCE])

    def _machines(self) -> Iterator[Fact | None]:
        """Nodes that are alike are one fact."""
        alike: dict[str, list[str]] = {}
        for name, node in self._bundle.nodes().items():
            system = node.get("system") or {}
            gpus = Counter(str(device.get("name")) for device in (system.get("gpu") or {}).get("devices") or [])
            parts = [f"{number} x {gpu}" for gpu, number in sorted(gpus.items())]
            cpu = system.get("cpu") or {}
            parts += [f"{cpu.get('model')}, {cpu.get('logical_cores')} cores"] if cpu else []
            alike.setdefault(", ".join(parts), []).append(layout.node_file(name))
        for text, paths in alike.items():
            yield self._fact("node" if len(paths) == 1 else f"{len(paths)} nodes, counted, each", text, paths)

    def _parameters(self) -> Fact | None:
        """Numbers in the weights of the newest checkpoint that is there; tied ones are stored and counted once."""
        exported = self._contents.exported
        for checkpoint in reversed(self._bundle.checkpoints):
            path = f"{checkpoint.path}/{layout.CHECKPOINT_MODEL}"
            place = self._contents.published(self._bundle, path)
            if place is None:
                continue
            try:
                count = sum(tensor.elements for tensor in read_header(self._bundle.path / path).values())
            except BundleError:
                return None
            is_top = exported is not None and (exported.run, exported.step) == (self._bundle.id, checkpoint.step)
            sources = (place, WEIGHTS) if is_top and WEIGHTS in self._contents.files else (place,)
            return Fact("parameters, counted, tied ones once", str(count), sources)
        return None

    def _config(self) -> list[str]:
        """The newest attempt's config."""
        path = self._bundle.captured(layout.RESOLVED_CONFIG)
        return [path.relative_to(self._bundle.path).as_posix()] if path else []

    def _data(self, section: str) -> dict[str, Any]:
        return _section(self._bundle.document(layout.DATASET) or {}, section)

    def _ends(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows of the first and the last committed step, each with its segment; few rows are held at a time."""
        found: dict[bool, list[tuple[str, dict[str, Any]]]] = {}
        for path, row in self._bundle.placed_rows(layout.METRICS):
            for is_last in (False, True):
                seen = found.setdefault(is_last, [(path, row)])
                step, kept = row["step"], seen[0][1]["step"]
                if step == kept:
                    seen.append((path, row))
                elif (step > kept) == is_last:
                    found[is_last] = [(path, row)]
        chosen = [commit(row for _, row in found[is_last]).rows[0] for is_last in sorted(found)]
        return [(next(path for path, kept in found[n == 1] if kept is row), row) for n, row in enumerate(chosen)]

    def _fact(self, label: str, value: Any, paths: list[str]) -> Fact | None:
        """The fact, or None where nothing is recorded or a file it comes from is not released."""
        versions = [self._version(path) for path in paths]
        places = [self._contents.published(self._bundle, path) for path in versions]
        if value is None or value == "" or not places or None in places:
            return None
        return Fact(label, plain(value), tuple(place for place in places if place))

    def _version(self, path: str) -> str:
        """The newest attempt's version of a captured file."""
        newest = self._bundle.captured(path)
        return newest.relative_to(self._bundle.path).as_posix() if newest else path


def plain(value: Any) -> str:
    """A value as the record has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return _pairs(value)
    return "null" if value is None else str(value)


def _pairs(values: dict[str, Any], keys: Iterable[str] | None = None) -> str:
    names = [key for key in keys if key in values] if keys else list(values)
    return ", ".join(f"{name} {plain(values[name])}" for name in names)


def _comparable(loss: Any) -> float:
    """A loss to find the lowest by: what is no number, or NaN, is the highest."""
    try:
        value = decode_float(loss)
    except (TypeError, ValueError):
        return math.inf
    return math.inf if math.isnan(value) else value


def _command(command: Any) -> str | None:
    return " ".join(map(str, command)) if isinstance(command, list) else command


def _section(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}
