"""What a member saves: checkpoints if it is the leader, snapshots in its node's memory if it is the saver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.checkpoint.memory import MemorySnapshots, Snapshot, check, offers
from recorder.checkpoint.record import read_commit_marker
from recorder.checkpoint.writer import CheckpointWriter, Meanwhile, nothing
from recorder.ledger import events
from train.training import Training

Report = Callable[..., None]


class Saver:
    """Saves one member's state; `is_leader` and `is_saver` are set with each membership.

    `memory` is the folder of the member's node for snapshots; `report` records an event, `who` says whose it is.
    """

    def __init__(self, bundle: Path, memory: Path, report: Report, who: dict[str, Any]) -> None:
        self.is_leader = False
        self.is_saver = False
        self._bundle = bundle
        self._memory = memory
        self._report = report
        self._who = who
        self._checkpoints = CheckpointWriter(bundle, lambda saved: report(events.CHECKPOINT_SAVED, **saved))
        self._snapshots = MemorySnapshots(memory, self._say_saved, self._say_skipped)

    def save(self, training: Training, meanwhile: Meanwhile = nothing) -> None:
        """Begin to write the checkpoint of this step, unless it is there. Raises RecordingError for the one before.

        That one is waited for, and `meanwhile` called now and then; what it raises ends the waiting.
        """
        if self.is_leader and read_commit_marker(self._bundle / layout.checkpoint_folder(training.step)) is None:
            self._checkpoints.save(training.step, training.files(), training.state(), meanwhile)

    def snapshot(self, training: Training) -> None:
        """Begin to write a snapshot of this step to this node's memory; what hinders it is an event, never an error."""
        if self.is_saver:
            self._snapshots.save(training.step, training.files(), training.state())

    def offers(self) -> dict[int, Snapshot]:
        """The undamaged snapshots of this run in this node's memory, by step."""
        return {snapshot.step: snapshot for snapshot in offers(self._memory) if check(snapshot) is None}

    def wait(self, meanwhile: Meanwhile = nothing) -> None:
        """Wait until nothing is being written, as `save` does. Raises RecordingError for the last checkpoint."""
        self._checkpoints.wait(meanwhile)

    def close(self, *, remove_snapshots: bool) -> None:
        """Wait for what is being written. The snapshots stay for those who go on, unless the run is over."""
        self._snapshots.close(remove=remove_snapshots)

    def _say_saved(self, saved: dict[str, Any]) -> None:
        self._report(events.SNAPSHOT_SAVED, **self._who, **saved)

    def _say_skipped(self, step: int, reason: str) -> None:
        self._report(events.SNAPSHOT_SKIPPED, **self._who, step=step, reason=reason)
