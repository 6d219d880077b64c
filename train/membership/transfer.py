"""The resume state from one member's memory to another's, through the process group: no pickle, no file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import torch

from recorder.errors import BundleError
from train.membership.group import Group
from train.training import Training


@dataclass(frozen=True)
class Received:
    """What came: `bytes` of tensors in `seconds`, and the fingerprint that the state has on both sides."""

    bytes: int
    seconds: float
    fingerprint: str


def send_state(training: Training, group: Group, place: int) -> None:
    """Send the state to the member with number `place`. Raises MembershipOver."""
    said = {"step": training.step, "optimizer": training.optimizer.scalars(), "fingerprint": training.fingerprint()}
    data = torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8).to(training.device)
    group.send(torch.tensor([data.numel()], device=training.device), place)
    group.send(data, place)
    for tensors in training.files().values():
        for tensor in tensors.values():
            group.send(tensor.detach().contiguous(), place)


def receive_state(training: Training, group: Group, place: int) -> Received:
    """Take over the state of the member with number `place`.

    Raises MembershipOver, after which the state is in pieces, and BundleError when it did not come as it was sent.
    """
    began = time.perf_counter()
    size = torch.empty(1, dtype=torch.int64, device=training.device)
    group.receive(size, place)
    data = torch.empty(int(size.item()), dtype=torch.uint8, device=training.device)
    group.receive(data, place)
    said: dict[str, Any] = json.loads(bytes(data.tolist()))
    received = 0
    for tensors in training.files().values():
        for tensor in tensors.values():
            group.receive(tensor.detach(), place)
            received += tensor.numel() * tensor.element_size()
    training.set_scalars(said["step"], said["optimizer"])
    if (found := training.fingerprint()) != said["fingerprint"]:
        raise BundleError(f"the state of step {training.step} came with fingerprint {found}, not {said['fingerprint']}")
    return Received(received, time.perf_counter() - began, found)
