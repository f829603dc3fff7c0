"""The CPU kernel's own promises: margins, tiles, spans, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fastkd.kernels.numba import _openmp
from fastkd.kernels.numba import _product as products
from fastkd.kernels.numba import _topk_plan as planning
from fastkd.kernels.numba import rank_topk as kernel
from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._topk_few import score_few
from fastkd.kernels.numba._topk_margin import largest_norm, margins_of, norms_of
from fastkd.ops import rank_topk
from tests.ops.rank_topk_truth import assert_same, normal, random_exclusions


def margins(users, items):
    bounds = margins_of(norms_of(users.numpy()), users.shape[1], users.dtype, np.zeros(0, dtype=np.float32))
    return bounds.at(largest_norm(items.numpy()))


def test_items_closer_than_blas_rounds_are_told_apart():
    # 3000 items whose scores differ by less than a float32 sum of 64 terms errs.
    users, base = normal(6, 64) * 30, normal(1, 64, seed=1)
    items = base + normal(3000, 64, seed=2) * 1e-6
    found = rank_topk(users, items, 20, backend="numba")
    assert_same(found, rank_topk(users, items, 20, backend="reference"))
    blas = torch.sort(-(users @ items.T), dim=1, stable=True).indices[:, :20]
    assert not torch.equal(blas, found.ids), "the case is too easy to show anything"


def own_or_torch(own, monkeypatch):
    """Have products made by our own kernels or by torch."""
    if own and not products.has_wide_registers():
        pytest.skip("this processor has no 512-bit registers")
    monkeypatch.setattr(products, "has_wide_registers", lambda: own)


@pytest.mark.parametrize(("rows", "own"), [(planning.FEW, False), (planning.FEW + 9, False), (planning.FEW + 9, True)])
def test_noise_inside_the_margin_leaves_no_trace(rows, own, monkeypatch):
    users, items = normal(rows, 32), normal(3000, 32, seed=1)
    expected, noise = rank_topk(users, items, 30), torch.Generator().manual_seed(7)
    bound, largest = margins(users, items), []
    own_or_torch(own, monkeypatch)
    monkeypatch.setattr(planning, "_TILE_BYTES", 1 << 16)  # several tiles: the first is met in another way

    def disturb(out):
        shift = (torch.rand(out.shape, generator=noise) * 2 - 1) * float(bound.min()) * 0.9
        largest.append(float(shift.abs().max()))
        return out.add_(shift)

    def few(a, b, out):
        top = score_few(a, b, out)
        disturb(torch.from_numpy(out))
        return top

    def many(a, b, out):
        multiply(a, b, out)
        disturb(out)

    def scan(packed, table, tiles, *rest):
        # The scores are nowhere to be disturbed: the items are, by as much as a score may stray.
        shift = torch.randn(table.shape, generator=noise)
        shift *= 0.9 * float(bound.min()) / float(users.norm(dim=1).max()) / shift.norm(dim=1, keepdim=True)
        largest.append(float(shift.abs().max()))
        scanned.append(len(tiles))
        return scan_tiles(packed, table + shift.numpy(), tiles, *rest)

    scanned, multiply, scan_tiles = [], kernel.multiply, kernel.scan_tiles
    monkeypatch.setattr(kernel, "multiply", many)
    monkeypatch.setattr(kernel, "scan_tiles", scan)
    monkeypatch.setattr(kernel, "score_few", few)
    monkeypatch.setattr(kernel, "rank_small", lambda *_: None)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert_same(rank_topk(users, items, 30, backend="numba"), expected)
    finally:
        torch.set_num_threads(threads)
    assert max(largest) > 0
    assert (sum(scanned) > 3) == own


@pytest.mark.parametrize("setting", ["medium", "high"])
def test_reduced_matmul_precision_changes_nothing(setting, monkeypatch):
    users, items = normal(70, 48), normal(2000, 48, seed=1)
    expected, before = rank_topk(users, items, 25), torch.get_float32_matmul_precision()
    own_or_torch(False, monkeypatch)
    torch.set_float32_matmul_precision(setting)
    try:
        wide = margins(users, items)
        assert_same(rank_topk(users, items, 25, backend="numba"), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (wide > 100 * margins(users, items)).all()


@pytest.mark.parametrize("own", [False, True])
def test_a_user_gets_the_same_bits_in_any_batch_and_with_any_threads(own, monkeypatch):
    own_or_torch(own, monkeypatch)
    monkeypatch.setattr(planning, "_TILE_BYTES", 1 << 17)
    users, items = normal(300, 33), normal(1500, 33, seed=1)
    seen, whole = random_exclusions(300, 1500, 0.05, 0), None
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found = rank_topk(users, items, 40, exclude=seen)
            assert torch.get_num_threads() == n
            whole = whole or found
            assert_same(found, whole)
    finally:
        torch.set_num_threads(threads)
    for part in ([7], [299, 0], list(range(100, 217))):
        found = rank_topk(users[part], items, 40, exclude=seen.rows(part))
        assert_same(found, (whole.scores[part], whole.ids[part]))


def test_calls_from_several_threads_at_once():
    users, items = normal(100, 16), normal(900, 16, seed=1)
    expected = rank_topk(users, items, 9)
    with ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(rank_topk, users, items, 9) for _ in range(12)]:
            assert_same(call.result(), expected)


def test_no_tile_grows_with_users_times_items(monkeypatch):
    sizes, plain = [], kernel.multiply

    def recorded(a, b, out):
        sizes.append(out.numel() * out.element_size())
        plain(a, b, out)

    own_or_torch(False, monkeypatch)
    monkeypatch.setattr(kernel, "multiply", recorded)
    monkeypatch.setattr(planning, "_TILE_BYTES", 1 << 16)
    rank_topk(normal(600, 4), normal(3000, 4, seed=1), 5, backend="numba")
    assert len(sizes) > 1
    assert max(sizes) <= 1 << 16 <= 600 * 3000 * 4 // 100


@pytest.mark.parametrize("borrowed", [False, True])
def test_block_errors_are_raised_and_threads_put_back(borrowed, monkeypatch):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(_openmp, "_crowded", lambda: not borrowed)

    def work(start):
        seen.append(torch.get_num_threads())
        if start == 3:
            raise ArithmeticError("block 3")

    torch.set_num_threads(2)
    try:
        with pytest.raises(ArithmeticError, match="block 3"):
            run_blocks(work, range(5))
        # Inside a team torch's setting stays what it is, and a team within it would have one thread all the same.
        assert borrowed or set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [1, 3, 70])
def test_few_users_share_the_catalogue_among_threads(rows, monkeypatch):
    monkeypatch.setattr(planning, "_PARALLEL", 0)
    users, items = normal(rows, 9), normal(20_000, 9, seed=1)
    items[5000:] = items[:15_000].clone()  # ties across spans
    seen = random_exclusions(rows, 20_000, 0.01, 0)
    expected = rank_topk(users, items, 33, exclude=seen, backend="reference")
    threads, used = torch.get_num_threads(), []
    plain = kernel.run_blocks
    monkeypatch.setattr(kernel, "run_blocks", lambda work, starts: (used.append(len(starts)), plain(work, starts))[1])
    try:
        torch.set_num_threads(2)
        assert_same(rank_topk(users, items, 33, exclude=seen, backend="numba"), expected)
        tied = rank_topk(users, torch.ones_like(items), 33, exclude=seen, backend="numba")
    finally:
        torch.set_num_threads(threads)
    assert used
    assert_same(tied, rank_topk(users, torch.ones_like(items), 33, exclude=seen, backend="reference"))


@pytest.mark.parametrize("shape", [(0, 0, 1, 0), (1, 1, 1, 1), (300, 100, 7, 100), (5, 10**7, 64, 10**6)])
@pytest.mark.parametrize("threads", [1, 2, 64])
def test_every_plan_covers_its_shape_in_bounded_scratch(shape, threads):
    rows, items, dim, k = shape
    plan = planning.plan_rank_topk(rows, items, dim, k, 4, threads)
    assert plan.block >= 1
    assert plan.width % 64 == 0
    assert plan.threads <= threads
    assert plan.capacity > k
    spans = planning.spans_of(items, plan.spans)
    covered = sorted(tile for span in spans for tile in planning.tile_order(*span, plan.width))
    assert [a for a, _ in covered] + [items] == [0] + [b for _, b in covered] if items else covered == []
    assert plan.scratch_bytes(dim, 4, copied=True) <= plan.threads * (4 * planning._TILE_BYTES + (64 << 20))


def test_a_sorted_catalogue_meets_a_high_threshold_early():
    order = [first for first, _ in planning.tile_order(0, 64 * 64, 64)]
    records = sum(first > max(order[:i], default=-1) for i, first in enumerate(order))
    assert records <= 8


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e18])
def test_the_largest_norm_is_never_too_small(scale):
    table = (normal(40, 33).double() * scale).float()
    truth = float(table.double().norm(dim=1).max())
    assert truth <= largest_norm(table.numpy()) <= truth * 1.0001
    table[3, 1] = float("nan")
    assert not np.isfinite(largest_norm(table.numpy()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_no_copy_of_the_table(dtype, monkeypatch):
    sizes, plain = [], kernel.widened

    def recorded(table, *, fast):
        sizes.append(len(table))
        return plain(table, fast=fast)

    monkeypatch.setattr(kernel, "widened", recorded)
    monkeypatch.setattr(planning, "_STREAM_BYTES", 1 << 14)
    monkeypatch.setattr(planning, "_TILE_BYTES", 1 << 14)
    items = normal(4000, 8, seed=1).to(dtype)
    rank_topk(normal(3, 8).to(dtype), items, 5, precision="fast", backend="numba")
    assert max(sizes) <= 512
