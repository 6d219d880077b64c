"""One row a step out of what each worker wrote of it."""

from __future__ import annotations

from typing import Any

# What every worker must agree on, bit for bit; the rest of a part is its own.
SHARED = ("loss", "learning_rate", "grad_norm", "tokens", "order_digest", "gradient_digest", "fingerprint", "skipped")
TIMES = ("compute_seconds", "exchange_seconds", "update_seconds", "step_seconds")

Key = tuple[int, int, int]


class StepAssembler:
    """Joins the parts of a step, one a worker, into its row.

    A row is handed out when all workers of the membership have sent their part, or when `flush` is called. A part that
    comes after its row becomes a row of its own marked `late`: nothing recorded is dropped.
    """

    def __init__(self, written: set[tuple[int, int, int, int]] | None = None) -> None:
        self._pending: dict[Key, dict[int, dict[str, Any]]] = {}
        self._written_parts = written if written is not None else set()
        self._rows = {part[:3] for part in self._written_parts}

    def add(self, attempt: int, part: dict[str, Any]) -> dict[str, Any] | None:
        """Take one worker's part; the step's row when it is complete. A part that was written before is ignored."""
        key = (attempt, part["membership"], part["step"])
        if (*key, part["rank"]) in self._written_parts:
            return None
        if key in self._rows:
            return self._row(key, {part["rank"]: part}) | {"late": 1}
        parts = self._pending.setdefault(key, {})
        parts[part["rank"]] = part
        return self._row(key, self._pending.pop(key)) if len(parts) == part["workers"] else None

    def flush(self) -> list[dict[str, Any]]:
        """The rows of all steps that still lack a worker's part, in order."""
        keys = sorted(self._pending)
        return [self._row(key, self._pending.pop(key)) for key in keys]

    @staticmethod
    def disagreement(parts: list[dict[str, Any]]) -> list[str]:
        """The shared values on which workers differ; empty when the step has one truth."""
        return [name for name in SHARED if len({repr(part.get(name)) for part in parts}) > 1]

    def _row(self, key: Key, parts: dict[int, dict[str, Any]]) -> dict[str, Any]:
        ranks = sorted(parts)
        ordered = [parts[rank] for rank in ranks]
        self._rows.add(key)
        self._written_parts.update((*key, rank) for rank in ranks)
        first = ordered[0]
        row: dict[str, Any] = {"attempt": key[0], "membership": key[1], "step": key[2], "time": first["time"]}
        row |= {name: first[name] for name in SHARED if first.get(name) is not None}
        row["step_seconds"] = max(part["step_seconds"] for part in ordered)
        row["worker_rank"] = ranks
        row |= {f"worker_{name}": [part.get(name, 0.0) for part in ordered] for name in TIMES}
        for part in reversed(ordered):
            row |= part.get("logged") or {}
        if differing := self.disagreement(ordered):
            row["_differing"] = differing
        return row


def written_parts(rows: list[dict[str, Any]]) -> set[tuple[int, int, int, int]]:
    """(attempt, membership, step, rank) of every part in `rows`, so that a recovered spool adds nothing twice."""
    return {
        (row["attempt"], row["membership"], row["step"], rank) for row in rows for rank in row.get("worker_rank", [])
    }
