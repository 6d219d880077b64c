"""Who trained in one attempt, and how each worker ended, as its events say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from recorder.ledger import events
from recorder.ledger.spool import SUFFIX

Fields = dict[str, Any]

_ENDS = {events.WORKER_FINISHED: "finished", events.WORKER_DRAINED: "drained", events.WORKER_LOST: "lost"}


@dataclass
class MemberFacts:
    """Memberships and workers of one attempt.

    A worker is named by its process, `rank-<r>.<n>`. Records in which workers have no such names (those of older
    versions, and of training scripts that write their own events) leave `accounted` False: they promise less.
    """

    memberships: list[Fields] = field(default_factory=list)
    ends: defaultdict[str, list[tuple[str, Fields]]] = field(default_factory=lambda: defaultdict(list))
    expelled: list[str] = field(default_factory=list)
    torn: set[str] = field(default_factory=set)  # spools that ended in a torn record
    outcome: str | None = None
    has_gap: bool = False
    _has_named_joins: bool = False

    def follow(self, kind: str, fields: Fields) -> None:
        """Take the next event of the attempt, well formed by its schema."""
        if kind in _ENDS and "worker" in fields:
            self.ends[fields["worker"]].append((_ENDS[kind], fields))
        elif kind == events.WORKER_EXPELLED:
            self.expelled.append(fields["worker"])
        elif kind == events.MEMBERSHIP_CHANGED:
            self.memberships.append(fields)
        elif kind == events.WORKER_JOINED:
            self._has_named_joins |= "worker" in fields
        elif kind == events.ATTEMPT_ENDED:
            self.outcome = fields["outcome"]
        elif kind == events.SPOOL_TORN:
            self.torn.add(fields["spool"])
        elif kind == events.RECORD_GAP:
            self.has_gap = True

    @property
    def accounted(self) -> bool:
        """Whether the attempt's workers have names, and so every one of them can be followed to its end."""
        named = any("worker" in worker for changed in self.memberships for worker in changed["workers"])
        return named or self._has_named_joins

    def ended_as(self, worker: str) -> list[str]:
        """How the worker ended: `finished`, `drained` or `lost`, one for each event that says so."""
        return [end for end, _ in self.ends.get(worker, [])]

    def died_after_finishing(self, worker: str) -> bool:
        """Whether the worker was killed after its last record, at the same step, and before the coordinator knew."""
        ends = dict(self.ends.get(worker, []))
        is_both = sorted(self.ended_as(worker)) == ["finished", "lost"]
        return is_both and ends["finished"].get("step", 0) == ends["lost"].get("last_step")

    def may_lack_parts_of(self, worker: str) -> bool:
        """Whether steps may lack what this worker recorded of them: it did not end in order, or a gap is stated."""
        ends = self.ended_as(worker)
        ended_by_driver = not ends and self.outcome != "finished"
        return "lost" in ends or ended_by_driver or self.has_gap or f"{worker}{SUFFIX}" in self.torn
