"""What sets two runs apart: section by section, and the first step at which their series part."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from recorder.bundle import layout
from recorder.bundle.committed import Row
from recorder.bundle.reader import Bundle
from recorder.canonical import encode_non_finite
from recorder.errors import BundleError
from recorder.replay.hardware import hardware_changes

# What two runs with equal bits have in common; times and places are their own.
_SERIES = ("loss", "grad_norm", "learning_rate", "gradient_digest", "fingerprint", "order_digest")
# Names and places: two runs that differ in nothing else are the same experiment.
_RUN_IDENTITY = {"id", "name", "created", "command", "sweep", "determinism.id"}
CONFIG_IDENTITY = {
    *("run.id", "run.name", "run.dir", "run.resume", "cluster.address", "recorder.spool", "data.cache"),
}
_SOURCE_FACTS = ("commit", "is_repository")


@dataclass(frozen=True)
class Change:
    """One thing in which the runs differ; None stands for what a run does not have."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Difference:
    """How runs `a` and `b` differ.

    `sections` holds a list for every section, empty where nothing that matters differs. `steps_compared` are the steps
    that both runs committed; at `first_divergent_step` their rows part, in the columns of `divergence`.
    """

    a: str
    b: str
    sections: dict[str, list[Change]]
    steps_compared: int
    first_divergent_step: int | None
    divergence: list[Change]

    @property
    def identical(self) -> bool:
        """Whether nothing that matters differs."""
        return self.first_divergent_step is None and not any(self.sections.values())

    def record(self) -> dict[str, Any]:
        """As JSON, with the keys `first_divergent_step` and `steps_compared` that others rely on."""
        record: dict[str, Any] = encode_non_finite({"identical": self.identical, **asdict(self)})
        return record


def diff_bundles(a: Bundle, b: Bundle) -> Difference:
    """Compare two bundles. Numbers are compared bit for bit. Raises BundleError for one that cannot be read."""
    step, compared, divergence = compare_series(a.committed.rows, b.committed.rows)
    try:
        sections = {
            "run": _compare(a.info, b.info, _RUN_IDENTITY),
            "config": config_changes(a.config, b.config),
            "packages": _compare(_packages(a), _packages(b)),
            "source": _compare(_source(a), _source(b)),
            "data": _compare(a.document(layout.DATASET) or {}, b.document(layout.DATASET) or {}),
            "hardware": [Change(*change) for change in hardware_changes(_nodes(a), _nodes(b))],
            "outcome": _compare(_outcome(a), _outcome(b)),
        }
    except (LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"a record of {a.id} or {b.id} is not as its schema says ({error!r}); verify both") from None
    return Difference(a.id, b.id, sections, compared, step, divergence)


def config_changes(a: dict[str, Any], b: dict[str, Any]) -> list[Change]:
    """In what two configs differ, by dotted key; names and places of the runs are no difference."""
    return _compare(a, b, CONFIG_IDENTITY)


def compare_series(a: list[Row], b: list[Row]) -> tuple[int | None, int, list[Change]]:
    """The first step at which two committed series differ (None: nowhere), how many steps both have, and in what.

    A column counts where both rows have it; a step counts where both runs committed it.
    """
    of_b = {row["step"]: row for row in b}
    common = [(row, of_b[row["step"]]) for row in a if row["step"] in of_b]
    for row, other in common:
        both = [name for name in _SERIES if name in row and name in other]
        # The text of a float tells zeros of either sign apart and not-a-number from nothing.
        changes = [Change(name, row[name], other[name]) for name in both if repr(row[name]) != repr(other[name])]
        if changes:
            return row["step"], len(common), changes
    return None, len(common), []


def _compare(a: dict[str, Any], b: dict[str, Any], identity: Collection[str] = ()) -> list[Change]:
    first, second = dict(flat(a)), dict(flat(b))
    return [
        Change(key, first.get(key), second.get(key))
        for key in dict.fromkeys([*first, *second])
        if key not in identity and repr(first.get(key)) != repr(second.get(key))
    ]


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything that is no mapping; items of lists of mappings are `path[0]`."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from flat(item, f"{path}[{number}]")
    else:
        yield path, value


def _packages(bundle: Bundle) -> dict[str, Any]:
    """Python's version and each package's, with the commit it was built from where that is known."""
    recorded = bundle.document(layout.PACKAGES) or {}
    python = recorded.get("python") or {}
    versions = {"python": f"{python.get('implementation')} {python.get('version')}"} if python else {}
    for package in recorded.get("packages", []):
        commit = (package.get("origin") or {}).get("commit")
        versions[package["name"]] = f"{package['version']}{f' at {commit}' if commit else ''}"
    return versions


def _source(bundle: Bundle) -> dict[str, Any]:
    """Commit, and the digest of every file of the archive."""
    recorded = bundle.document(layout.SOURCE) or {}
    facts = {key: recorded[key] for key in _SOURCE_FACTS if key in recorded}
    return facts | {file["path"]: file["blake3"] for file in recorded.get("files", [])}


def _nodes(bundle: Bundle) -> list[dict[str, Any]]:
    """The driver's machine and those of the workers."""
    system = bundle.document(layout.SYSTEM)
    packages = bundle.document(layout.PACKAGES)
    driver = [{"system": system, "packages": packages or {"packages": []}}] if system else []
    return [*driver, *bundle.nodes().values()]


def _outcome(bundle: Bundle) -> dict[str, Any]:
    evaluations = bundle.course.evaluations
    rows = bundle.committed.rows
    return {
        "outcome": bundle.outcome,
        "last_step": rows[-1]["step"] if rows else None,
        "loss": rows[-1].get("loss") if rows else None,
        "validation_loss": evaluations[-1].get("loss") if evaluations else None,
    }
