"""Layers whose first weights come from seeds, of fastkd's ops: no global generator is read or moved to make them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.core.seeds import Seeds


class Linear(nn.Linear):
    """``torch.nn.Linear``, large products on the CPU by :func:`fastkd.ops.linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``W x + b`` over the last axis."""
        mapped = ops.linear(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return mapped.view(*x.shape[:-1], len(self.weight))


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Return ``x`` with a share ``rate`` of its values set to 0 in training.

    Torch's generator on the host gives the seed, wherever ``x`` is: draws are the same on every device.
    """
    if not training or rate == 0:
        return x
    rows = x.reshape(-1, x.shape[-1])
    return ops.dropout(rows, rate, seed=int(torch.randint(2**62, (), device="cpu")), step=0).view(x.shape)


def linear(seeds: Seeds, stream: str, inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    """Return a linear layer with torch's own first weights: uniform in +-1 / sqrt(inputs)."""
    layer: Linear = nn.utils.skip_init(Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    bound, random = 1 / math.sqrt(inputs), seeds.torch(stream)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * (2 * bound) - bound)
    return layer
