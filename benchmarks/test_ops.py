"""Ops beside their plain torch peers, same inputs, same threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.conftest import history, normal
from fastkd import ops
from fastkd.core import Seeds
from fastkd.sampling import NegativeSampler

RANK_SHAPES = [(1024, 100_000, 64, 100), (256, 1_000_000, 64, 100), (1024, 25_181, 20, 20)]
LIST_SHAPES = [(1500, 25_181, 20, 100, 200), (1500, 25_181, 64, 40, 40)]


@pytest.mark.parametrize("peer", ["fastkd", "torch"])
@pytest.mark.parametrize("shape", RANK_SHAPES, ids=str)
def test_rank_topk(benchmark: Any, seeds: Seeds, shape: tuple[int, int, int, int], peer: str) -> None:
    """Exact top K without a mask, against matmul + topk in chunks of 256 users."""
    rows, count, dim, k = shape
    users, items = normal(seeds, "users", rows, dim), normal(seeds, "items", count, dim)

    def with_torch() -> torch.Tensor:
        return torch.cat([torch.topk(chunk @ items.T, k).indices for chunk in torch.split(users, 256)])

    work = with_torch if peer == "torch" else lambda: ops.rank_topk(users, items, k).ids
    benchmark.pedantic(work, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("peer", ["fastkd", "torch"])
@pytest.mark.parametrize("shape", LIST_SHAPES, ids=str)
def test_relaxed_ranking_from_embeddings(benchmark: Any, seeds: Seeds, shape: tuple[int, ...], peer: str) -> None:
    """Forward and backward to both tables, dense item gradient."""
    rows, count, dim, ranked, unranked = shape
    users = normal(seeds, "users", rows, dim).requires_grad_()
    items = normal(seeds, "items", count, dim).requires_grad_()
    ids = torch.randint(count, (rows, ranked + unranked), generator=seeds.torch("ids"))

    def with_torch() -> None:
        scores = torch.einsum("bd,bcd->bc", users, torch.nn.functional.embedding(ids, items))
        rest = torch.logsumexp(scores[:, ranked:], 1, keepdim=True)
        tail = torch.logcumsumexp(torch.cat([scores[:, :ranked], rest], 1).flip(1), 1).flip(1)
        (tail[:, :ranked] - scores[:, :ranked]).sum().backward()  # type: ignore[no-untyped-call]

    def with_fastkd() -> None:
        loss = ops.relaxed_ranking_from_embeddings(users, items, ids[:, :ranked], ids[:, ranked:])
        loss.sum().backward()  # type: ignore[no-untyped-call]

    def fresh() -> None:
        users.grad = items.grad = None

    benchmark.pedantic(with_torch if peer == "torch" else with_fastkd, setup=fresh, rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_sample_epoch(benchmark: Any, seeds: Seeds, backend: str) -> None:
    """One negative for each of a million interactions: 50k users x 20 items, 100k items."""
    sampler = NegativeSampler(history(seeds, 50_000, 100_000, 20), seed=0, backend=backend)
    benchmark.pedantic(lambda: sampler.sample_epoch(1, epoch=1), rounds=10, warmup_rounds=1)
