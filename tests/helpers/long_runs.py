"""A sealed bundle of a very long run in seconds: its closed segments are written as whole columns, without a chain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.bundles import BEGINNING
from helpers.records import DETERMINISM, captured_files, config_with
from recorder.bundle import layout
from recorder.bundle.manifest import build_manifest, write_manifest
from recorder.canonical import canonical_json, digest, readable_json, utc_text
from recorder.ledger import events

SECONDS = 0.5  # of a step
SPIKE, SPIKE_LOSS = 0.777_777, 1234.567890123456  # where in the run, and how high
DIP, DIP_LOSS = 0.333_333, 0.012345678901234567
NOT_A_NUMBER = 0.5
REDONE = 0.25  # attempt 1 ends here, and attempt 2 goes on a thousandth earlier


def long_run(root: Path, steps: int = 1_000_000, run_id: str = "long-1", segment: int = 100_000) -> Path:
    """A run of two attempts, with a checkpoint each 1,000 steps of which few were kept, snapshots and evaluations."""
    path = root / run_id
    config = config_with(train__steps=steps)
    _write(path / layout.RUN, readable_json(_identity(run_id)))
    for name, content in captured_files(config).items():
        _write(path / name, content)
    lost, back = int(REDONE * steps), int((REDONE - 0.001) * steps)
    parts = [(1, 0, 1, lost), (2, 0, back + 1, steps)]
    number = 0
    for attempt, membership, first, last in parts:
        for start in range(first, last + 1, segment):
            number += 1
            columns = _metrics(steps, attempt, membership, start, min(last, start + segment - 1))
            _segment(path, layout.METRICS, number, columns)
    _segment(path, layout.SYSTEM_METRICS, 1, _system(min(200_000, int(steps * SECONDS))))
    lines = [canonical_json(event) + b"\n" for event in _numbered(_events(steps, lost, back))]
    _write(path / layout.ledger_segment(1), b"".join(lines))
    manifest = build_manifest(path, outcome="finished", sealed=utc_text(BEGINNING), known={}, previous_root=None)
    write_manifest(path, manifest)
    return path


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _identity(run_id: str) -> dict[str, Any]:
    named = {"format": 1, "id": run_id, "created": utc_text(BEGINNING), "recorder": "0.1.0", "name": "long", "seed": 1}
    return named | {"command": "python train.py", "determinism": DETERMINISM, "parent": None}


def _metrics(steps: int, attempt: int, membership: int, first: int, last: int) -> dict[str, pa.Array]:
    step = np.arange(first, last + 1)
    noise = np.sin(step * 12.9898) * 43758.5453 % 1
    loss = 2 + 6 / (1 + step / (steps / 100)) + 0.2 * noise
    for place, value in ((SPIKE, SPIKE_LOSS), (DIP, DIP_LOSS), (NOT_A_NUMBER, math.nan)):
        loss[step == int(place * steps)] = value
    return {
        "step": pa.array(step),
        "attempt": pa.array(np.full(len(step), attempt)),
        "membership": pa.array(np.full(len(step), membership)),
        "time": _times(step * SECONDS),
        "loss": pa.array(loss),
        "learning_rate": pa.array(0.003 * (1 - step / (steps + 1))),
        "grad_norm": pa.array(1 + noise),
        "tokens": pa.array(step * 4096),
        "step_seconds": pa.array(np.full(len(step), SECONDS)),
        "order_digest": pa.array(["0" * 32] * len(step)),
        "worker_rank": pa.array([[0, 1]] * len(step)),
        "mine/spread": pa.array(noise),
    }


def _system(rows: int) -> dict[str, pa.Array]:
    seconds = np.arange(rows)
    busy = 50 + 50 * np.sin(seconds / 3000)
    used = {"cpu_percent": busy, "memory_used_bytes": busy * 1e8, "disk_read_bytes_per_s": busy * 1e5}
    columns = {name: pa.array(values) for name, values in used.items()}
    return {"attempt": pa.array(np.ones(rows, dtype=np.int64)), "time": _times(seconds * 1.0), **columns}


def _times(seconds: np.ndarray) -> pa.Array:
    start = np.datetime64(int(BEGINNING * 1e6), "us")
    stamps = start + (seconds * 1e6).astype("timedelta64[us]")
    return pa.array(np.char.add(np.datetime_as_string(stamps, unit="us"), "Z"))


def _segment(path: Path, series: str, number: int, columns: dict[str, pa.Array]) -> None:
    rows = len(next(iter(columns.values())))
    hashes = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(bytes(32 * rows))])
    described = {"header": {"series": series, "segment": number, "previous": None}, "prev": "0" * 64}
    table = pa.table(columns | {"hash": hashes}).replace_schema_metadata({b"run-recorder": canonical_json(described)})
    target = path / layout.closed_series(series, number)
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target, compression="zstd")


def _numbered(happened: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for seq, event in enumerate(happened, 1):
        yield event | {"seq": seq, "prev": "0" * 64, "hash": "0" * 64}


def _events(steps: int, lost: int, back: int) -> Iterator[dict[str, Any]]:
    def event(attempt: int, step: float, type_: str, /, **fields: Any) -> dict[str, Any]:
        return {"attempt": attempt, "time": utc_text(BEGINNING + step * SECONDS), "type": type_, "fields": fields}

    workers = [{"rank": r, "worker": f"rank-{r}.0", "node": f"node-{r}", "micro_batches": [r, r + 1]} for r in (0, 1)]
    changed = {"membership": 0, "reason": "start", "workers": workers}
    yield event(1, 0, events.RUN_STARTED, files={})
    for attempt, first, last in ((1, 0, lost), (2, back, steps)):
        yield event(attempt, first, events.ATTEMPT_STARTED, command="python train.py", host="node-0", pid=1, files={})
        if first:
            folder = layout.checkpoint_folder(first)
            yield event(
                2, first, events.CHECKPOINT_RESTORED, step=first, path=folder, source="storage", reason="resume"
            )
        for worker in workers:
            yield event(attempt, first, events.WORKER_JOINED, host=worker["node"], pid=2, membership=0, **worker)
        yield event(attempt, first, events.MEMBERSHIP_CHANGED, start_step=first, **changed)
        yield from _course(event, attempt, first, last, steps)
        if attempt == 1:
            gone = {"membership": 0, "last_step": last, "cause": "node lost", "evidence": {}}
            yield event(1, last, events.WORKER_LOST, rank=1, worker="rank-1.0", node="node-1", pid=2, **gone)
        outcome = "killed" if attempt == 1 else "finished"
        yield event(attempt, last, events.ATTEMPT_ENDED, outcome=outcome)
    yield event(2, steps, events.RUN_ENDED, outcome="finished")


def _course(event: Any, attempt: int, first: int, last: int, steps: int) -> Iterator[dict[str, Any]]:
    every = max(1, steps // 1000)
    files = {"model.safetensors": {"size": 10, "blake3": digest(b"model"), "md5": "0" * 32}}
    for step in range(first + every - first % every, last + 1, every):
        path = layout.checkpoint_folder(step)
        yield event(
            attempt, step, events.EVALUATED, step=step, split="validation", loss=2 + 5 / (1 + 100 * step / steps)
        )
        yield event(attempt, step, events.CHECKPOINT_SAVED, step=step, path=path, files=files)
        yield event(
            attempt, step, events.SAMPLE, step=step, prompt="Once", text=f" upon a time, {step} steps ago.\n" * 40
        )
        if step % (100 * every) and step != steps:
            yield event(attempt, step, events.CHECKPOINT_REMOVED, step=step, path=path, reason="keep")
    for step in range(first + 20, last + 1, 20):
        named = {"node": "node-0", "rank": 0, "worker": "rank-0.0"}
        yield event(attempt, step, events.SNAPSHOT_SAVED, step=step, **named)
