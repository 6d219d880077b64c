"""Reading a damaged bundle, which is published as it is, as far as it can be read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.course import Course
from recorder.bundle.reader import Bundle
from recorder.bundle.rows import read_placed_rows
from recorder.errors import BundleError


class DamagedBundle(Bundle):
    """As `Bundle`; events, rows, config and documents that are damaged are left out, as if they had not been recorded.

    run.json and the manifest must be whole: without them there is no run to tell of. Raises BundleError when run.json
    is not.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not self.info:
            raise BundleError(f"{layout.RUN} of {path.name} is damaged: it is empty")

    @cached_property
    def course(self) -> Course:
        """What happened, as far as the ledger still tells."""
        course = Course()
        for event in self.events():
            try:
                course.follow(event)
            except (LookupError, TypeError, AttributeError):
                continue
        return course

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event that can be read."""
        return (event for _, event in self.placed_events())

    def placed_events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same, each with the path of the segment that holds it."""
        for path in layout.segments(self.path, layout.LEDGER):
            for line in path.read_bytes().split(b"\n"):
                try:
                    event = json.loads(line)
                    is_event = isinstance(event["fields"], dict) and isinstance(event["type"], str)
                except (ValueError, LookupError, TypeError, RecursionError):
                    continue
                if is_event:
                    yield f"{layout.LEDGER}/{path.name}", event

    def rows(self, series: str = layout.METRICS, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row that can be read."""
        for _, row in self.placed_rows(series):
            yield row if columns is None else {name: value for name, value in row.items() if name in columns}

    def placed_rows(self, series: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The same, each with the path of the segment that holds it; of a damaged segment those before the damage."""
        for path in layout.segments(self.path, series):
            try:
                yield from read_placed_rows(self.path, series, path)
            except BundleError:
                continue

    @property
    def config(self) -> dict[str, Any]:
        """The config, if it can be read."""
        try:
            return super().config
        except BundleError:
            return {}

    def _json(self, path: str) -> dict[str, Any] | None:
        try:
            return super()._json(path)
        except BundleError:
            if path == layout.RUN:
                raise
            return None
