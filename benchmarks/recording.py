"""What recording a step costs the training thread, against a plain JSON line flushed to a file.

    python benchmarks/recording.py [rounds]

Arms are interleaved in one process. The plain line has ten numbers, the step and the time. Ours has the same ten,
logged as a user does; or everything that the training loop puts into a row; or both, which a plain line of the same
content is set against as well.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.worker import WorkerRecorder

STEPS = 1000
NUMBERS = {f"scalar_{number}": 1.0 / (3 + number) for number in range(10)}


def microseconds(work: Callable[[int], None]) -> float:
    """Microseconds a step, on the calling thread."""
    began = time.perf_counter()
    for step in range(STEPS):
        work(step)
    return (time.perf_counter() - began) / STEPS * 1e6


def row(step: int) -> dict[str, Any]:
    """What the training loop records of a step."""
    return {
        "loss": 1 / 3,
        "learning_rate": 1e-3,
        "grad_norm": 1 / 7,
        "tokens": 4096 * step,
        "order_digest": "0" * 32,
        "gradient_digest": "0" * 16,
        "fingerprint": None,
        "skipped": None,
        "compute_seconds": 0.1 / 3,
        "exchange_seconds": 0.01 / 3,
        "update_seconds": 0.01 / 7,
        "step_seconds": 0.2 / 3,
    }


def main(rounds: int) -> None:
    """Interleave the arms and print medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorder = WorkerRecorder(folder, "rank-0")
        plain = (folder / "plain.jsonl").open("w")

        def user_numbers(step: int) -> None:
            recorder.log(NUMBERS)
            recorder.step(step, loss=0.5, step_seconds=0.1)

        def whole_row(step: int) -> None:
            recorder.step(step, **row(step))

        def both(step: int) -> None:
            recorder.log(NUMBERS)
            recorder.step(step, **row(step))

        def json_line(step: int) -> None:
            plain.write(json.dumps({"step": step, "time": time.time(), **NUMBERS}) + "\n")
            plain.flush()

        def whole_json_line(step: int) -> None:
            plain.write(json.dumps({"step": step, "time": time.time(), **row(step), **NUMBERS}) + "\n")
            plain.flush()

        arms = {
            "plain json.dumps line, flushed": (json_line, json_line),
            "ours, 10 numbers of the user's": (user_numbers, json_line),
            "ours, the training loop's row": (whole_row, json_line),
            "plain line of row and 10 numbers": (whole_json_line, whole_json_line),
            "ours, row and 10 numbers": (both, whole_json_line),
        }
        found: dict[object, list[float]] = {work: [] for work, _ in arms.values()}
        for _ in range(rounds):
            for work, _ in arms.values():
                found[work].append(microseconds(work))
    for arm, (work, reference) in arms.items():
        median = statistics.median(found[work])
        ratio = median / statistics.median(found[reference])
        print(f"{arm:32} {median:6.2f} us a step   {ratio:.2f} of the plain line (aim: at most 1)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
