"""Events in words, one short line each."""

from __future__ import annotations

from typing import Any

from recorder.bundle.step_ranges import shown
from recorder.cli.console import printable
from recorder.cli.quantities import count, duration, size
from recorder.ledger import events

# What only says where the record itself is kept.
BOOKKEEPING = {
    events.SEGMENT_OPENED,
    events.SEGMENT_CLOSED,
    events.LOG_EXTENDED,
    events.LOG_CLOSED,
    events.SNAPSHOT_SAVED,
    events.EXCHANGE_FAILED,
}

_TEMPLATES = {
    events.RUN_STARTED: "the run begins, {files} captured",
    events.RUN_ENDED: "the run ends: {outcome}",
    events.ATTEMPT_STARTED: "attempt begins on {host}: {command}",
    events.ATTEMPT_ENDED: "attempt ends: {outcome}",
    events.ATTEMPT_FENCED: "process {pid} of a dead attempt was killed",
    events.SEGMENT_TORN: "{path} ended in a torn record of {bytes} bytes, which is kept",
    events.SPOOL_TORN: "{spool} ended in a torn record of {bytes} bytes, which is kept",
    events.RECORD_GAP: "a gap in the record: {reason}",
    events.STEP_REDONE: "{steps} will be redone",
    events.STEP_DIVERGED: "workers disagree about step {step}: {differing}",
    events.STEP_NON_FINITE: "step {step} is not finite: loss {loss}, gradient norm {grad_norm}; policy: {policy}",
    events.EVALUATED: "validation loss {loss} at step {step}",
    events.SAMPLE: "sample at step {step}: {prompt}{text}",
    events.CHECKPOINT_SAVED: "checkpoint of step {step} saved, {files}",
    events.CHECKPOINT_RESTORED: "state of step {step} restored from {source}: {reason}",
    events.CHECKPOINT_REMOVED: "checkpoint of step {step} removed: {reason}",
    events.CHECKPOINT_FAILED: "{path} failed: {reason}",
    events.SNAPSHOT_SAVED: "state of step {step} saved in the memory of node {node}",
    events.SNAPSHOT_SKIPPED: "state of step {step} not saved in the memory of node {node}: {reason}",
    events.STATE_RECEIVED: "rank {rank} receives the state of step {step} from rank {from_rank}",
    events.STATE_DIFFERS: "the workers' {subject}s of step {step} differ, expelled: rank {expelled}",
    events.WORKER_JOINED: "rank {rank} joins on {host}, pid {pid}, micro-batches {micro_batches}, {device}",
    events.WORKER_LOST: "rank {rank} is lost, {process}: {cause}",
    events.WORKER_EXPELLED: "rank {rank} is expelled, pid {pid}: {reason}",
    events.WORKER_DRAINED: "rank {rank} leaves after step {step}: {reason}",
    events.WORKER_FINISHED: "rank {rank} ends at step {step}: {outcome}",
    events.NODE_JOINED: "node {node} joins",
    events.NODE_ENVIRONMENT: "node {node} is recorded",
    events.NODE_LOST: "node {node} is lost: {cause}",
    events.CLUSTER_LOST: "the whole cluster is lost",
    events.NODE_DRAINING: "node {node} is to be drained: {reason}",
    events.NODE_DIFFERS: "node {node} differs from the first: {differences}",
    events.MEMBERSHIP_CHANGED: "membership {membership}: {workers}{why}",
    events.TRAINING_RESUMED: "training goes on {seconds} after the loss: {steps_redone}, {worker_seconds_lost} lost",
    events.RUN_SCALED: "the run is to have {workers}, before: {before}",
    events.EXCHANGE_FAILED: "rank {rank} lost its peers: {message}",
    events.EXCEPTION: "rank {rank} raised {kind}: {message}",
    events.SIGNAL: "the driver received {signal}",
    events.STOP_REQUESTED: "asked to stop: {reason}",
    events.TRACKING_STARTED: "tracked in DVC by {pointer}, files by {link}",
    events.TRACKING_NOTED: "DVC: {reason}",
    events.TRACKING_FAILED: "not tracked in DVC for now: {reason}",
    events.OBJECT_DAMAGED: "{path} is damaged in the {place}: {reason}",
    events.PUSH_STARTED: "pushing to the remote {remote} begins",
    events.PUSH_FAILED: "the remote {remote} takes nothing, {waiting} waiting: {reason}",
    events.PUSH_RESUMED: "the remote {remote} takes objects again",
    events.PUSH_ENDED: "pushing to the remote {remote} ends, {waiting} waiting",
}
_LONGEST = 100


class _Said(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def words(kind: str, fields: dict[str, Any]) -> str:
    """An event in words; one of a kind that is not known here by its type and fields."""
    said = _Said({name: _value(name, value) for name, value in fields.items()})
    if kind in _TEMPLATES:
        said["steps"] = _steps(fields.get("first"), fields.get("last"))
        said["process"] = f"pid {pid}" if (pid := fields.get("pid")) is not None else "before it joined"
        said["why"] = f" ({fields['reason']})" if "reason" in fields else ""
    template = _TEMPLATES.get(kind)
    text = template.format_map(said) if template else " ".join([kind, *(f"{k}={v}" for k, v in said.items())])
    one_line = " ".join(printable(" ".join(text.split())).split())
    return one_line if len(one_line) <= _LONGEST else f"{one_line[: _LONGEST - 1]}…"


def _value(name: str, value: Any) -> str:
    if name == "files" and isinstance(value, dict):
        return _files(value)
    if name == "workers" and isinstance(value, list | int):
        return count(value if isinstance(value, int) else len(value), "worker")
    if name == "steps_redone" and isinstance(value, int):
        return f"{count(value, 'step')} redone"
    if name == "worker_seconds_lost" and isinstance(value, int | float):
        return f"{value:.1f} worker-seconds"
    if name == "micro_batches" and isinstance(value, list) and len(value) == 2:
        return f"{value[0]} to {value[1] - 1}" if isinstance(value[1], int) else str(value)
    if name == "seconds" and isinstance(value, int | float):
        return duration(value)
    if name == "node":
        # Ray's names of nodes are 56 hexadecimal digits.
        return str(value)[:12]
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _steps(first: Any, last: Any) -> str:
    return shown((first, last)) if isinstance(first, int) and isinstance(last, int) else "steps"


def _files(value: dict[str, Any]) -> str:
    sizes = [record["size"] for record in value.values() if isinstance(record, dict) and "size" in record]
    return size(sum(sizes)) if sizes else count(len(value), "file")
