"""Which state a membership begins with when nobody has one: node memory, else storage, else the beginning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from recorder.bundle import layout
from recorder.checkpoint.restore import newest_checkpoint
from recorder.ledger import events
from recorder.run import Run
from train.membership.messages import Source
from train.origin import Origin


class Sources:
    """Chooses, and records what was chosen and why."""

    def __init__(self, run: Run, origin: Origin, say: Callable[[str], object]) -> None:
        self._run = run
        self._origin = origin
        self._say = say
        self._is_first = True

    def choose(self, offers: Mapping[str, list[int]], agreed: int | None, spare: Collection[int]) -> Source:
        """The newest state of this run that is at hand.

        `offers` are the steps in node memory, by worker; of those after `agreed` the members have not compared states.
        `spare` are ids of processes that wait for the answer.
        """
        first, self._is_first = self._is_first, False
        if first and self._origin.fork is not None and self._origin.fork_step is not None:
            folder = self._origin.fork / layout.checkpoint_folder(self._origin.fork_step)
            return self._chosen(Source("fork", self._origin.fork_step, str(folder.resolve()), "run.fork"))
        if first and self._origin.resume is None:
            return Source("start", 0)
        reason = "run.resume" if first else "no worker was left"
        stored = newest_checkpoint(self._run, spare)
        in_memory = [step for steps in offers.values() for step in steps if agreed is None or step <= agreed]
        if in_memory and max(in_memory) > (stored[0] if stored else 0):
            return self._chosen(Source("memory", max(in_memory), None, reason))
        if stored is not None:
            return self._chosen(Source("storage", stored[0], str(stored[1].resolve()), reason))
        if self._origin.fork is not None and self._origin.fork_step is not None:
            self._is_first = True
            return self.choose(offers, agreed, spare)
        self._say(f"{reason}: no checkpoint yet, starting again from step 0")
        return Source("start", 0, None, reason)

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
