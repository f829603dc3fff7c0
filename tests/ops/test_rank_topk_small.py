"""A few users and a small catalogue on the CPU: one kernel does it all, or says that it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.kernels.numba import _topk_plan as planning
from fastkd.kernels.numba import _topk_small
from fastkd.kernels.numba import rank_topk as kernel
from fastkd.ops import rank_topk
from tests.ops.rank_topk_truth import INF, assert_same, normal, random_exclusions


@pytest.fixture
def answered(monkeypatch):
    """Whether each call was answered by the small way."""
    seen, plain = [], kernel.rank_small

    def watched(*arguments):
        found = plain(*arguments)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(kernel, "rank_small", watched)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 48])
@pytest.mark.parametrize(("items", "dim", "k"), [(1, 1, 1), (63, 5, 63), (64, 8, 3), (1000, 33, 20), (3000, 8, 700)])
def test_equals_the_reference_bit_for_bit(rows, items, dim, k, dtype, answered):
    users, table = normal(rows, dim).to(dtype), normal(items, dim, seed=1).to(dtype)
    table[items // 2 :] = table[: items - items // 2].clone()  # ties
    bias = normal(items, seed=2)
    bias[::7] = -INF
    for options in ({}, {"item_bias": bias}, {"exclude": random_exclusions(rows, items, 0.3, 0)}):
        found = rank_topk(users, table, k, backend="numba", **options)
        assert_same(found, rank_topk(users, table, k, backend="reference", **options))
    assert any(answered)


@pytest.mark.parametrize("rows", [1, 3])
def test_users_who_have_seen_all_or_almost_all(rows, answered):
    users, table = normal(rows, 8), normal(50, 8, seed=1)
    for share in (0.9, 1.0):
        seen = random_exclusions(rows, 50, share, 0)
        found = rank_topk(users, table, 20, exclude=seen, backend="numba")
        assert_same(found, rank_topk(users, table, 20, exclude=seen, backend="reference"))
    assert answered == [True, True]


def broken(kind):
    users, table = normal(2, 8), normal(300, 8, seed=1)
    if kind == "nan":
        table[17, 3] = float("nan")
    elif kind == "infinite":
        table[17, 3] = INF
    elif kind == "zero":
        table.zero_()
    elif kind == "overflow":
        users *= 1e30
        table *= 1e30
    elif kind == "all equal":
        table = torch.ones(5000, 8)
    return users, table


@pytest.mark.parametrize("kind", ["nan", "infinite", "zero", "overflow", "all equal"])
def test_what_the_filter_cannot_decide_is_ranked_all_the_same(kind, answered):
    users, table = broken(kind)
    found = rank_topk(users, table, 10, backend="numba")
    assert answered == [False]
    assert_same(found, rank_topk(users, table, 10, backend="reference"))


def test_other_dtypes_layouts_and_sizes_go_the_other_way(answered):
    users, table = normal(2, 8), normal(300, 8, seed=1)
    for u, t in ((users.bfloat16(), table.bfloat16()), (users, normal(8, 300).T), (normal(49, 8), table)):
        assert_same(rank_topk(u, t, 5, backend="numba"), rank_topk(u, t, 5, backend="reference"))
    assert True not in answered


def test_users_of_any_strides(answered):
    users, table = normal(8, 3).T, normal(300, 8, seed=1)
    assert_same(rank_topk(users, table, 5, backend="numba"), rank_topk(users, table, 5, backend="reference"))
    assert answered == [True]


@pytest.mark.parametrize(("dtype", "own"), [(torch.float32, False), (torch.float32, True), (torch.float64, False)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_its_margins_bound_its_errors_and_no_more_than_that(scale, dtype, own):
    users, table = (normal(5, 20) * scale).to(dtype).numpy(), normal(100, 20, seed=1).to(dtype).numpy()
    bias = normal(100, seed=2).numpy()
    scores = np.empty((5, 100), dtype=users.dtype)
    square = _topk_small._scores(users, table, own, scores)
    margins = _topk_small._margins(users, square, dtype == torch.float64, bias)
    truth = users.astype(np.float64) @ table.astype(np.float64).T + bias.astype(np.float64)
    rounded = scores.astype(np.float32) + bias
    assert (np.abs(rounded.astype(np.float64) - truth) <= margins[:, None]).all()
    longest = np.linalg.norm(table.astype(np.float64), axis=1).max()
    largest = np.linalg.norm(users.astype(np.float64), axis=1) * longest + np.abs(bias).max()
    assert (margins <= 4e-6 * largest).all()


def test_small_is_what_one_tile_holds():
    assert planning.is_small(1, 25_000, 20, 4, 2)
    assert not planning.is_small(planning._SMALL + 1, 100, 8, 4, 1)
    assert not planning.is_small(1, 1_000_000, 64, 4, 1)
    assert planning.is_small(48, 43_000, 48, 4, 1)
    assert not planning.is_small(48, 43_000, 48, 4, 2)
    assert not planning.is_small(48, 80_000, 8, 4, 1)
