"""Which state a membership begins with when nobody has one: node memory, else storage, else the beginning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from recorder.bundle import layout
from recorder.checkpoint.record import read_commit_marker
from recorder.checkpoint.restore import newest_checkpoint
from recorder.errors import UsageError
from recorder.ledger import events
from recorder.run import Run
from train.membership.messages import Source
from train.origin import Origin

_REASONS = {
    "state differs": "the state differed between workers",
    "stuck": "a membership broke before all had its state",
}


class Sources:
    """Chooses, and records what was chosen and why."""

    def __init__(self, run: Run, origin: Origin, say: Callable[[str], object]) -> None:
        self._run = run
        self._origin = origin
        self._say = say
        self._is_first = True

    def choose(
        self, offers: Mapping[str, list[int]], agreed: int | None, spare: Collection[int], why: str = ""
    ) -> Source:
        """The newest state of this run that is at hand.

        `offers` are the steps in node memory, by worker; of those after `agreed` the members have not compared states.
        `spare` are ids of processes that wait for the answer; `why` is how the last membership ended. Raises UsageError
        when the parent of a fork is needed and gone.
        """
        is_new = self._is_first and self._origin.resume is None
        reason = "run.resume" if self._is_first else _REASONS.get(why, "no worker was left")
        self._is_first = False
        own = None if is_new else self._own(offers, agreed, spare, reason)
        if source := own or self._parents():
            return self._chosen(source)
        if is_new:
            return Source("start", 0)
        self._say(f"{reason}: no checkpoint yet, starting again from step 0")
        return Source("start", 0, None, reason)

    def _own(
        self, offers: Mapping[str, list[int]], agreed: int | None, spare: Collection[int], reason: str
    ) -> Source | None:
        """The newest state that this run has saved."""
        stored = newest_checkpoint(self._run, spare)
        in_memory = [step for steps in offers.values() for step in steps if agreed is None or step <= agreed]
        if in_memory and max(in_memory) >= (stored[0] if stored else 0):
            return Source("memory", max(in_memory), None, reason)
        return Source("storage", stored[0], str(stored[1].resolve()), reason) if stored is not None else None

    def _parents(self) -> Source | None:
        """The state that a fork begins with, also when it is resumed before it has saved one of its own."""
        parent, step = self._origin.fork, self._origin.fork_step
        if parent is None or step is None:
            return None
        folder = parent / layout.checkpoint_folder(step)
        if read_commit_marker(folder) is None:
            raise UsageError(
                f"run {self._run.id} is a fork of {parent.name}@{step} and has no state of its own yet, and {folder} "
                "is not there any more; bring it back, or start a new run"
            )
        return Source("fork", step, str(folder.resolve()), "run.fork")

    def _chosen(self, source: Source) -> Source:
        path = source.path
        if source.kind == "storage":
            path = layout.checkpoint_folder(source.step)
        self._run.event(
            events.CHECKPOINT_RESTORED, step=source.step, path=path, source=source.kind, reason=source.reason
        )
        where = "node memory" if source.kind == "memory" else "the checkpoint"
        self._say(f"{source.reason}: going on from {where} of step {source.step}")
        return source
