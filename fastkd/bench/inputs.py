"""Inputs that look like what an op meets: normal, as training leaves it, and what breaks a filter. Never zeros."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastkd.bench.case import Inputs, Point
from fastkd.core import Interactions, Seeds

CENTRES = 64


def tables(point: Point, seed: int, device: str, *, width: str = "D") -> tuple[Tensor, Tensor]:
    """Return users Float[B, D] and items Float[N, D] of the point's kind, on the device."""
    seeds = Seeds(seed)
    random = seeds.torch(f"tables-{width}")
    dim = point[width]
    if point.table == "trained":
        users, items = _trained(point["B"], point["N"], dim, random)
    else:
        users = torch.randn(point["B"], dim, generator=random)
        items = torch.randn(point["N"], dim, generator=random)
    if point.table == "sorted":
        users = users * 0.01
        users[:, 0] += 1
        items = items[items[:, 0].argsort()].contiguous()
    if point.table == "equal":
        items = items[:1].repeat(point["N"], 1)
    dtype = getattr(torch, point.dtype)
    return users.to(device, dtype), items.to(device, dtype)


def _trained(users: int, items: int, dim: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tastes in clusters, dimensions that weigh less and less, popular items longer (log-normal)."""
    falling = (1.0 + torch.arange(dim)).rsqrt()
    centres = torch.randn(CENTRES, dim, generator=random)

    def table(rows: int) -> Tensor:
        own = torch.randint(CENTRES, (rows,), generator=random)
        return (centres[own] + torch.randn(rows, dim, generator=random)) * falling

    return table(users), table(items) * torch.randn(items, 1, generator=random).mul(0.5).exp()


def ids(point: Point, seed: int, device: str, columns: int, name: str = "ids") -> Tensor:
    """Return item ids Int64[B, columns], uniform."""
    random = Seeds(seed).torch(name)
    return torch.randint(point["N"], (point["B"], columns), generator=random).to(device)


def scores(point: Point, seed: int, device: str, columns: int, name: str = "scores") -> Tensor:
    """Return scores Float[B, columns], normal."""
    random = Seeds(seed).torch(name)
    return torch.randn(point["B"], columns, generator=random).to(device, getattr(torch, point.dtype))


def history(users: int, items: int, degree: int, seed: int = 0) -> Interactions:
    """Return ``degree`` items a user, one from each of ``degree`` equal stretches of the catalogue."""
    indptr = np.arange(users + 1, dtype=np.int64) * degree
    width = items // max(degree, 1)
    picked = Seeds(seed).numpy("history").integers(0, max(width, 1), (users, degree), dtype=np.int32)
    indices = picked + np.arange(degree, dtype=np.int32) * width
    return Interactions(indptr, indices.reshape(-1).astype(np.int32), items)


def nbytes(inputs: Inputs) -> int:
    """Return the bytes of the tensors among inputs."""
    return sum(t.numel() * t.element_size() for t in inputs.values() if isinstance(t, Tensor))
