"""Summing one worker's micro-batches along the reduction tree, in as few buffers as a binary counter has digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recorder.errors import ConfigError
from train.step.tree import Fold, Span

HEADER = 16  # float32 slots ahead of the gradient: one cache line, so that the gradient begins aligned
LOSS, STOP = 0, 1  # slots of the header: the sum of the losses, the number of workers that want to stop

Root = tuple[Span, Tensor]


class Layout:
    """Where each parameter's gradient lies in a flat float32 buffer: after the header, in the parameters' order.

    Raises ConfigError for parameters that are not float32, whose gradients would be rounded before they are summed.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        for parameter in parameters:
            if parameter.dtype != torch.float32:
                raise ConfigError(
                    f"the model has a parameter of type {parameter.dtype}; weights must be torch.float32 "
                    "(train.precision=bf16 computes in bfloat16 over them)"
                )
        self.shapes = [parameter.shape for parameter in parameters]
        self.sizes = [parameter.numel() for parameter in parameters]
        self.length = HEADER + sum(self.sizes)

    def gradient(self, flat: Tensor) -> Tensor:
        """The gradient part of a flat buffer, as one vector."""
        return flat[HEADER : self.length]

    def views(self, flat: Tensor) -> list[Tensor]:
        """The gradient part of a flat buffer, a view in the shape of each parameter."""
        parts = torch.split(self.gradient(flat), self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class _Buffer:
    """A flat buffer and its views, made once and used again and again."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.flat = torch.zeros(layout.length, device=device)
        self.views = layout.views(self.flat)


class Accumulator:
    """Sums the losses and gradients of a contiguous range of micro-batches; it never waits for the device.

    For M micro-batches it allocates at most log2(M) + 1 buffers of the layout's length, and keeps them for the next
    step. Gradients are copied out of autograd's own tensors: those may share memory with one another, and kernels
    that write them keep their aligned addresses, on which their rounding can depend.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self._layout = layout
        self._device = device
        self._spare: list[_Buffer] = []
        self._fold: Fold[_Buffer] = Fold(1, self._merge)

    def begin(self, micro_batches: int) -> None:
        """Start a step; the roots of the one before become invalid, also where it was abandoned half way."""
        self._spare.extend(buffer for _, buffer in self._fold.parts)
        self._fold = Fold(micro_batches, self._merge)

    def add(self, micro_batch: int, loss: Tensor, gradients: Sequence[Tensor | None]) -> None:
        """Add one micro-batch's loss (a scalar) and gradients, one a parameter; None counts as zero."""
        buffer = self._spare.pop() if self._spare else _Buffer(self._layout, self._device)
        buffer.flat[:HEADER].zero_()
        buffer.flat[LOSS] = loss.detach()
        filled = [
            torch.zeros_like(view) if gradient is None else gradient
            for view, gradient in zip(buffer.views, gradients, strict=True)
        ]
        torch._foreach_copy_(buffer.views, filled)
        self._fold.push(Span(micro_batch, 1), buffer)

    @property
    def roots(self) -> list[Root]:
        """The sums of the maximal subtrees so far, in order; valid until `begin`."""
        return [(span, buffer.flat) for span, buffer in self._fold.parts]

    def _merge(self, left: _Buffer, right: _Buffer) -> _Buffer:
        left.flat.add_(right.flat)
        self._spare.append(right)
        return left
