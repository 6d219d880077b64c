"""Bundle: what a finished, failed, killed or running run left, read piece by piece when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.committed import CommittedSeries, commit
from recorder.bundle.course import Attempt, Checkpoint, Course
from recorder.bundle.manifest import read_manifest
from recorder.bundle.rows import read_placed_rows, read_rows
from recorder.bundle.state import SEALED, bundle_state
from recorder.errors import BundleError
from recorder.ledger.ledger import read_events, read_placed_events
from recorder.ledger.lines import torn_tail


class Bundle:
    """The bundle in the folder `path`. Nothing is read before it is asked for, and nothing is verified.

    Every accessor raises BundleError for what is damaged, and gives None or nothing for what was never recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def info(self) -> dict[str, Any]:
        """run.json."""
        document = self._json(layout.RUN)
        if document is None:
            raise BundleError(f"{self.path} is no bundle: it has no {layout.RUN}")
        return document

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.info.get("id", self.path.name))

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        """bundle.json, checked against its root; None while there is none."""
        return read_manifest(self.path)

    @property
    def state(self) -> str:
        """`sealed`, `running` or `open`."""
        return bundle_state(self.path)

    @property
    def outcome(self) -> str | None:
        """`finished`, `interrupted`, `failed` or `killed`; None while the last attempt has not ended."""
        if self.manifest is not None:
            return str(self.manifest["outcome"])
        return self.attempts[-1].outcome if self.attempts else None

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts, first to last."""
        return list(self.course.attempts.values())

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints that were ever saved, by step."""
        return sorted(self.course.checkpoints.values(), key=lambda checkpoint: checkpoint.step)

    @cached_property
    def course(self) -> Course:
        """What happened, from one pass over the ledger."""
        course = Course()
        for event in self.events():
            try:
                course.follow(event)
            except (LookupError, TypeError, AttributeError) as error:
                raise BundleError(f"an event in the ledger of {self.path.name} is malformed ({error!r})") from None
        return course

    def events(self) -> Iterator[dict[str, Any]]:
        """Every whole event of the ledger, in order."""
        return read_events(self.path)

    def rows(self, series: str = layout.METRICS, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every whole row of a series, in the order in which it was recorded; only some `columns`, where named."""
        return read_rows(self.path, series, columns)

    def placed_events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """As `events`, each with the path of the segment that holds it."""
        return read_placed_events(self.path)

    def placed_rows(self, series: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """As `rows`, each with the path of the segment that holds it."""
        return read_placed_rows(self.path, series)

    @cached_property
    def committed(self) -> CommittedSeries:
        """The metrics, one row a step."""
        try:
            return commit(self.rows())
        except (LookupError, TypeError) as error:
            raise BundleError(f"a row in the metrics of {self.path.name} is malformed ({error!r})") from None

    @property
    def config(self) -> dict[str, Any]:
        """The config of the newest attempt; empty when none was recorded."""
        path = self.captured(layout.RESOLVED_CONFIG)
        if path is None:
            return {}
        import yaml

        try:
            values = yaml.safe_load(path.read_bytes())
        except (OSError, ValueError, yaml.YAMLError):
            values = None
        if not isinstance(values, dict):
            raise BundleError(f"{path.relative_to(self.path)} of {self.path.name} is damaged: it is no YAML mapping")
        return values

    def document(self, path: str) -> dict[str, Any] | None:
        """The newest version of a captured JSON file, such as `data/dataset.json`; None when there is none."""
        newest = self.captured(path)
        return self._json(newest.relative_to(self.path).as_posix()) if newest is not None else None

    def captured(self, path: str) -> Path | None:
        """Where the newest attempt's version of the captured file `path` is; None when there is none."""
        newest = self.path / self.course.captured.get(path, path)
        is_inside = newest.resolve().is_relative_to(self.path.resolve())
        return newest if is_inside and newest.is_file() else None

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The environment of each node, by the name of the node's file."""
        folder = self.path / layout.node_file("x")
        found = {path.stem: self._json(path.relative_to(self.path).as_posix()) for path in folder.parent.glob("*.json")}
        return {name: document for name, document in sorted(found.items()) if document is not None}

    def size(self) -> tuple[int, int]:
        """Number and bytes of all files."""
        sizes = [path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir()]
        return len(sizes), sum(sizes)

    def torn_tails(self) -> list[tuple[str, int]]:
        """Files of an open bundle that end in the middle of a record, and how many bytes of it there are."""
        if self.state == SEALED:
            return []
        last = [
            layout.segments(self.path, name)[-1:] for name in (layout.LEDGER, layout.METRICS, layout.SYSTEM_METRICS)
        ]
        open_files = [path for paths in last for path in paths if path.suffix == ".jsonl"]
        tails = [(path.relative_to(self.path).as_posix(), len(torn_tail(path))) for path in open_files]
        return [(name, size) for name, size in tails if size]

    def _json(self, path: str) -> dict[str, Any] | None:
        try:
            document = json.loads((self.path / path).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path} of {self.path.name} is damaged: {error}") from None
        if not isinstance(document, dict):
            raise BundleError(f"{path} of {self.path.name} is damaged: it is no JSON object")
        return document
