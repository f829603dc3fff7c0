"""What only a GPU shows of ``rank_topk``: sizes, memory ceilings, graphs, no waiting, equality at scale."""

from __future__ import annotations

import pytest
import torch

from fastkd.core import Interactions
from fastkd.ops import rank_topk

pytestmark = pytest.mark.gpu
MEGABYTES = 1 << 20


def table(rows, dim, dtype=torch.float32, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    out = torch.empty(rows, dim, dtype=dtype, device="cuda")
    for start in range(0, rows, 1 << 20):
        part = out[start : start + (1 << 20)]
        part.copy_(torch.randn(part.shape, generator=generator, device="cuda"))
    return out


def history(rows, num_items, each, seed=0):
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(num_items, (rows, each), generator=random)
    users = torch.arange(rows)[:, None].expand_as(ids)
    return Interactions.from_pairs(
        users.flatten().numpy(), ids.flatten().numpy(), num_users=rows, num_items=num_items, duplicates="merge"
    )


def chunked_truth(users, items, k, seen=None, bias=None):
    """Return canonical (scores, ids) of a few users: float64 in order of d, a chunk of items at a time."""
    scores = torch.empty(len(users), len(items), dtype=torch.float32, device="cuda")
    for start in range(0, len(items), 1 << 18):
        part = items[start : start + (1 << 18)].double()
        total = torch.zeros(len(users), len(part), dtype=torch.float64, device="cuda")
        for d in range(users.shape[1]):
            total += users[:, d, None].double() * part[:, d]
        scores[:, start : start + len(part)] = total.float()
    if bias is not None:
        scores += bias
    if seen is not None:
        for row in range(len(users)):
            scores[row, torch.from_numpy(seen.row(row)).long().cuda()] = -torch.inf
    order = torch.sort(-scores, dim=1, stable=True).indices[:, :k]
    return scores.gather(1, order), order


def assert_sampled(users, items, k, seen=None, bias=None, rows=4):
    found = rank_topk(users, items, k, exclude=seen, item_bias=bias)
    some = torch.linspace(0, len(users) - 1, min(rows, len(users))).long()
    part = None if seen is None else seen.rows(some.numpy())
    scores, ids = chunked_truth(users[some.cuda()], items, k, part, bias)
    assert torch.equal(found.ids[some.cuda()], ids)
    assert torch.equal(found.scores[some.cuda()], scores + 0.0)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("B", "N", "D", "k"), [(1, 300_000, 64, 10), (200, 100_003, 96, 100), (300, 50_001, 257, 50)])
def test_equals_chunked_float64(B, N, D, k, dtype):
    users, items = table(B, D, dtype), table(N, D, dtype, seed=1)
    bias = torch.randn(N, device="cuda")
    assert_sampled(users, items, k, history(B, N, 50), bias)


@pytest.mark.parametrize("k", [1, 1000, 4096, 20_000])
def test_long_lists(k):
    assert_sampled(table(130, 64), table(200_000, 64, seed=1), k, history(130, 200_000, 100))


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_adversaries_of_a_running_threshold(order):
    values = torch.arange(300_000.0, device="cuda")
    column = {"ascending": values, "descending": -values, "equal": torch.ones_like(values)}[order]
    assert_sampled(torch.ones(200, 16, device="cuda"), column[:, None].expand(-1, 16).contiguous(), 100, rows=2)


def test_a_history_of_a_hundred_thousand():
    assert_sampled(table(70, 32), table(400_000, 32, seed=1), 100, history(70, 400_000, 100_000), rows=2)


@pytest.mark.parametrize("k", [100, 1000])
@pytest.mark.parametrize(("B", "dtype"), [(1, torch.bfloat16), (4096, torch.bfloat16), (1024, torch.float32)])
def test_scratch_stays_below_200_megabytes_at_ten_million_items(B, dtype, k):
    users, items = table(B, 64, dtype), table(10_000_000, 64, dtype, seed=1)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = rank_topk(users, items, k)
    torch.cuda.synchronize()
    own = found.scores.nbytes + found.ids.nbytes
    assert torch.cuda.max_memory_allocated() - before - own <= 200 * MEGABYTES


def test_fifty_million_items_and_more_scores_than_32_bits_count():
    assert_sampled(table(100, 32, torch.bfloat16), table(50_000_000, 32, torch.bfloat16, seed=1), 100, rows=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_in_every_run(dtype):
    users, items = table(500, 64, dtype), table(300_000, 64, dtype, seed=1)
    items[1000:3000] = items[5000]  # ties
    first = rank_topk(users, items, 200)
    for _ in range(10):
        again = rank_topk(users, items, 200)
        assert torch.equal(again.ids, first.ids)
        assert torch.equal(again.scores, first.scores)


@pytest.mark.parametrize("B", [4, 300])
def test_no_waiting_and_replay_in_a_graph(B):
    users, items = table(B, 64), table(200_000, 64, seed=1)
    from fastkd.ops._dispatch import kernel

    launcher, seen = kernel("rank_topk", "triton").rank_topk, history(B, 200_000, 30)
    rest = (50, *seen.to_torch(users.device), torch.randn(200_000, device="cuda"))
    launcher(users, items, *rest)
    rank_topk(users, items, 50, exclude=seen, item_bias=rest[-1])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        launcher(users, items, *rest)
        rank_topk(users, items, 50, exclude=seen, item_bias=rest[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores, ids = launcher(users, items, *rest)
    for seed in (5, 6):
        users.copy_(table(B, 64, seed=seed))
        graph.replay()
        expected = rank_topk(users, items, 50, exclude=seen, item_bias=rest[-1])
        assert torch.equal(ids, expected.ids)
        assert torch.equal(scores, expected.scores)
