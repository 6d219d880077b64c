"""A checkpoint that was due is not left out because the worker that wrote it was lost."""

from __future__ import annotations

from recorder.run import Run
from train.membership.messages import Form, Position, Stage
from train.membership.server import CoordinatorServer


class DueCheckpoint:
    """Has one saved after the next step where the newest that was due, every `every` steps, is not there.

    The leader writes a checkpoint beside training. When it is lost, the others have gone on and do not write it.
    """

    def __init__(self, run: Run, every: int, server: CoordinatorServer) -> None:
        self._run = run
        self._every = every
        self._server = server
        self._writers: set[str] = set()
        self._is_in_doubt = False

    def lose(self, worker: str) -> None:
        """A worker was lost; it may have been writing."""
        self._is_in_doubt |= worker in self._writers

    def look(self, form: Form) -> None:
        """A membership was formed; the first of its workers is the leader."""
        if self._is_in_doubt and self._is_missing(form.position):
            self._server.call(lambda coordinator, _: coordinator.save_soon())
        self._is_in_doubt = False
        self._writers.add(form.seats[0].worker)

    def _is_missing(self, position: Position) -> bool:
        due = position.step - position.step % self._every if self._every else 0
        if due == 0 or (due == position.step and position.stage < Stage.SETTLED):
            return False  # or its turn is yet to come
        self._run.drain()
        return max((step for step, _, _ in self._run.writer.checkpoints()), default=0) < due
