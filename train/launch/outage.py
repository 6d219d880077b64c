"""The loss of a whole cluster, and its return: workers begin again, and the run goes on from what was saved."""

from __future__ import annotations

from train.launch.launcher import ClusterLost, ClusterReady, ClusterRefused
from train.launch.losses import Losses
from train.launch.progress import ProgressDisplay
from train.launch.workforce import Workforce


class Outage:
    """Follows the cluster: it is tried again and again until it is back, and what is said is said once."""

    def __init__(self, workforce: Workforce, losses: Losses, display: ProgressDisplay) -> None:
        self._workforce = workforce
        self._losses = losses
        self._display = display
        self._is_on = False
        self._refusal: str | None = None

    def lose(self, report: ClusterLost) -> None:
        """The cluster is gone, or could not be had again."""
        if not self._is_on:
            self._is_on = True
            self._losses.cluster_lost(dict(report.evidence))
            self._display.say("the whole cluster was lost", "bold yellow")
        self._workforce.lose_all()

    def refuse(self, report: ClusterRefused) -> None:
        """The process that said so ends, and another one tries again."""
        if report.reason != self._refusal:
            self._refusal = report.reason
            self._display.say(f"{report.reason}; trying again", "yellow")

    def end(self, report: ClusterReady) -> None:
        """The cluster is back."""
        self._is_on, self._refusal = False, None
        self._display.say("the cluster is back: starting workers", "yellow")
        self._workforce.start_all(report.workers)
