"""A plain data-parallel training loop, as the scripts for stock Ray Train and for torchrun have it.

What it does goes into the file `marks` of its folder, a line each, for `arms.scripts`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from arms.task import MICRO_BATCH_SIZE, MICRO_BATCHES, MODEL, SEQUENCE_LENGTH, STATE_EVERY
from train.model import Llama

VOCABULARY = 64


def train(folder: Path, node: str, load: Callable[[], Any], save: Callable[[dict[str, Any]], object]) -> None:
    """Train until the file `stop` is in `folder`; `load` gives the state to go on from, or None."""
    torch.set_num_threads(1)
    llama = Llama(vocab_size=VOCABULARY, max_position_embeddings=SEQUENCE_LENGTH, **MODEL)
    model = DistributedDataParallel(llama)
    optimizer = torch.optim.AdamW(model.parameters())
    step, rank = 0, dist.get_rank()
    if (state := load()) is not None:
        llama.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    with (folder / "marks").open("a", buffering=1) as marks:
        marks.write(f"worker {rank} {os.getpid()} {node}\n")
        while True:
            _take_step(model, optimizer)
            step += 1
            if rank == 0:
                marks.write(f"step {step} {os.getpid()} {time.time()}\n")
            stopping = torch.tensor(float((folder / "stop").exists()))
            dist.all_reduce(stopping)
            if stopping:
                return
            if step % STATE_EVERY == 0:
                save({"model": llama.state_dict(), "optimizer": optimizer.state_dict(), "step": step})


def _take_step(model: DistributedDataParallel, optimizer: torch.optim.Optimizer) -> None:
    """Accumulate this worker's micro-batches; the last one's backward pass exchanges with the others."""
    own = MICRO_BATCHES // dist.get_world_size()
    for number in range(own):
        tokens = torch.randint(VOCABULARY, (MICRO_BATCH_SIZE, SEQUENCE_LENGTH))
        with contextlib.nullcontext() if number == own - 1 else model.no_sync():
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()) / own
            torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
