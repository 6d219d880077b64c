"""What the records of a spool say, checked as they are read: `hello`, `step`, `event` and `log`.

Whatever a worker's process wrote is turned into one of these or refused as a whole, so that nothing it wrote can stop
the collector, or come half into the bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recorder.canonical import utc_text
from recorder.ledger.columns import INTEGER, TEXT, check_user_metric, column_type
from recorder.ledger.numbers import unpack_numbers

# What every worker must agree on, bit for bit.
SHARED = ("loss", "learning_rate", "grad_norm", "tokens", "order_digest", "gradient_digest", "fingerprint", "skipped")
# What is each worker's own.
TIMES = ("compute_seconds", "exchange_seconds", "update_seconds", "step_seconds")


@dataclass(frozen=True)
class Hello:
    """Who writes the spool; always the first record. `started` is the process's start time, see `processes`."""

    pid: int
    started: int
    host: str


@dataclass(frozen=True)
class Part:
    """What one worker recorded of one step: `shared` and `times` by the names above, `logged` by the user's names."""

    step: int
    membership: int
    rank: int
    workers: int
    time: str
    shared: dict[str, Any]
    times: dict[str, float]
    logged: dict[str, float]


@dataclass(frozen=True)
class Event:
    """Something that happened at POSIX `time`."""

    type: str
    fields: dict[str, Any]
    time: float


@dataclass(frozen=True)
class Message:
    """One record of `logging`, from POSIX `time`."""

    text: str
    time: float


def read_record(record: dict[str, Any]) -> Hello | Part | Event | Message:
    """What `record` says. Raises ValueError for what no writer of ours writes."""
    try:
        return _READERS[record["k"]](record)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"it is no record of a spool ({error!r})") from None


def _hello(record: dict[str, Any]) -> Hello:
    return Hello(_integer(record, "pid"), _integer(record, "started"), _text(record, "host"))


def _part(record: dict[str, Any]) -> Part:
    logged = unpack_numbers(record["logged"])
    for name in logged:
        check_user_metric(name)
    values = record | unpack_numbers(record["numbers"])
    return Part(
        step=_integer(record, "step"),
        membership=_integer(record, "membership"),
        rank=_integer(record, "rank"),
        workers=_integer(record, "workers"),
        time=utc_text(record["t"]),
        shared={name: _shared(values, name) for name in SHARED if name in values},
        times={name: float(values[name]) for name in TIMES if name in values},
        logged=logged,
    )


def _event(record: dict[str, Any]) -> Event:
    type, fields = _text(record, "type"), record["fields"]
    if not type or not isinstance(fields, dict):
        raise TypeError("no event")
    utc_text(record["t"])
    return Event(type, fields, record["t"])


def _message(record: dict[str, Any]) -> Message:
    utc_text(record["t"])
    return Message(f"{_text(record, 'level')} {_text(record, 'logger')}: {_text(record, 'text')}", record["t"])


_READERS: dict[str, Callable[[dict[str, Any]], Hello | Part | Event | Message]] = {
    "hello": _hello,
    "step": _part,
    "event": _event,
    "log": _message,
}


def _shared(values: dict[str, Any], name: str) -> Any:
    kind = column_type(name)
    if kind == TEXT:
        return _text(values, name)
    return _integer(values, name) if kind == INTEGER else float(values[name])


def _integer(record: dict[str, Any], name: str) -> int:
    value = record[name]
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"{name} is {value!r}")
    return value


def _text(record: dict[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}")
    return value
