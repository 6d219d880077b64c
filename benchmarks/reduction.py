"""What the fixed reduction tree costs: its exchange against gloo's all_reduce, a training step against torch's DDP.

    python benchmarks/reduction.py [rounds]

Real processes over gloo on the loopback interface, one arithmetic thread each, both arms in the same processes, one
after the other in each round, the first of them in turn. A round takes as long as its slowest worker. The step is that
of the default configuration; DDP accumulates gradients with `no_sync`, overlaps its all_reduce with the last backward
pass, and clips and updates with torch's own functions. It need not be deterministic, and ours is.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from train.compose import plain, validate
from train.config import Config
from train.data import DataOrder, PreparedData, prepare
from train.model import build_model
from train.optim import AdamW, learning_rate
from train.step.exchange import TreeExchange
from train.step.forward import Batches, Forward
from train.step.step import StepResult, TrainStep
from train.step.tree import Span, ranges

REPOSITORY = Path(__file__).parents[1]
ELEMENTS = 25_000_000  # 100 MB of float32
STEPS_PER_ROUND = 4
Seconds = dict[str, list[float]]


def default_config() -> Config:
    """What `make train` uses."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return validate(plain(compose("config")))


def process_group(folder: Path, name: str, rank: int, workers: int) -> Any:
    """A gloo group over loopback, as a membership makes it: the backend alone."""
    options = dist.ProcessGroupGloo._Options()
    options._devices = [dist.ProcessGroupGloo.create_device(interface="lo")]
    return dist.ProcessGroupGloo(dist.FileStore(str(folder / name), workers), rank, workers, options)


def interleaved(arms: dict[str, Callable[[], object]], before: Callable[[], object], rounds: int) -> Seconds:
    """Seconds of each arm, and of its CPU, in each round but the first; `before` comes before each."""
    found: Seconds = {name: [] for arm in arms for name in (arm, f"CPU of {arm}")}
    for number in range(rounds + 1):
        for name, work in sorted(arms.items(), reverse=number % 2 == 1):
            before()
            began, used = time.perf_counter(), time.process_time()
            work()
            found[name].append(time.perf_counter() - began)
            found[f"CPU of {name}"].append(time.process_time() - used)
    return {name: values[1:] for name, values in found.items()}


def exchange_worker(rank: int, workers: int, folder: Path, rounds: int) -> Seconds:
    """Both ways of summing 100 MB of gradients: one root a worker."""
    group = process_group(folder, "exchange", rank, workers)
    gradient = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(rank))
    flat, exchange = torch.empty_like(gradient), TreeExchange(group)

    def before() -> None:
        flat.copy_(gradient)
        group.barrier().wait()

    arms = {
        "all_reduce": lambda: group.allreduce([flat]).wait(),
        "tree": lambda: exchange.sum([(Span(rank, 1), flat)], workers),
    }
    return interleaved(arms, before, rounds)


def step_worker(rank: int, workers: int, folder: Path, rounds: int) -> Seconds:
    """A training step of ours and one of DDP, on two copies of the model; and where ours spends its time."""
    config = default_config()
    group = process_group(folder, "step", rank, workers)
    store = dist.FileStore(str(folder / "ddp"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    data = prepare(config.data)
    tree, ddp = TreeArm(config, data, group), DdpArm(config, data)
    seconds = interleaved(
        {"DDP": ddp.step, "tree": tree.step}, lambda: group.barrier().wait(), rounds * STEPS_PER_ROUND
    )
    for part in ("compute", "exchange", "update"):
        seconds[part] = [getattr(result.seconds, part) for result in tree.results[1:]]
    dist.destroy_process_group()
    return seconds


def training_batches(config: Config, data: PreparedData) -> Batches:
    """The micro-batches of training."""
    length, train = config.data.sequence_length, config.train
    sequences = data.sequences("train", length)
    order = DataOrder(config.seed, sequences, train.micro_batches, train.micro_batch_size)

    def batch(step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        inputs, targets = data.batch("train", order.sequences_of(step - 1, micro_batch), length)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    return batch


def new_model(config: Config, data: PreparedData) -> nn.Module:
    """The configured model."""
    sizes = {"vocabulary_size": data.vocabulary_size, "sequence_length": config.data.sequence_length}
    return build_model(config.model, seed=config.seed, **sizes)


class TreeArm:
    """This project's step."""

    def __init__(self, config: Config, data: PreparedData, group: Any) -> None:
        model = new_model(config, data)
        forward = Forward(model, seed=config.seed, device=torch.device("cpu"))
        optimizer = AdamW(model.named_parameters(), config.optim)
        batches, exchange = training_batches(config, data), TreeExchange(group)
        self._step = TrainStep(forward, batches, optimizer, exchange, config.train, config.optim)
        self.results: list[StepResult] = []

    def step(self) -> None:
        """Take the next step, in deterministic mode as a worker of a run does."""
        torch.set_deterministic_debug_mode("error")
        self.results.append(self._step.run(len(self.results) + 1))
        torch.set_deterministic_debug_mode("default")


class DdpArm:
    """The same with torch's DistributedDataParallel and torch.optim."""

    def __init__(self, config: Config, data: PreparedData) -> None:
        self._config = config
        self._batches = training_batches(config, data)
        self._model = DistributedDataParallel(new_model(config, data), gradient_as_bucket_view=True)
        parameters = list(self._model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.optim.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        betas = (config.optim.betas[0], config.optim.betas[1])
        self._optimizer = torch.optim.AdamW(groups, betas=betas, eps=config.optim.eps, fused=True)
        self._mine = ranges(config.train.micro_batches, dist.get_world_size())[dist.get_rank()]
        self._taken = 0

    def step(self) -> None:
        """Take the next step."""
        self._taken += 1
        optim = self._config.optim
        for micro_batch in self._mine:
            last = micro_batch == self._mine[-1]
            with nullcontext() if last else self._model.no_sync():
                inputs, targets = self._batches(self._taken, micro_batch)
                logits = self._model(inputs)
                loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()) / len(self._mine)
                loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), optim.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(optim, self._taken, self._config.train.steps)
        self._optimizer.step()
        self._optimizer.zero_grad()


def medians_of(work: Callable[..., Seconds], workers: int, rounds: int) -> dict[str, float]:
    """Run `work` in that many processes; the medians of the slowest of each round, for which nobody waits.

    The exchange proper is that of the worker that came to it last, so there the shortest counts.
    """
    processes = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    with tempfile.TemporaryDirectory() as folder, processes:
        answers = [processes.submit(work, rank, workers, Path(folder), rounds) for rank in range(workers)]
        found = [answer.result() for answer in answers]
    of_rounds = {name: zip(*(one[name] for one in found), strict=True) for name in found[0]}
    return {
        name: statistics.median((min if name == "exchange" else max)(one) for one in values)
        for name, values in of_rounds.items()
    }


def compare(what: str, medians: dict[str, float], reference: str, aim: str) -> None:
    """Print one line."""
    ratio, of_cpu = (medians[f"{kind}tree"] / medians[f"{kind}{reference}"] for kind in ("", "CPU of "))
    times = f"{reference} {1e3 * medians[reference]:6.1f} ms   tree {1e3 * medians['tree']:6.1f} ms"
    print(f"{what:19}  {times}   {ratio:.2f} of it (aim: at most {aim})   {of_cpu:.2f} of its CPU time")


def main(rounds: int) -> None:
    """Print medians and their ratios."""
    for workers in (2, 4):
        compare(f"100 MB, {workers} workers", medians_of(exchange_worker, workers, rounds), "all_reduce", "1.25")
    medians = medians_of(step_worker, 2, rounds)
    compare("a step, 2 workers", medians, "DDP", "1.05")
    parts = ", ".join(f"{part} {1e3 * medians[part]:.1f} ms" for part in ("compute", "exchange", "update"))
    print(f"the tree's step: {parts}; the exchange is {medians['exchange'] / medians['tree']:.2f} of it")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
