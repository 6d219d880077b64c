"""What is in a page, and a run whose every name and text tries to break out of one."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from helpers.bundles import RunBuilder
from helpers.records import config_with
from recorder.ledger import events

HOSTILE = "</script><script>alert('1')</script><img src=x onerror=alert(2)>\"'&\u202e\x1b]0;\u2028]]>--><!--"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and all of its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def data_of(page: str) -> dict[str, Any]:
    """What a page holds for its script."""
    found = re.search(r'<script id="page-data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def chart(page: str, title: str) -> dict[str, Any]:
    """The chart of this title in a report's data."""
    return next(found for found in data_of(page)["charts"] if found["title"] == title)


def hostile_run(root: Path) -> Path:
    config = config_with(run__name=HOSTILE, optim__schedule=HOSTILE)
    """A sealed bundle of a failed run, with `HOSTILE` wherever a bundle can hold text."""
    builder = RunBuilder(root, config=config, name=HOSTILE, command=f"python {HOSTILE}").create().join().steps(1, 4)
    builder.ranks[0].event(events.SAMPLE, step=4, prompt=HOSTILE, text=HOSTILE)
    builder.run.event(events.WORKER_LOST, rank=1, worker=HOSTILE, node=HOSTILE, pid=1, cause=HOSTILE, evidence="")
    builder.run.event(events.NODE_LOST, node=HOSTILE, cause=HOSTILE)
    builder.run.event(f"mine.{HOSTILE}", text=HOSTILE)
    return builder.close("failed")
