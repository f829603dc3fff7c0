from __future__ import annotations

import pytest
import torch

from fastkd.ops import relaxed_ranking_from_embeddings


@pytest.mark.gpu
def test_the_step_is_captured_and_never_waits():
    users, items = (torch.randn(n, 64, device="cuda", requires_grad=True) for n in (512, 100_000))
    lists = [torch.randint(0, 100_000, (512, w), device="cuda") for w in (40, 200)]

    def step():
        loss = relaxed_ranking_from_embeddings(users, items, *lists, validate=False)
        return torch.autograd.grad(loss.sum(), (users, items))

    expected = step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
def test_no_tensor_of_all_rows_is_made():
    users, items = (torch.randn(n, 64, device="cuda", requires_grad=True) for n in (8192, 1_000_000))
    lists = [torch.randint(0, 1_000_000, (8192, w), device="cuda") for w in (40, 200)]
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    relaxed_ranking_from_embeddings(users, items, *lists, validate=False).sum().backward()
    # the dense gradient, and less than half of what [B, K + L, D] would take
    assert torch.cuda.max_memory_allocated() - before < items.numel() * 4 + 8192 * 240 * 64 * 2
