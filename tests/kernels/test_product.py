"""Products and weighted sums in 512-bit registers, against torch; skipped where the processor has none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.kernels.numba import _matmul
from fastkd.kernels.numba import _product as products
from fastkd.kernels.numba import _topk_plan as planning
from fastkd.kernels.numba._combine import combine, combine_across
from fastkd.kernels.numba._product import GROUP, PANEL, multiply, new_panel, ready
from fastkd.kernels.numba._select import key_item
from fastkd.kernels.numba._topk_filter import threshold
from fastkd.kernels.numba._topk_margin import largest_norm, margins_of, norms_of
from fastkd.kernels.numba._topk_scan import scan_tile
from fastkd.ops import catalogue_softmax, rank_topk
from tests.ops.rank_topk_truth import random_exclusions

wide = pytest.mark.skipif(not products.has_wide_registers(), reason="this processor has no 512-bit registers")
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 200), st.integers(1, 150))


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(found, given_, terms):
    """Hold float32 sums of ``terms`` products to the float64 ones."""
    assert torch.allclose(found.double(), given_, atol=4e-7 * terms, rtol=1e-5)


@wide
@settings(deadline=None, max_examples=60)
@given(SIZES)
def test_products_of_any_size(sizes):
    count, items, dim = sizes
    users, table = numbers(count, dim), numbers(items, dim, seed=1)
    out = torch.full((count, items + 3), torch.nan)
    multiply(ready(users), table, out[:, :items])
    close(out[:, :items], users.double() @ table.double().T, dim)
    assert out[:, items:].isnan().all(), "written past the end of a row"


@wide
def test_a_product_has_the_same_bits_wherever_it_stands():
    users, items = numbers(3 * GROUP + 1, 37), numbers(2 * PANEL + 5, 37, seed=1)
    whole = torch.empty(len(users), len(items))
    multiply(ready(users), items, whole)
    for b, i in ((0, 0), (GROUP, PANEL), (len(users) - 1, len(items) - 1), (7, 2 * PANEL + 1)):
        one = torch.empty(1, 1)
        multiply(ready(users[b : b + 1]), items[i : i + 1], one)
        assert one[0, 0] == whole[b, i]


@wide
def test_a_value_that_is_not_finite_stays_in_its_products():
    users, items = numbers(8, 20), numbers(70, 20, seed=1)
    users[2, 3], items[65, 4], items[10, 0] = torch.nan, torch.inf, -torch.inf
    out = torch.empty(8, 70)
    multiply(ready(users), items, out)
    assert out[2].isnan().all()
    rest = torch.arange(8) != 2
    assert (~out[rest][:, [65, 10]].isfinite()).all()
    assert out[rest][:, [i for i in range(70) if i not in (65, 10)]].isfinite().all()


@wide
@settings(deadline=None, max_examples=60)
@given(SIZES, st.booleans(), st.integers(0, 3))
def test_weighted_sums_of_any_size(sizes, across, first):
    count, width, dim = sizes
    tile = torch.rand(count, width, generator=torch.Generator().manual_seed(2))
    terms, sums = (count, width) if across else (width, count)
    table = numbers(first + terms, dim, seed=3)
    rows = table[first:].double()
    if across:
        out = numbers(sums, dim, seed=4)
        wanted = out.double() + tile.double().T @ rows
        combine_across(tile, table, first, out)
    else:
        out = torch.full((sums, dim), torch.nan)
        wanted = tile.double() @ rows
        combine(tile, table, first, out)
    close(out, wanted, terms)


@wide
def test_what_lies_behind_a_row_does_not_matter():
    # A row of 20 is read as 32 numbers: the next row's are in the way, and none of them may count.
    table, tile = numbers(30, 20), torch.rand(5, 20)
    table[20] = torch.nan
    out = torch.empty(5, 20)
    combine(tile, table, 0, out)
    assert out.isfinite().all()


@pytest.mark.parametrize("own", [False, True])
@settings(deadline=None, max_examples=40)
@given(SIZES)
def test_products_of_matrices(own, sizes):
    if own and not products.has_wide_registers():
        pytest.skip("this processor has no 512-bit registers")
    rows, terms, columns = sizes
    left, right, start = numbers(rows, terms), numbers(terms, columns, seed=1), numbers(rows, columns, seed=2)
    truth, before, found = left.double() @ right.double(), torch.get_num_threads(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "has_wide_registers", lambda: own)
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                written, added, across = torch.full_like(start, torch.nan), start.clone(), start.clone()
                _matmul.rows_by_columns(left, right, written, add=False)
                _matmul.rows_by_columns(left, right, added, add=True)
                _matmul.add_columns_by_columns(left.T.contiguous(), right, across)
                found.append((_matmul.rows_by_rows(left, right.T.contiguous()), written, added, across))
            finally:
                torch.set_num_threads(before)
    for made, wanted in zip(found[0], (truth, truth, start + truth, start + truth), strict=True):
        close(made, wanted, terms)
    if own:
        assert all(torch.equal(one, three) for one, three in zip(*found, strict=True)), "threads change bits"


@wide
def test_sums_of_more_terms_than_stay_in_the_cache():
    left, right = numbers(7, 1300), numbers(1300, 70, seed=1)
    out = torch.empty(7, 70)
    _matmul.rows_by_columns(left, right, out, add=False)
    close(out, left.double() @ right.double(), 1300)


@wide
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("items", [64, 150])
def test_a_scan_keeps_what_is_above_the_line_and_nothing_else(items, biased):
    count, dim, first, k = 2 * GROUP + 1, 20, 1000, 5
    users, table = numbers(count, dim), numbers(items, dim, seed=1)
    bias = numbers(first + items, seed=3) if biased else torch.zeros(0)
    seen = random_exclusions(count, first + items, 0.1, 2)
    scores = torch.empty(count, items)
    multiply(ready(users), table, scores)
    if biased:
        scores += bias[first:]
    margins = margins_of(norms_of(users.numpy()), dim, torch.float32, bias.numpy())
    bounds = margins.at(largest_norm(table.numpy()))
    # The real margin is less than the way from one score to the next: a hundred thousand times as wide it shows.
    wide_ones = dataclasses.replace(margins, relative=0.01)
    worst = scores.median(dim=1).values.numpy()
    keys, counts = np.zeros((count, items + 64), dtype=np.uint64), np.zeros(count, dtype=np.int64)
    counts[3] = -1  # cannot be decided: nothing is looked at
    state = margins.norms, 0.0, wide_ones.terms, np.zeros(count), worst, keys, counts, np.full(count, items + 64)
    packed, panel = ready(users).packed, new_panel(dim)
    top = scan_tile(packed, table.numpy(), first, k, seen.indptr, seen.indices, bias.numpy(), panel, *state)
    assert top >= largest_norm(table.numpy()) * (1 - 1e-6)
    found_any, near = 0, 0
    for b in range(count):
        line = threshold(worst[b], wide_ones.at(top)[b])
        own = set(seen.row(b).tolist())
        wanted = {first + i for i in range(items) if scores[b, i] > line and first + i not in own}
        near += int(((scores[b] > line) & (scores[b] < worst[b] - 1.9 * float(bounds[b]))).sum())
        if b == 3:
            assert counts[b] == -1
            continue
        got = {int(key_item(key)) for key in keys[b, : counts[b]]}
        # A panel is held to the margin of the longest item met so far: the first panels' may be a little narrower.
        assert got <= wanted
        assert {i for i in wanted if scores[b, i - first] > worst[b]} <= got
        if items == PANEL:
            assert got == wanted
        found_any += len(got)
    assert found_any > count
    assert near > 0, "no score lies between the line and the K-th best: the margin is not seen"


@wide
@pytest.mark.parametrize("seed", range(4))
def test_ranking_is_the_same_with_either_product(seed, monkeypatch):
    count, items, dim, k = 25 + seed * 40, 1500 + 700 * seed, 8 + 13 * seed, [1, 30, 200, 700][seed]
    users, table = numbers(count, dim, seed=seed), numbers(items, dim, seed=9)
    table[items // 2 :] = table[: items - items // 2].clone()  # ties
    seen = random_exclusions(count, items, 0.03, seed)
    bias = numbers(items, seed=5) if seed % 2 else None
    if bias is not None:
        bias[3], bias[items - 1] = -torch.inf, 0.5
    monkeypatch.setattr(planning, "_TILE_BYTES", 1 << 16)
    own = rank_topk(users, table, k, exclude=seen, item_bias=bias, backend="numba")
    monkeypatch.setattr(products, "has_wide_registers", lambda: False)
    other = rank_topk(users, table, k, exclude=seen, item_bias=bias, backend="numba")
    assert torch.equal(own.ids, other.ids)
    assert torch.equal(own.scores, other.scores)


@wide
def test_a_softmax_is_the_same_with_either_product(monkeypatch):
    users, items = numbers(70, 20).requires_grad_(), numbers(1300, 20, seed=1).requires_grad_()
    ids = torch.randint(1300, (70, 5), generator=torch.Generator().manual_seed(2))
    found = []
    for own in (True, False):
        monkeypatch.setattr(products, "has_wide_registers", lambda own=own: own)
        loss = catalogue_softmax(users, items, ids, torch.full((70, 5), 0.2), temperature=1.0, backend="numba")
        found.append((loss.detach(), *torch.autograd.grad(loss.sum(), (users, items))))
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-6)
