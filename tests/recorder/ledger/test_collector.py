from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import BundleError
from recorder.ledger.collector import Collected, Collector
from recorder.ledger.ledger import SpoolOrigin
from recorder.ledger.logs import LogSource
from recorder.ledger.spool import SpoolWriter
from recorder.ledger.steps import StepAssembler
from recorder.worker import WorkerRecorder


class Killed(Exception):
    """The collector's process ends here."""


class Notebook:
    """A destination that remembers everything, and can be told to be killed after some entries."""

    attempt = 1

    def __init__(self, killed_after: int | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any], SpoolOrigin | None]] = []
        self.rows: list[dict[str, Any]] = []
        self.lines: list[tuple[LogSource, str]] = []
        self.killed_after = killed_after

    def _enter(self) -> None:
        if self.killed_after is not None and len(self.events) + len(self.rows) + len(self.lines) >= self.killed_after:
            raise Killed

    def add_event(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> None:
        self._enter()
        if type == "malformed":
            raise BundleError("no such event")
        self.events.append((type, fields, origin))

    def add_row(self, row: dict[str, Any], differing: Any) -> None:
        self._enter()
        self.rows.append(row | ({"differing": differing} if differing else {}))

    def add_line(self, source: LogSource, time: float, text: str) -> None:
        self._enter()
        self.lines.append((source, text))

    def lines_recorded(self, source: LogSource) -> int:
        return sum(line[0] == source for line in self.lines)

    def collected(self) -> Collected:
        """What a ledger with these events tells of the collector that wrote them."""
        collected = Collected()
        for type, fields, origin in self.events:
            event = {"type": type, "fields": fields} | ({"spool": origin[0], "spool_seq": origin[1]} if origin else {})
            collected.follow(event)
        return collected

    def texts(self, stream: str, incarnation: int = 0) -> list[str]:
        return [text for source, text in self.lines if source[1:] == (incarnation, stream)]


def new_collector(folder: Path, notebook: Notebook, recovering: bool = False) -> Collector:
    assembler = StepAssembler(1, notebook.rows if recovering else ())
    return Collector(folder, notebook, assembler, notebook.collected() if recovering else None, lambda: 1.0)


def test_every_kind_of_record_finds_its_place(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    worker.log({"accuracy": 0.5})
    worker.step(1, loss=2.0, fingerprint=None)
    worker.event("note", text="hi")
    worker.spool.write("log", {"level": "INFO", "logger": "root", "text": "hello"})
    (tmp_path / "rank-0.0.out").write_bytes(b"printed\n")
    (tmp_path / "rank-0.0.err").write_bytes(b"complained\n")
    (tmp_path / "stop.json").write_bytes(b"{}")
    notebook = Notebook()
    new_collector(tmp_path, notebook).finish()
    (row,) = notebook.rows
    assert {name: row[name] for name in ("attempt", "step", "loss", "accuracy", "worker_rank")} == {
        "attempt": 1,
        "step": 1,
        "loss": 2.0,
        "accuracy": 0.5,
        "worker_rank": [0],
    }
    ((type, fields, origin),) = notebook.events
    assert (type, fields, origin and origin[:2]) == ("note", {"text": "hi"}, ("rank-0.0.spool", 3))
    assert notebook.lines == [
        (LogSource("rank-0", 0, "stderr"), "complained"),
        (LogSource("rank-0", 0, "stdout"), "printed"),
        (LogSource("rank-0", 0, "logging"), "INFO root: hello"),
    ]


def test_what_came_since_the_last_look_comes_once(tmp_path: Path) -> None:
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    assert collector.poll() == 0
    worker = WorkerRecorder(tmp_path, "rank-0")
    for number in range(3):
        worker.event("note", number=number)
        with (tmp_path / "rank-0.0.out").open("ab") as file:
            file.write(b"line %d\nhalf" % number)
        collector.poll()
    collector.finish()
    collector.finish()
    assert [fields["number"] for _, fields, _ in notebook.events] == [0, 1, 2]
    assert notebook.texts("stdout") == ["line 0", "halfline 1", "halfline 2", "half [unfinished]"]


def test_steps_wait_for_all_workers_and_not_beyond_the_end(tmp_path: Path) -> None:
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    workers = [WorkerRecorder(tmp_path, f"rank-{rank}", 0, rank, 2) for rank in range(2)]
    workers[0].step(1, loss=1.0)
    collector.poll()
    assert notebook.rows == []
    workers[1].step(1, loss=1.5)
    workers[0].step(2, loss=1.0)
    collector.finish()
    assert [(row["step"], row["worker_rank"], row.get("differing")) for row in notebook.rows] == [
        (1, [0, 1], ["loss"]),
        (2, [0], None),
    ]
    workers[1].step(2, loss=1.0)
    collector.poll()
    assert [(row["step"], row["worker_rank"], row["late"]) for row in notebook.rows[2:]] == [(2, [1], 1)]


def test_steps_of_earlier_memberships_wait_no_longer_than_told(tmp_path: Path) -> None:
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    worker = WorkerRecorder(tmp_path, "rank-0", 0, 0, 2)
    for membership in range(3):
        worker.enter(membership, 2)
        worker.step(membership + 1, loss=1.0)
    collector.poll()
    for before, recorded in ((0, []), (1, [1]), (1, [1]), (2, [1, 2]), (None, [1, 2, 3])):
        collector.flush(before)
        assert [row["step"] for row in notebook.rows] == recorded


# A line of a spool that no writer of ours writes, with each kind of thing that can be wrong with it.
DAMAGE: dict[str, bytes] = {
    "no JSON": b"\x00\x00\x00\n",
    "no object": b"[1]\n",
    "no kind": b"{}\n",
    "unknown kind": b'{"t":1,"k":"later"}\n',
    "a step without a number": b'{"t":1,"k":"step"}\n',
    "a malformed event": b'{"t":1,"k":"event","type":"malformed","fields":{}}\n',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_kept_aside_and_stops_nothing(tmp_path: Path, damage: str) -> None:
    writer = SpoolWriter(tmp_path / "rank-0.0.spool")
    writer.write("event", {"type": "before", "fields": {}})
    offset = writer.path.stat().st_size
    with writer.path.open("ab") as file:
        file.write(DAMAGE[damage])
    writer.write("event", {"type": "after", "fields": {}})
    notebook = Notebook()
    new_collector(tmp_path, notebook).finish()
    assert [type for type, _, _ in notebook.events] == ["before", "spool.torn", "after"]
    fields = notebook.events[1][1]
    assert (fields["spool"], fields["offset"], fields["bytes"]) == ("rank-0.0.spool", offset, len(DAMAGE[damage]))
    assert base64.b64decode(fields["base64"]) == DAMAGE[damage]


def test_a_torn_end_is_kept_once(tmp_path: Path) -> None:
    (tmp_path / "rank-0.0.spool").write_bytes(b'{"t":1,"k":"event","type":"note","fields":{}}\n{"t":1,"k')
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    collector.finish()
    collector.finish()
    new_collector(tmp_path, notebook, recovering=True).finish()
    assert [type for type, _, _ in notebook.events] == ["note", "spool.torn"]
    assert base64.b64decode(notebook.events[1][1]["base64"]) == b'{"t":1,"k'


def test_lines_of_processes_that_shared_a_rank_are_counted_apart(tmp_path: Path) -> None:
    """The first one hangs on and prints while the second, which took over its rank, does: only `first 1` and `second 1`
    were carried when the collector was killed."""
    (tmp_path / "rank-0.0.out").write_bytes(b"first 1\n")
    (tmp_path / "rank-0.1.out").write_bytes(b"second 1\n")
    notebook = Notebook()
    new_collector(tmp_path, notebook).poll()
    (tmp_path / "rank-0.0.out").write_bytes(b"first 1\nfirst 2\n")
    (tmp_path / "rank-0.1.out").write_bytes(b"second 1\nsecond 2\nsecond 3")
    new_collector(tmp_path, notebook, recovering=True).finish()
    assert notebook.texts("stdout", 0) == ["first 1", "first 2"]
    assert notebook.texts("stdout", 1) == ["second 1", "second 2", "second 3 [unfinished]"]


def write_everything(folder: Path, rng: random.Random) -> Callable[[], None]:
    """Two ranks, each taken over in a later membership, with all they can leave; each call writes the next of it."""
    workers = [WorkerRecorder(folder, f"rank-{rank}", taken, rank, 2) for taken in range(2) for rank in range(2)]
    for worker in workers[2:]:
        worker.enter(1, 2)
    numbers = dict.fromkeys(workers, 0)

    def write() -> None:
        worker = rng.choice(workers)
        numbers[worker] += 1
        number, name = numbers[worker], worker.spool.path.stem
        kind = rng.randrange(5)
        if kind == 0:
            worker.event("note", name=name, number=number)
        elif kind == 1:
            worker.spool.write("log", {"level": "INFO", "logger": name, "text": str(number)})
        elif kind == 2:
            with worker.spool.path.open("ab") as file:
                file.write(b"damaged %d of %s\n" % (number, name.encode()))
        elif kind == 3:
            with (folder / f"{name}.out").open("ab") as file:
                file.write(b"%s %d\n" % (name.encode(), number))
        else:
            worker.step(number, loss=1.0)

    return write


@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 25)), max_size=4))
@settings(deadline=None, max_examples=60)
def test_however_often_the_collector_is_killed_everything_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, lives: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    write, notebook = write_everything(folder, random.Random(seed)), Notebook()
    for number, (writes, entries) in enumerate(lives):
        notebook.killed_after = len(notebook.events) + len(notebook.rows) + len(notebook.lines) + entries
        collector = new_collector(folder, notebook, recovering=number > 0)
        try:
            for _ in range(writes):
                write()
                collector.poll()
        except Killed:
            pass
    notebook.killed_after = None
    new_collector(folder, notebook, recovering=True).finish()

    straight = Notebook()
    new_collector(folder, straight).finish()
    assert sorted(map(repr, notebook.lines)) == sorted(map(repr, straight.lines))
    assert sorted(map(repr, notebook.events)) == sorted(map(repr, straight.events))
    assert parts(notebook) == parts(straight)
    for spool in ("rank-0.0", "rank-1.1"):
        in_order = [fields["number"] for _, fields, _ in notebook.events if fields.get("name") == spool]
        assert in_order == sorted(in_order)


def parts(notebook: Notebook) -> list[tuple[int, int, int]]:
    return sorted((row["membership"], row["step"], rank) for row in notebook.rows for rank in row["worker_rank"])


def test_the_folder_may_not_be_there(tmp_path: Path) -> None:
    collector = new_collector(tmp_path / "none", Notebook())
    assert collector.poll() == 0
    collector.finish()


def test_an_event_carries_what_json_says(tmp_path: Path) -> None:
    WorkerRecorder(tmp_path, "rank-0").event("note", values={3: float("nan")}, file="\udcff")
    notebook = Notebook()
    new_collector(tmp_path, notebook).finish()
    assert json.dumps(notebook.events[0][1]) == '{"values": {"3": "NaN"}, "file": "\\udcff"}'


def test_credentials_are_masked_before_they_reach_the_bundle(tmp_path: Path) -> None:
    token = "ghp_" + "aB3" * 12
    spool = SpoolWriter(tmp_path / "rank-0.0.spool", lambda: 1.0)
    spool.write("hello", {"pid": 1, "started": 1, "host": "node-a"})
    spool.write("log", {"level": "INFO", "logger": "x", "text": f"sent\n{token}"})
    (tmp_path / "rank-0.0.out").write_text(f"plain\n{token}\n")
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    collector.poll()
    with (tmp_path / "rank-0.0.out").open("a") as file:
        file.write(f"and {token}")
    collector.finish()
    texts = [*notebook.texts("stdout"), *notebook.texts("logging")]
    assert len(texts) == 4
    assert not any(token in text for text in texts)
    assert [text.count("<hidden:github-token:") for text in texts] == [0, 1, 1, 1]


def test_a_key_that_is_printed_in_parts_is_masked_whole(tmp_path: Path) -> None:
    body = ["MIIE" + "q7" * 30, "b8" * 32, "c9" * 32]
    lines = ["-----BEGIN " + "PRIVATE KEY-----", *body, "-----END " + "PRIVATE KEY-----", "x" * 32]
    notebook = Notebook()
    collector = new_collector(tmp_path, notebook)
    for line in lines:
        with (tmp_path / "rank-0.0.out").open("a") as file:
            file.write(f"{line}\n")
        collector.poll()
    assert [text for text in notebook.texts("stdout") if "<hidden:private-key:" not in text] == [lines[0], *lines[4:]]


def test_what_is_kept_of_a_torn_record_has_no_credentials(tmp_path: Path) -> None:
    token = "ghp_" + "aB3" * 12
    torn = b'{"t":1,"k":"message","text":"\xff used ' + token.encode() + b", then"
    (tmp_path / "rank-0.0.spool").write_bytes(b"no JSON, " + token.encode() + b"\n" + torn)
    notebook = Notebook()
    new_collector(tmp_path, notebook).finish()
    kept = [base64.b64decode(fields["base64"]) for _, fields, _ in notebook.events]
    assert [len(kept), sum(token.encode() in data for data in kept)] == [2, 0]
    assert kept[1].startswith(b'{"t":1,"k":"message","text":"\xff used <hidden:github-token:')
    assert kept[1].endswith(b">, then")
    assert notebook.events[1][1]["bytes"] == len(torn)
