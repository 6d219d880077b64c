"""How an attempt ends: its members agree on it, somebody asks for it, or too few workers are left."""

from __future__ import annotations

from typing import Any

from recorder.ledger import events
from recorder.run import Run
from train.config import ClusterConfig
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.signals import StopSignals
from train.launch.workforce import Workforce


class Ending:
    """Decides when the attempt is over: `outcome` is set from then on.

    Members that have a state save it before the end, also where they are fewer than `cluster.min_workers`; a second
    signal does not wait for that.
    """

    def __init__(
        self, run: Run, config: ClusterConfig, workforce: Workforce, roster: Roster, display: ProgressDisplay
    ) -> None:
        self.outcome: str | None = None
        self._run = run
        self._config = config
        self._workforce = workforce
        self._roster = roster
        self._display = display
        self._signals = 0
        self._stopping: str | None = None  # the outcome, where the members were asked to stop
        self._agreed: str | None = None

    @property
    def is_agreed(self) -> bool:
        """Whether the members have agreed on the end."""
        return self._agreed is not None

    @property
    def is_near(self) -> bool:
        """Whether nobody is to be started any more."""
        return self._agreed is not None or self._stopping is not None

    def agree(self, outcome: str) -> None:
        """The members have agreed on the end."""
        self._agreed = outcome if outcome == "finished" else self._stopping or outcome

    def look(self, signals: StopSignals) -> None:
        """End, or begin to end, if it is time: a first signal is passed on to workers, a second does not wait."""
        for received in signals.received[self._signals :]:
            self._signals += 1
            self._run.event(events.SIGNAL, signal=received.name)
            if self._signals == 1:
                self._stop(received.name, "interrupted")
                said = f"{received.name}: saving a checkpoint and stopping; once more stops at once"
                self._display.say(said, "yellow")
        self._require_enough()
        if self._stopping is not None and (self._signals > 1 or not self._members()):
            self.outcome = self._stopping

    def decide(self) -> None:
        """The run is over when those who agreed on its end are done or gone, whoever is still being waited for."""
        if self._agreed is not None and not self._members():
            self._run.drain()
            self.outcome = self._agreed

    def fail(self, kind: str, message: str) -> None:
        """The attempt cannot go on."""
        self._record(kind, message)
        self.outcome = "failed"

    def _require_enough(self) -> None:
        """Fewer than `cluster.min_workers`, with nobody to come, would wait for ever."""
        there, least = self._workforce.strength(), self._config.min_workers
        if self.is_near or not self._workforce.is_open or there >= least:
            return
        left = f"{there} workers are left of cluster.min_workers={least}"
        lost = f"others were lost {self._config.restarts + 1} times in a row before a step was committed"
        self._record("WorkersLost", f"{left}: {lost}; raise cluster.restarts to try more often, and resume")
        self._stop("too few workers", "failed")

    def _stop(self, reason: str, outcome: str) -> None:
        """Have the members save and end, however few they are."""
        self._stopping = self._stopping or outcome
        self._run.request_stop(reason)
        self._workforce.wind_down()

    def _members(self) -> set[str]:
        """The members that are there."""
        return self._roster.members & self._workforce.connected.keys()

    def _record(self, kind: str, message: str) -> None:
        fields: dict[str, Any] = {"rank": None, "kind": kind, "message": message, "traceback": ""}
        self._run.event(events.EXCEPTION, expected=True, **fields)
