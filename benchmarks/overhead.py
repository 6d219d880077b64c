"""What all recording costs, as a share of the run's CPU seconds: default model, two workers, all processes.

    python benchmarks/overhead.py [steps]

The record accounts for itself: the driver's captures and collector, and in each worker fingerprints, rows, checkpoint
copies and writing. Gradient digests are timed here on a gradient of the model's size. The whole is what the kernel
counts for every process that descends from the command: driver, Ray and workers.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from recorder.bundle import layout
from recorder.checkpoint.fingerprint import fingerprint
from recorder.ledger.ledger import read_events

REPOSITORY = Path(__file__).parents[1]


def cpu_seconds(leader: subprocess.Popen[bytes]) -> float:
    """CPU seconds of the leader and of every process that descends from it, until it ends."""
    seconds: dict[tuple[int, float], float] = {}
    root = psutil.Process(leader.pid)
    while leader.poll() is None:
        with contextlib.suppress(psutil.Error):
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    seconds[process.pid, process.create_time()] = times.user + times.system
        time.sleep(0.25)
    return sum(seconds.values())


def gradient_digest_seconds(parameters: int) -> float:
    """Median CPU seconds of the fingerprint of a gradient."""
    torch.set_num_threads(1)
    gradient, found = torch.randn(parameters), []
    for _ in range(50):
        began = time.thread_time()
        fingerprint({"gradient": gradient})
        found.append(time.thread_time() - began)
    return statistics.median(found)


def main(steps: int) -> None:
    """Run once and print the parts."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"train.steps={steps}", f"run.dir={folder}/runs"]
        command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        leader = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=folder)
        whole = cpu_seconds(leader)
        if leader.returncode:
            sys.exit(f"train.py ended with {leader.returncode}")
        bundle = next((Path(folder) / "runs").glob("stories-*"))
        events = [(event["type"], event["fields"]) for event in read_events(bundle)]
        size = (bundle / layout.checkpoint_folder(steps) / layout.CHECKPOINT_MODEL).stat().st_size
    workers = [fields for kind, fields in events if kind == "worker.finished"]
    parts = {
        "driver: captures": sum(f["capture_cpu_seconds"] for kind, f in events if kind == "attempt.started"),
        "driver: collector": sum(f["collector_cpu_seconds"] for kind, f in events if kind == "attempt.ended"),
        "workers: captures, rows, fingerprints": sum(f["recording_cpu_seconds"] for f in workers),
        "workers: checkpoint threads": sum(f["cpu_seconds"] for kind, f in events if kind == "checkpoint.saved"),
        "workers: gradient digests": gradient_digest_seconds(size // 4) * steps * len(workers),
    }
    for name, seconds in parts.items():
        print(f"{name:40} {seconds:7.2f} CPU s  {100 * seconds / whole:5.2f}%")
    total = sum(parts.values())
    print(f"{'all recording':40} {total:7.2f} CPU s  {100 * total / whole:5.2f}%  (aim: at most 1%)")
    print(f"{'the whole run':40} {whole:7.2f} CPU s  {steps} steps")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
