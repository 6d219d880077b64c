"""What a worker is told: one frozen value, made by the driver, the same for every rank."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Job:
    """One launch of a group of workers. `config` is plain, as recorded; paths are valid on every node of the run."""

    config: dict[str, Any]
    bundle: str
    data: str
    spool: str
    attempt: int
    membership: int
    start_step: int
    restore: str | None
    config_digest: str
    source_digest: str
    determinism: str
    driver_host: str
    driver_pid: int
    driver_started: int
    device: str

    @property
    def workers(self) -> int:
        """How many workers share the run."""
        workers: int = self.config["cluster"]["workers"]
        return workers

    def message(self) -> dict[str, Any]:
        """As plain values, which a worker can read before it has this project's code."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """The job that `message` was made from."""
        return cls(**message)
