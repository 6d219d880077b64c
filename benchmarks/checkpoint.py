"""How long a checkpoint of 500 MB blocks training, against copying the same state in memory.

python benchmarks/checkpoint.py [rounds]
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from recorder.checkpoint.writer import CheckpointWriter

TENSORS, ELEMENTS = 50, 2_500_000  # 500 MB of float32


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(rounds: int) -> None:
    """Interleave the arms and print medians; the first round, which touches the memory, does not count."""
    torch.set_num_threads(1)
    state = {f"tensor_{number}": torch.randn(ELEMENTS) for number in range(TENSORS)}
    copies = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    in_memory, blocked, written = [], [], []
    with tempfile.TemporaryDirectory() as name:
        saved: list[dict[str, float]] = []
        writer = CheckpointWriter(Path(name), saved.append)
        for step in range(1, rounds + 2):
            in_memory.append(seconds(lambda: [copies[name].copy_(tensor) for name, tensor in state.items()]))
            blocked.append(seconds(lambda step=step: writer.save(step, {"model.safetensors": state}, {})))
            writer.wait()
            written.append(saved[-1]["seconds"])
            shutil.rmtree(Path(name) / "checkpoints")
    reference, ours = statistics.median(in_memory[1:]), statistics.median(blocked[1:])
    print(f"copy in memory       {reference:6.3f} s")
    print(f"save blocks training {ours:6.3f} s   {ours / reference:.2f} of the copy (aim: at most 1.2)")
    print(f"written, two digests {statistics.median(written[1:]):6.3f} s   in a thread, beside training")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
