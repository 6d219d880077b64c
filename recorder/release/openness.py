"""How open a release is after the Model Openness Framework 1.0 (M. White et al. 2024, LF AI & Data): a checklist.

A component counts where the release holds it, or its publishers name an address for it, under a stated open licence.
Class III (open model), II (open tooling) and I (open science) each ask for their components and those of the classes
before. A research paper stands in for a technical report. Nothing is looked up: what an address holds, whether the
code is complete and whether the licence may be given are for people to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from recorder.bundle import layout
from recorder.canonical import readable_json
from recorder.ledger import events
from recorder.release import licences
from recorder.release.contents import CARD, CROISSANT, Contents
from recorder.release.export import CONFIG, WEIGHTS

PRESENT, UNLICENSED, MISSING = "present", "without an open licence", "missing"
CLASSES = {3: "Class III, open model", 2: "Class II, open tooling", 1: "Class I, open science"}

Evidence = list[str]


@dataclass(frozen=True)
class Component:
    """One line of the checklist; `evidence` are paths in the release and addresses."""

    name: str
    mof_class: int
    required: bool
    part: str
    status: str
    licence: str | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Openness:
    """The checklist, and the class that is reached: 3, 2, 1 or None."""

    components: tuple[Component, ...]
    reached: int | None

    def missing(self, mof_class: int) -> list[str]:
        """What the class asks for, the classes before included, and the release lacks or has without a licence."""
        return [
            item.name
            for item in self.components
            if item.required and item.mof_class >= mof_class and item.status != PRESENT and not self._replaced(item)
        ]

    def _replaced(self, item: Component) -> bool:
        return item.name == "Technical report" and self._status("Research paper") == PRESENT

    def _status(self, name: str) -> str:
        return next(item.status for item in self.components if item.name == name)


def openness(contents: Contents) -> Openness:
    """Go through the checklist."""
    components = tuple(_components(contents))
    reached = None
    for mof_class in CLASSES:
        if Openness(components, None).missing(mof_class):
            break
        reached = mof_class
    return Openness(components, reached)


def openness_json(contents: Contents) -> bytes:
    """openness.json."""
    found = openness(contents)
    return readable_json(
        {
            "framework": {"name": "Model Openness Framework", "version": "1.0", "date": "2024-12-15"},
            "release": contents.title,
            "class": found.reached,
            "class_name": CLASSES[found.reached] if found.reached else None,
            "missing": {str(mof_class): found.missing(mof_class) for mof_class in CLASSES},
            "components": [asdict(item) for item in found.components],
        }
    )


def _components(contents: Contents) -> Iterator[Component]:
    for name, mof_class, required, part, find in _CHECKLIST:
        evidence = tuple(find(contents))
        licence = licences.TRANSFORMERS if find is _inference else contents.licence(part)
        status = MISSING if not evidence else PRESENT if licence in licences.OPEN else UNLICENSED
        yield Component(name, mof_class, required, part, status, licence if evidence else None, evidence)


def _of_bundles(contents: Contents, *paths: str) -> Evidence:
    """Those files of every bundle; nothing where one bundle lacks one of them."""
    found = [contents.published(bundle, path) for bundle in contents.bundles for path in paths]
    return [path for path in found if path is not None] if None not in found else []


def _code(contents: Contents) -> Evidence:
    return _of_bundles(contents, layout.SOURCE_ARCHIVE)


def _weights(contents: Contents) -> Evidence:
    return [WEIGHTS] if contents.exported and WEIGHTS in contents.files else []


def _inference(contents: Contents) -> Evidence:
    """transformers runs an exported model."""
    return [CONFIG] if _weights(contents) and CONFIG in contents.files else []


def _evaluations(contents: Contents) -> Evidence:
    return _segments_with(contents, events.EVALUATED)


def _samples(contents: Contents) -> Evidence:
    return _segments_with(contents, events.SAMPLE)


def _intermediate(contents: Contents) -> Evidence:
    """Checkpoints before the last one of each run."""
    found = []
    for bundle in contents.bundles:
        saved = [
            contents.published(bundle, f"{item.path}/{layout.CHECKPOINT_MODEL}") for item in bundle.checkpoints[:-1]
        ]
        found += [place for place in saved if place]
    return found


def _datasets(contents: Contents) -> Evidence:
    """The data's files; or, of generated data, the recipe: its record and the code that makes the same bytes again."""
    if contents.data_files():
        return contents.data_files()
    records = [bundle.document(layout.DATASET) or {} for bundle in contents.bundles]
    if all("generator" in (record.get("source") or {}) and not record.get("inputs") for record in records):
        return _of_bundles(contents, layout.DATASET, layout.SOURCE_ARCHIVE)
    return []


def _data_card(contents: Contents) -> Evidence:
    return [CROISSANT] if contents.data_files() else _address(contents.statement.data_card)


def _address(address: str | None) -> Evidence:
    return [address] if address else []


def _segments_with(contents: Contents, kind: str) -> Evidence:
    """The released ledger segments that hold events of a type."""
    found = {
        contents.published(bundle, told.path) for bundle in contents.bundles for told in contents.told(bundle, kind)
    }
    return sorted(path for path in found if path is not None)


_CHECKLIST: tuple[tuple[str, int, bool, str, Callable[[Contents], Evidence]], ...] = (
    ("Model architecture", 3, True, "code", _code),
    ("Model parameters (final)", 3, True, "model", _weights),
    ("Technical report", 3, True, "documents", lambda contents: _address(contents.statement.technical_report)),
    ("Evaluation results", 3, True, "documents", _evaluations),
    ("Model card", 3, True, "documents", lambda _: [CARD]),
    ("Data card", 3, True, "documents", _data_card),
    ("Sample model outputs", 3, False, "documents", _samples),
    ("Training code", 2, True, "code", _code),
    ("Inference code", 2, True, "code", _inference),
    ("Evaluation code", 2, True, "code", lambda contents: _code(contents) if _evaluations(contents) else []),
    ("Evaluation data", 2, True, "data", _datasets),
    ("Supporting libraries and tools", 2, False, "code", lambda contents: _of_bundles(contents, layout.PACKAGES)),
    ("Research paper", 1, True, "documents", lambda contents: _address(contents.statement.research_paper)),
    ("Datasets", 1, True, "data", _datasets),
    ("Data preprocessing code", 1, True, "code", _code),
    ("Model parameters (intermediate)", 1, True, "model", _intermediate),
    ("Model metadata", 1, False, "model", lambda contents: _of_bundles(contents, layout.RESOLVED_CONFIG)),
)
