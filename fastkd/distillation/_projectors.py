"""Maps from the student's width to the teacher's, other than mixtures of experts: trained beside it, then dropped."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.core.seeds import Seeds
from fastkd.distillation.cost import VALUE, Work


def uniform(random: torch.Generator, fan_in: int, *shape: int) -> nn.Parameter:
    """Return weights as ``torch.nn.Linear`` starts them, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), drawn from ``random``."""
    bound = 1.0 / math.sqrt(max(fan_in, 1))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=random))


class Draw(NamedTuple):
    """What a projector's dropout draws from: streams, a step, and the ids of the rows, whose draws are their own."""

    seeds: Seeds
    step: int
    rows: Tensor | None

    def dropout(self, x: Tensor, rate: float, name: str) -> Tensor:
        """Return ``x`` with a share ``rate`` of its values set to 0 and the rest scaled up."""
        return ops.dropout(x, rate, seed=self.seeds.child(name).root, step=self.step, rows=self.rows)


class Projector(nn.Module):
    """The mean of E nets Dropout - Linear(S, H) - ReLU - Dropout - Linear(H, T)."""

    def __init__(
        self, student_dim: int, teacher_dim: int, hidden: int, seeds: Seeds, *, experts: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        random = seeds.torch("init")
        self.dropout = dropout
        self.w1 = uniform(random, student_dim, experts, hidden, student_dim)
        self.b1 = uniform(random, student_dim, experts, hidden)
        self.w2 = uniform(random, hidden, experts, teacher_dim, hidden)
        self.b2 = uniform(random, hidden, experts, teacher_dim)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        """Return Float[n, T]."""
        nets = enumerate(zip(self.w1, self.b1, strict=True))
        parts = [ops.linear(draw.dropout(x, self.dropout, f"{i}/in"), w1, b1) for i, (w1, b1) in nets]
        # The nets' hidden units side by side: their mean is one product.
        hidden = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).relu_()
        w2 = self.w2.transpose(0, 1).flatten(1) / len(parts)
        return ops.linear(draw.dropout(hidden, self.dropout, "hidden"), w2, self.b2.mean(0))


class LinearMap(nn.Module):
    """Linear(S, T)."""

    def __init__(self, student_dim: int, teacher_dim: int, seeds: Seeds, *, bias: bool = True) -> None:
        super().__init__()
        random = seeds.torch("init")
        self.weight = uniform(random, student_dim, teacher_dim, student_dim)
        self.bias = uniform(random, student_dim, teacher_dim) if bias else None

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        """Return Float[n, T]; nothing is drawn."""
        return ops.linear(x, self.weight, self.bias)


class OrthogonalMap(nn.Module):
    """A map with orthonormal columns (rows, where it maps down): the Q factor of a free matrix."""

    def __init__(self, student_dim: int, teacher_dim: int, seeds: Seeds) -> None:
        super().__init__()
        self.tall = teacher_dim >= student_dim
        shape = (max(teacher_dim, student_dim), min(teacher_dim, student_dim))
        self.free = nn.Parameter(torch.empty(shape).normal_(generator=seeds.torch("init")))

    def weight(self) -> Tensor:
        """Return the map, Float[T, S]."""
        with torch.autocast(self.free.device.type, enabled=False):
            orthonormal: Tensor = torch.linalg.qr(self.free).Q
        return orthonormal if self.tall else orthonormal.T

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        """Return Float[n, T]; nothing is drawn."""
        return ops.linear(x, self.weight().to(x.dtype))


def dense_work(weights: float, rows: float, width: float) -> Work:
    """Return the work of maps of so many ``weights`` on ``rows`` that hold ``width`` values each, with gradients."""
    return Work(2.0 * rows * weights, VALUE * (rows * width + 2.0 * weights)) * 3
