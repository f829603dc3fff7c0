"""Benchmarks: `python -m pytest benchmarks`. Inputs are random normal, never zeros; peers run on the same tensors."""

from __future__ import annotations

import pytest
import torch

from fastkd.core import Interactions, Seeds


@pytest.fixture(scope="session")
def seeds() -> Seeds:
    """Return the seeds all inputs are made from."""
    return Seeds(0)


def normal(seeds: Seeds, name: str, *shape: int) -> torch.Tensor:
    """Return standard normal float32 values."""
    return torch.randn(*shape, generator=seeds.torch(name))


def history(seeds: Seeds, num_users: int, num_items: int, degree: int) -> Interactions:
    """Return ``degree`` random items per user, repeats merged."""
    random = seeds.numpy("history")
    users = random.integers(0, num_users, num_users * degree)
    items = random.integers(0, num_items, num_users * degree)
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items, duplicates="merge")
