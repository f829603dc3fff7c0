"""``precision="fast"``: the exact ranking of vectors rounded to bfloat16, within its bound of the exact scores."""

from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import rank_topk
from tests.contracts.backends import backends_of, interpreted
from tests.ops.rank_topk_truth import assert_same, by_hand, normal, random_exclusions, ranked

BACKENDS = backends_of("rank_topk")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_the_rounded_vectors(backend, dtype):
    n = 90 if interpreted(backend) else 1500
    users, items = normal(5, 11).to(dtype), normal(n, 11, seed=1).to(dtype)
    seen, bias = random_exclusions(5, n, 0.1, 0), normal(n, seed=2)
    rounded = [t.float().bfloat16().float() for t in (users, items)]
    found = ranked(users, items, 9, exclude=seen, item_bias=bias, precision="fast", backend=backend)
    assert_same(found, by_hand(*rounded, 9, seen, bias))
    assert not torch.equal(found[0], ranked(users, items, 9, exclude=seen, item_bias=bias, backend=backend)[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_ranked_as_it_is(backend, dtype):
    users, items = normal(4, 8).to(dtype), normal(70, 8, seed=1).to(dtype)
    assert_same(ranked(users, items, 9, precision="fast", backend=backend), ranked(users, items, 9, backend=backend))


@pytest.mark.parametrize("dim", [1, 3, 64])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_scores_stay_within_the_bound(dim, scale):
    users, items = normal(20, dim) * scale, normal(400, dim, seed=1) * scale
    exact, fast = (by_item(rank_topk(users, items, 400, precision=p)) for p in ("exact", "fast"))
    mass = users.double().abs() @ items.double().abs().T
    assert ((fast - exact).abs() <= 2.0**-7 * mass).all()


def test_the_bound_is_nearly_reached():
    # 1 + 2^-8 is half-way between bfloat16 values and rounds to the even one, 1: off by 1/257 of itself, twice.
    users = items = torch.full((1, 1), 1 + 2.0**-8)
    exact, fast = (rank_topk(users, items, 1, precision=p).scores.item() for p in ("exact", "fast"))
    assert fast == 1.0
    relative = (exact - fast) / exact
    assert math.isclose(relative, 1 - (256 / 257) ** 2, rel_tol=1e-6)
    assert 2.0**-8 + 2.0**-18 < relative < 2.0**-7


def by_item(found):
    scores = torch.empty_like(found.scores)
    return scores.scatter_(1, found.ids, found.scores).double()
