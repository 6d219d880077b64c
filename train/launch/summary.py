"""What is printed when a run has ended: what was recorded, where it is, and how to look at it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster

_LAST_LOG_LINES = 12


def print_summary(
    display: ProgressDisplay, bundle: Path, manifest: dict[str, Any], seconds: float, roster: Roster
) -> None:
    """Print the end of a run, good or bad."""
    display.stop()
    outcome, run_id = manifest["outcome"], manifest["run"]
    results = [f"step {roster.totals()['last_step']}"]
    if roster.loss is not None:
        results.append(f"loss {roster.loss:.4f}")
    if roster.evaluation is not None:
        results.append(f"validation loss {float(roster.evaluation['loss']):.4f}")
    if roster.lost:
        results.append(f"{roster.lost} workers lost")
    style = "bold green" if outcome == "finished" else "bold yellow" if outcome == "interrupted" else "bold red"
    display.say(f"{run_id} {outcome}: {', '.join(results)}, {seconds:.0f} s", style)
    for exception in roster.exceptions[:1]:
        where = "" if exception["rank"] is None else f"rank {exception['rank']}: "
        display.say(f"{where}{exception['kind']}: {exception['message']}", "red")
    display.say(f"recorded  {_contents(manifest)}")
    display.say(f"bundle    {bundle}  root {manifest['root'][:16]}")
    command = recorder_command()
    display.say(f"look      {command} show {run_id}")
    display.say(f"          {command} timeline {run_id}")
    display.say(f"          {command} verify {run_id}")
    if outcome == "interrupted":
        display.say(f"go on     python train.py run.resume={run_id}")


def recorder_command() -> str:
    """How this installation's `recorder` is called from a shell."""
    if shutil.which("recorder"):
        return "recorder"
    beside = Path(sys.executable).with_name("recorder")
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)


def _contents(manifest: dict[str, Any]) -> str:
    files: dict[str, dict[str, Any]] = manifest["files"]
    segments = manifest["segments"]
    checkpoints = {name.split("/")[1] for name in files if name.startswith(f"{layout.CHECKPOINTS}/step-")}
    logs = sum(name.startswith(f"{layout.LOGS}/") for name in files)
    size = sum(record["size"] for record in files.values())
    parts = [
        "config, packages, source, data record, hardware",
        f"{len(segments[layout.LEDGER])} ledger and {len(segments[layout.METRICS])} metric segments",
        f"{len(checkpoints)} checkpoints",
        f"{logs} logs",
    ]
    return f"{'; '.join(parts)} ({len(files)} files, {size / 1e6:.1f} MB)"
