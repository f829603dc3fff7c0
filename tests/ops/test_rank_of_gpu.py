"""What only a GPU shows of ``rank_of``: sizes past 2^31, memory, graphs, no waiting for the device."""

import pytest
import torch

from fastkd.ops import rank_of, ranks_within
from tests.ops.rank_topk_truth import normal, random_exclusions

pytestmark = pytest.mark.gpu


def given_ids(rows, columns, num_items):
    return torch.randint(-1, num_items, (rows, columns), generator=torch.Generator().manual_seed(3))


def tables(rows, num_items, dim, columns):
    return [t.cuda() for t in (normal(rows, dim), normal(num_items, dim, seed=1), given_ids(rows, columns, num_items))]


@pytest.mark.parametrize("columns", [1, 8, 100])
@pytest.mark.parametrize("dim", [16, 64, 200, 300])
def test_agrees_with_the_reference(columns, dim):
    users, items, ids = tables(130, 20_011, dim, columns)
    seen = random_exclusions(130, 20_011, 0.01, 0)
    found = rank_of(users, items, ids, exclude=seen, backend="triton")
    assert torch.equal(found, rank_of(users, items, ids, exclude=seen, backend="reference"))


@pytest.mark.parametrize("columns", [1, 50])
def test_more_scores_than_an_int32_counts_in_little_memory(columns):
    users, items, ids = tables(2500, 1_000_000, 32, columns)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = rank_of(users, items, ids, backend="triton")
    torch.cuda.synchronize()
    halves = 4 * 32 * (len(users) + len(items))
    assert torch.cuda.max_memory_allocated() - before < halves + 64 * len(items) + 200 * ids.numel() + (64 << 20)
    few = torch.tensor([0, 1234, 2499], device="cuda")
    assert torch.equal(found[few], rank_of(users[few], items, ids[few], backend="reference"))


@pytest.mark.parametrize("columns", [2, 20])
def test_can_be_captured_and_never_waits(columns):
    users, items, ids = tables(64, 5000, 24, columns)
    bias, seen = normal(5000, seed=5).cuda(), random_exclusions(64, 5000, 0.02, 0)
    options = {"exclude": seen, "item_bias": bias, "validate": False, "backend": "triton"}
    expected = rank_of(users, items, ids, **options)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        rank_of(users, items, ids, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = rank_of(users, items, ids, **options)
    found.fill_(-1)
    graph.replay()
    assert torch.equal(found, expected)


def test_ties_everywhere_are_slow_and_right():
    users, items = torch.ones(40, 8).cuda(), torch.ones(3000, 8).cuda()
    ids = given_ids(40, 5, 3000).cuda()
    assert torch.equal(rank_of(users, items, ids, backend="triton"), ids + 1)


def test_ranks_within_can_be_captured():
    a, b = (torch.randint(0, 900, (300, 100), device="cuda") for _ in range(2))
    expected = ranks_within(a, b, backend="reference")
    ranks_within(a, b, backend="triton")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = ranks_within(a, b, backend="triton")
    graph.replay()
    assert torch.equal(found, expected)
