"""Layers whose first weights come from seeds: no global generator is read or moved."""

from __future__ import annotations

import math

import torch
from torch import nn

from fastkd.core.seeds import Seeds


def linear(seeds: Seeds, stream: str, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with torch's own first weights: uniform in +-1 / sqrt(inputs)."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    bound, random = 1 / math.sqrt(inputs), seeds.torch(stream)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * (2 * bound) - bound)
    return layer
