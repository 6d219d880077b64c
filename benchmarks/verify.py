"""Verifying a bundle against what BLAKE3 alone needs for the same bytes, and the start-up of a digest-only check.

python benchmarks/verify.py [gigabytes]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from recorder.bundle import layout
from recorder.bundle.files import blake3_file
from recorder.bundle.manifest import bundle_files
from recorder.bundle.verify import verify_bundle
from recorder.checkpoint.writer import CheckpointWriter
from recorder.run import Run

ROUNDS = 5
STEPS_A_CHECKPOINT = 500
CHECKPOINT_BYTES = 500 << 20


def make_bundle(root: Path, checkpoints: int) -> Path:
    """A sealed bundle: checkpoints of 500 MB and 500 recorded steps before each."""
    config = b"train:\n  reduction: tree\n"
    run = Run.create(
        root, run_id=f"bench-{checkpoints}", files={layout.RESOLVED_CONFIG: config}, spools=root / "spools"
    )
    run.begin_attempt(config=layout.RESOLVED_CONFIG)
    worker = run.worker()
    writer = CheckpointWriter(run.path, lambda saved: worker.event("checkpoint.saved", **saved))
    state = torch.randn(CHECKPOINT_BYTES // 4)
    for step in range(1, checkpoints * STEPS_A_CHECKPOINT + 1):
        numbers = {"loss": 1 / step, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": step, "step_seconds": 0.1}
        worker.step(step, gradient_digest=f"{step:016x}", **numbers)
        if step % STEPS_A_CHECKPOINT == 0:
            state += 1
            writer.save(step, {layout.CHECKPOINT_MODEL: {"state": state}}, {})
            writer.wait()
    worker.close()
    run.close("finished")
    return run.path


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(gigabytes: float) -> None:
    """Interleave the arms and print medians."""
    with tempfile.TemporaryDirectory() as name:
        bundle = make_bundle(Path(name), max(1, round(gigabytes * 1e9 / CHECKPOINT_BYTES)))
        files = sorted((bundle / file for file in bundle_files(bundle)), key=lambda path: -path.stat().st_size)
        alone, ours = [], []
        for _ in range(ROUNDS + 1):
            alone.append(seconds(lambda: [blake3_file(file) for file in files]))
            ours.append(seconds(lambda: verify_bundle(bundle)))
        if not verify_bundle(bundle).ok:
            sys.exit("the bundle does not verify")
        hashed, verified = statistics.median(alone[1:]), statistics.median(ours[1:])
        size = sum(file.stat().st_size for file in files) / 1e9
        print(f"BLAKE3 alone   {hashed:6.2f} s  {size / hashed:5.2f} GB/s   {size:.1f} GB in {len(files)} files")
        print(f"recorder verify {verified:5.2f} s  {verified / hashed:.2f} of BLAKE3 alone (aim: at most 1.3)")
        small = make_bundle(Path(name), 0)
        command = [sys.executable, "-m", "recorder.cli.main", "verify", str(small), "--digests"]
        starts = [seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(9)]
        start = statistics.median(starts)
        print(f"recorder verify --digests, small bundle: {start:.2f} s from command to end (aim: under 0.3)")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
