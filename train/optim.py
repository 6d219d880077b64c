"""AdamW and its learning-rate schedules.

The arithmetic is torch's own fused AdamW, called as a function. `torch.optim.Optimizer.step` would do the same and
import torch's compiler on its first call, which costs every worker seconds at the start; and its state is keyed by
position and meant for pickling, where a checkpoint wants named tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from train.config import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of `step`, 1 to `steps`.

    It rises linearly to `lr` over `warmup_steps`; then `constant` stays there, `cosine` falls along half a cosine to
    `min_lr_ratio * lr` at the last step (Loshchilov and Hutter 2017), and `wsd` stays until the last
    `decay_fraction` of the run and falls to the same end in a straight line (Hu et al. 2024).
    """
    if step <= config.warmup_steps:
        return config.lr * (step / config.warmup_steps)
    if config.schedule == "constant":
        return config.lr
    falling = steps - config.warmup_steps
    if config.schedule == "wsd":
        falling = min(falling, round(config.decay_fraction * steps))
    if falling == 0:
        return config.lr
    progress = max(0.0, 1 - (steps - step) / falling)
    remaining = 1 - progress if config.schedule == "wsd" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * remaining)


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) over named parameters; only weights of two or more dimensions decay.

    Every parameter is updated at every step: one that had no gradient counts as having a gradient of zero.
    """

    def __init__(self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]], config: OptimConfig) -> None:
        trainable = {name: parameter for name, parameter in named_parameters if parameter.requires_grad}
        self.names = list(trainable)
        self.parameters = list(trainable.values())
        self.updates = 0
        self._config = config
        self._exp_avg = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._exp_avg_sq = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def update(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """Update the parameters in place; `gradients` are in the order of `parameters`."""
        for decay in (True, False):
            chosen = [i for i, parameter in enumerate(self.parameters) if (parameter.ndim >= 2) == decay]
            if chosen:
                self._update(chosen, gradients, learning_rate, self._config.weight_decay if decay else 0.0)
        self.updates += 1

    @torch.no_grad()
    def _update(self, chosen: list[int], gradients: Sequence[Tensor], learning_rate: float, decay: float) -> None:
        adamw(
            [self.parameters[i] for i in chosen],
            [gradients[i] for i in chosen],
            [self._exp_avg[i] for i in chosen],
            [self._exp_avg_sq[i] for i in chosen],
            [],
            [self._steps[i] for i in chosen],
            fused=True,
            amsgrad=False,
            beta1=self._config.betas[0],
            beta2=self._config.betas[1],
            lr=learning_rate,
            weight_decay=decay,
            eps=self._config.eps,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state itself, not a copy: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`."""
        first = {f"exp_avg.{name}": value for name, value in zip(self.names, self._exp_avg, strict=True)}
        second = {f"exp_avg_sq.{name}": value for name, value in zip(self.names, self._exp_avg_sq, strict=True)}
        return first | second

    def scalars(self) -> dict[str, int]:
        """What else belongs to the state, for JSON: how many updates have been made."""
        return {"updates": self.updates}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, int]) -> None:
        """Take over a state that `tensors` and `scalars` gave, bit for bit.

        Raises ValueError when it is the state of other parameters; then nothing has changed.
        """
        own = self.tensors()
        if {name: value.shape for name, value in tensors.items()} != {name: own[name].shape for name in own}:
            raise ValueError("the optimizer state belongs to other parameters")
        for name, value in own.items():
            value.copy_(tensors[name])
        self.updates = scalars["updates"]
        for count in self._steps:
            count.fill_(self.updates)
