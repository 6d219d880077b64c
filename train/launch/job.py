"""What a worker is told: one frozen value, made by the driver for each process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


def rank_of(worker: str) -> int:
    """The rank of the worker of that name."""
    return int(worker.removeprefix("rank-").partition(".")[0])


@dataclass(frozen=True)
class Job:
    """One worker process: the `incarnation`-th of its `rank` in this attempt, counted from 0.

    `config` is plain, as recorded; paths are valid on every node of the run. `coordinator` and `meeting` are addresses
    (`host:port`) in the driver, which answers those who know `token`.
    """

    config: dict[str, Any]
    bundle: str
    data: str
    spool: str
    attempt: int
    rank: int
    incarnation: int
    coordinator: str
    meeting: str
    token: str
    source_digest: str
    device: str

    @property
    def worker(self) -> str:
        """The name of the process in the record."""
        return f"rank-{self.rank}.{self.incarnation}"

    def message(self) -> dict[str, Any]:
        """As plain values, which a worker can read before it has this project's code."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """The job that `message` was made from."""
        return cls(**message)
