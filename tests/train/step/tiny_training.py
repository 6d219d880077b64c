"""A tiny run, and worker processes that take its steps together over gloo on this machine."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from train.config import ModelConfig, OptimConfig, TrainConfig
from train.model import build_model
from train.optim import AdamW
from train.step.exchange import Exchange, SingleExchange
from train.step.forward import Forward
from train.step.step import TrainStep

SEED, VOCABULARY, LENGTH, BATCH = 5, 23, 12, 2
CPU = torch.device("cpu")

LLAMA = {
    "_target_": "train.model.Llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "dropout": 0.2,
}
TRAIN = {
    "steps": 20,
    "micro_batches": 4,
    "micro_batch_size": BATCH,
    "precision": "fp32",
    "compile": False,
    "reduction": "tree",
    "non_finite": "stop",
    "eval_every": 0,
    "eval_micro_batches": 4,
    "sample_tokens": 0,
}
OPTIM = {
    "lr": 0.01,
    "betas": [0.9, 0.95],
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "schedule": "cosine",
    "warmup_steps": 2,
    "decay_fraction": 0.2,
    "min_lr_ratio": 0.1,
}


def batches(step: int, micro_batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + micro_batch)
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


class TinyRun:
    """A model, its optimizer and its step; `changes` are keys of the configuration."""

    def __init__(
        self,
        exchange: Exchange | None = None,
        model: torch.nn.Module | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **changes: Any,
    ) -> None:
        train = TrainConfig(**TRAIN | {key: value for key, value in changes.items() if key in TRAIN})
        optim = OptimConfig(**OPTIM | {key: value for key, value in changes.items() if key in OPTIM})
        self.model = model or build_model(
            ModelConfig(**LLAMA), vocabulary_size=VOCABULARY, sequence_length=LENGTH, seed=SEED
        )
        self.optimizer = AdamW(self.model.named_parameters(), optim)
        self.exchange = exchange or SingleExchange()
        self.forward = Forward(self.model, seed=SEED, device=CPU, precision=train.precision)
        self.step = TrainStep(self.forward, batches, self.optimizer, self.exchange, train, optim, clock)

    def state(self) -> dict[str, torch.Tensor]:
        return {**dict(self.model.named_parameters()), **self.optimizer.tensors()}


def run_workers(work: Callable[..., Any], workers: int, folder: Path, *arguments: Any) -> list[Any]:
    """What `work(group, *arguments)` returns on each of `workers` new processes, in rank order.

    The processes come from a fork server that has torch loaded, so that they start in milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "train.step.step", "train.model.llama"])
    results = context.SimpleQueue()
    rendezvous = str(folder / f"rendezvous-{work.__name__}-{workers}")
    processes = [
        context.Process(target=_worker, args=(work, rank, workers, rendezvous, results, arguments))
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    answers = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    if failures := [answer for answer in answers.values() if isinstance(answer, Failure)]:
        raise AssertionError("\n".join(failures))
    return [answers[rank] for rank in range(workers)]


class Failure(str):
    """The traceback of a worker."""


def _worker(work: Any, rank: int, workers: int, rendezvous: str, results: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        dist.init_process_group("gloo", store=dist.FileStore(rendezvous, workers), rank=rank, world_size=workers)
        results.put((rank, work(dist.group.WORLD, *arguments)))
        dist.destroy_process_group()
    except Exception:
        results.put((rank, Failure(traceback.format_exc())))
