"""What is withdrawn from a release: one checkpoint of one run, and what of the release goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recorder.bundle import layout
from recorder.canonical import digest_json
from recorder.errors import UsageError
from recorder.release.contents import CARD, CITATION, CRATE, CROISSANT, OPENNESS
from recorder.release.manifest import CHECKPOINTS, RUNS, Release
from recorder.release.selection import checkpoint_steps
from recorder.release.statement import STATEMENT
from recorder.release.work import Request

_OF_THE_DESCRIPTIONS = {CARD, CITATION, CRATE, CROISSANT, OPENNESS, STATEMENT}


@dataclass(frozen=True)
class Withdrawal(Request):
    """A request to withdraw the checkpoint of `step` from the release at `url`; `run` is None for its only run."""

    url: str = ""
    step: int = 0
    reason: str = ""
    run: str | None = None

    @cached_property
    def name(self) -> str:
        """The same when it is asked for again, so that what was begun is gone on with."""
        return f"withdraw-{self.step}-{digest_json([self.url, self.run, self.step])[:12]}"


def run_of(release: Release, run: str | None, url: str) -> str:
    """The run that is meant. Raises UsageError when there are several, or no such one."""
    runs = ", ".join(release.runs)
    if run is None and len(release.runs) > 1:
        raise UsageError(f"the release at {url} has several runs ({runs}): say which with --run ID")
    if run is not None and run not in release.runs:
        raise UsageError(f"the release at {url} has no run {run!r}; it has: {runs}")
    return run or next(iter(release.runs))


def checkpoint_files(release: Release, run: str, step: int) -> list[str]:
    """The files of the checkpoint, as paths in the bundle. Raises UsageError when there are none."""
    bundle = f"{RUNS}/{run}/"
    inside = [path.removeprefix(bundle) for path in release.files if path.startswith(bundle)]
    found = [path for path in inside if path.startswith(f"{layout.checkpoint_folder(step)}/")]
    if not found:
        steps = checkpoint_steps(path for path in inside if path.startswith(f"{layout.CHECKPOINTS}/"))
        known = ", ".join(map(str, steps)) or "none"
        raise UsageError(f"{run} has no checkpoint of step {step} in the release; it has: {known}")
    return sorted(found)


def earlier_withdrawal(release: Release, run: str, step: int) -> dict[str, Any] | None:
    """What the release says of it when that checkpoint was withdrawn before."""
    return next((one for one in release.superseded if (one["run"], one["checkpoint"]) == (run, step)), None)


def is_exported(path: str) -> bool:
    """Whether a file of a release is one of an exported model: it is made again from what is left."""
    if "/" in path:
        return path.startswith(f"{CHECKPOINTS}/")
    return path not in _OF_THE_DESCRIPTIONS and not (path.startswith("report") and path.endswith(".html"))
