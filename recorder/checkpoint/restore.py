"""Finding the checkpoint to go on from."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.bundle import layout
from recorder.checkpoint.record import damage
from recorder.ledger import events

if TYPE_CHECKING:
    from recorder.run import Run


def newest_checkpoint(run: Run, spare: Collection[int] = ()) -> tuple[int, Path] | None:
    """Step and folder of the newest checkpoint whose bytes are as recorded; None when there is none.

    No worker may be training: those of this attempt that still live are killed, but for the process ids in `spare`,
    which wait for the answer. A damaged checkpoint is renamed out
    of the way, so that the step can be saved again, and recorded with what is wrong.
    """
    run.settle(spare)
    for step, path, files in run.writer.checkpoints():
        folder = run.path / path
        wrong = damage(folder, files)
        if wrong is None:
            return step, folder
        run.event(
            events.CHECKPOINT_REMOVED, step=step, path=path, reason=f"damaged: {wrong}", kept_as=_aside(run, step)
        )
    return None


def _aside(run: Run, step: int) -> str:
    first = f"{layout.CHECKPOINTS}/damaged-{step:08d}-attempt-{run.attempt:04d}"
    names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not (run.path / name).exists())
