"""From command to first step, two workers, warm cache: ours, a stock TorchTrainer and torchrun, in one run.

    python benchmarks/startup.py [rounds]

Prints each arm's median and where ours goes, from the times in the bundle's own record.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.canonical import parse_utc
from recorder.ledger.ledger import read_events

REPOSITORY = Path(__file__).parents[1]
BODY = """
import os, time, torch
from torch.nn.parallel import DistributedDataParallel
from train.model import Llama
def loop(config):
    torch.set_num_threads(1)
    model = DistributedDataParallel(Llama(vocab_size=64, hidden_size=128, intermediate_size=344, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128))
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(64, (4, 128))
    torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
    with open(config["mark"], "a") as file:
        file.write(f"{time.time()}\\n")
"""
STOCK = (
    BODY
    + """
import ray, sys
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
ray.init(address="local")
TorchTrainer(loop, train_loop_config={"mark": sys.argv[1]}, scaling_config=ScalingConfig(num_workers=2)).fit()
"""
)
TORCHRUN = (
    BODY
    + """
import sys
torch.distributed.init_process_group("gloo")
loop({"mark": sys.argv[1]})
torch.distributed.destroy_process_group()
"""
)


def ours(folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds to the first step, and the seconds up to each milestone on the way."""
    began = time.time()
    arguments = ["train.steps=2", "train.eval_every=0", "train.sample_tokens=0", f"run.dir={folder}/runs"]
    run([sys.executable, str(REPOSITORY / "train.py"), *arguments], folder)
    bundle = next((folder / "runs").glob("stories-*"))
    found = {"first step": parse_utc(next(iter(read_rows(bundle, layout.METRICS)))["time"]) - began}
    for event in read_events(bundle):
        found.setdefault(event["type"], parse_utc(event["time"]) - began)
    names = {
        "run.started": "config, data, captures",
        "node.joined": "Ray is up",
        "worker.joined": "first worker has joined",
        "membership.changed": "all workers have joined",
        "first step": "first step",
    }
    return found["first step"], {text: found[name] for name, text in names.items()}


def other(folder: Path, text: str, command: list[str]) -> float:
    """Seconds until the last worker of a script has taken its first step."""
    script, mark = folder / "arm.py", folder / "mark"
    script.write_text(text)
    began = time.time()
    run([*command, str(script), str(mark)], folder)
    return max(map(float, mark.read_text().split())) - began


def run(command: list[str], folder: Path) -> None:
    """Run to the end, or stop the benchmark with what the command said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "RAY_TRAIN_V2_ENABLED": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def main(rounds: int) -> None:
    """Interleave the arms and print medians."""
    seconds: dict[str, list[float]] = {"ours": [], "stock TorchTrainer": [], "torchrun": []}
    marks: list[dict[str, float]] = []
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first, milestones = ours(folder)
            stock = other(folder, STOCK, [sys.executable])
            (folder / "mark").unlink()
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
            plain = other(folder, TORCHRUN, torchrun)
        if number == 0:
            continue  # fills the page cache
        marks.append(milestones)
        for arm, value in zip(seconds, (first, stock, plain), strict=True):
            seconds[arm].append(value)
    medians = {arm: statistics.median(values) for arm, values in seconds.items()}
    for arm, value in medians.items():
        print(f"{arm:20} {value:6.1f} s   {value / medians['stock TorchTrainer']:.2f} of stock")
    print("ours, seconds since the command:")
    for text in marks[0]:
        print(f"  {statistics.median(mark[text] for mark in marks):6.1f}  {text}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
