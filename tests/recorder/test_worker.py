from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from recorder import worker as worker_module
from recorder.errors import RecordingError
from recorder.ledger.processes import start_ticks
from recorder.ledger.records import Event, Hello, Part, read_record
from recorder.ledger.spool import SpoolReader
from recorder.worker import WorkerRecorder


def said(worker: WorkerRecorder) -> list[Any]:
    return [read_record(line.record or {}) for line in SpoolReader(worker.spool.path).read()]


def parts(worker: WorkerRecorder) -> list[Part]:
    return [record for record in said(worker) if isinstance(record, Part)]


def test_the_spool_begins_with_who_writes_it(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-3", incarnation=2, rank=3, workers=4)
    assert worker.spool.path == tmp_path / "rank-3.2.spool"
    (hello,) = said(worker)
    assert isinstance(hello, Hello)
    assert (hello.pid, hello.started) == (os.getpid(), start_ticks(os.getpid()))


def test_a_step_comes_back_bit_for_bit(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-1", rank=1)
    worker.enter(2, 4)
    worker.log({"accuracy": 0.1 + 0.2, "count": 3})
    worker.log({"accuracy": 0.5, "odd": math.inf})
    values = {"loss": math.nan, "learning_rate": -0.0, "grad_norm": 1, "tokens": 64, "step_seconds": 0.25}
    worker.step(7, fingerprint=None, order_digest="ab", **values)
    worker.step(8)
    first, second = parts(worker)
    assert (first.step, first.membership, first.rank, first.workers) == (7, 2, 1, 4)
    assert math.isnan(first.shared.pop("loss"))
    assert math.copysign(1, first.shared["learning_rate"]) == -1
    assert first.shared == {"learning_rate": 0.0, "grad_norm": 1.0, "tokens": 64, "order_digest": "ab"}
    assert first.times == {"step_seconds": 0.25}
    assert first.logged == {"accuracy": 0.5, "count": 3.0, "odd": math.inf}
    assert (second.shared, second.times, second.logged) == ({}, {}, {})


def test_a_step_is_of_the_membership_that_was_entered_last(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-2", incarnation=3, rank=2, workers=3)
    worker.step(1)
    worker.log({"accuracy": 0.5})
    worker.enter(1, 2)
    worker.step(2)
    worker.enter(7, 1)
    worker.step(2)
    identities = [(part.step, part.membership, part.rank, part.workers) for part in parts(worker)]
    assert identities == [(1, 0, 2, 3), (2, 1, 2, 2), (2, 7, 2, 1)]
    assert [part.logged for part in parts(worker)] == [{}, {"accuracy": 0.5}, {}]


def test_a_step_is_one_write_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    calls, write = [], os.write
    monkeypatch.setattr(os, "write", lambda handle, data: calls.append(data) or write(handle, data))
    worker.log({"accuracy": 0.5})
    worker.step(1, loss=1.0)
    assert len(calls) == 1


def test_events_carry_what_they_were_given(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    worker.event("note", type="mine", loss=math.nan)
    assert isinstance(event := said(worker)[1], Event)
    assert (event.type, event.fields) == ("note", {"type": "mine", "loss": "NaN"})


class Pair:
    """As a tensor with two elements behaves."""

    def __float__(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


@pytest.mark.parametrize("value", ["0.5", None, [1.0], 1j, 10**400, Pair(), object()])
def test_what_is_not_a_number_is_refused_and_nothing_is_logged(tmp_path: Path, value: Any) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    with pytest.raises(ValueError, match=f"metric 'bad' is {type(value).__name__}; log a number"):
        worker.log({"good": 1.0, "bad": value})
    worker.step(1)
    assert parts(worker)[0].logged == {}


@pytest.mark.parametrize("name", ["loss", "step", "hash", "prev", "header", "_x", "", "a\n", 3])
def test_names_of_the_record_are_refused(tmp_path: Path, name: Any) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    for _ in range(2):
        with pytest.raises(ValueError, match="choose"):
            worker.log({"good": 1.0, name: 1.0})


def test_a_value_that_a_step_does_not_have_is_refused(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    with pytest.raises(ValueError, match="a step has no accuracy, k; record numbers of your own with log"):
        worker.step(1, loss=1.0, k=2, accuracy=0.5)


def test_what_was_logged_is_not_lost_with_a_step_that_could_not_be_written(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    worker.log({"accuracy": 0.5})
    with pytest.raises(TypeError):
        worker.step(1, loss=object())
    worker.step(1)
    assert parts(worker)[0].logged == {"accuracy": 0.5}


@pytest.mark.parametrize("origin", ["", "../rank-0", "rank.0", "Rank-0", "rank 0", "a/b", "-x"])
def test_an_origin_that_cannot_name_a_file_is_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ValueError, match="is not allowed: lower-case letters, digits, '_' and '-'"):
        WorkerRecorder(tmp_path, origin)


def test_two_processes_cannot_be_the_same_one(tmp_path: Path) -> None:
    WorkerRecorder(tmp_path, "rank-0")
    with pytest.raises(RecordingError, match=r"rank-0\.0\.spool: File exists"):
        WorkerRecorder(tmp_path, "rank-0")
    WorkerRecorder(tmp_path, "rank-0", incarnation=1)


def test_log_writes_to_the_active_recorder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="outside a recorded run"):
        worker_module.log({"accuracy": 0.5})
    worker = WorkerRecorder(tmp_path, "rank-0")
    worker.activate()
    worker_module.log({"accuracy": 0.5})
    worker.step(1)
    worker.close()
    worker.close()
    assert parts(worker)[0].logged == {"accuracy": 0.5}
    with pytest.raises(RuntimeError, match="outside a recorded run"):
        worker_module.log({"accuracy": 0.5})


def test_a_stop_that_was_asked_for_is_seen(tmp_path: Path) -> None:
    worker = WorkerRecorder(tmp_path, "rank-0")
    assert not worker.mailbox.stop_requested()
    worker.mailbox.request_stop("SIGTERM")
    worker.mailbox.request_stop("SIGINT")
    assert worker.mailbox.stop_requested()
    assert (tmp_path / "stop.json").read_text() == '{"reason": "SIGTERM"}'
