from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core import Interactions
from fastkd.kernels.reference.sample_softmax import exponentials
from fastkd.ops import sample_softmax
from tests.contracts.backends import device_of

DRAW = {"temperature": 1.5, "seed": 3, "epoch": 2}


def tables(rows, num_items, dim, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=random), torch.randn(num_items, dim, generator=random)


def exclusions(rows, num_items, share, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def grouped(counts, expected):
    often = expected > 5
    counts = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    return counts[expected > 0], expected[expected > 0]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_marginals_and_pairs_are_those_of_the_softmax(temperature):
    # 150 items lie in two groups, the second one not full; p > 1e-6 for each test.
    count, num_items = 30_000, 150
    user, items = tables(1, num_items, 3)
    found = sample_softmax(user.expand(count, -1), items, 2, temperature=temperature, seed=0, epoch=0).numpy()
    weights = np.exp((items.double() @ user[0].double()).numpy() / temperature)
    p = weights / weights.sum()
    assert stats.chisquare(*grouped(np.bincount(found[:, 0], minlength=num_items), p * count)).pvalue > 1e-6
    pairs = p[:, None] * np.where(np.eye(num_items, dtype=bool), 0, p / (1 - p)[:, None]) * count
    counts = np.bincount(found[:, 0] * num_items + found[:, 1], minlength=num_items**2)
    assert not counts.reshape(num_items, -1).diagonal().any()
    assert stats.chisquare(*grouped(counts, pairs.ravel())).pvalue > 1e-6


def test_noise_made_from_the_largest_down_is_independent_and_exponential():
    noise = exponentials(torch.arange(300), 256, 0xABCDEF0123456789).numpy()
    assert stats.kstest(noise.ravel(), "expon").pvalue > 1e-6
    assert stats.kstest(noise[:, :128].min(axis=1) * 128, "expon").pvalue > 1e-6
    gaps = np.diff(np.sort(noise[:, :128], axis=1), axis=1)[:, 0]  # to the second least of 128: Exp(127)
    assert stats.kstest(gaps * 127, "expon").pvalue > 1e-6
    uniform = -np.expm1(-noise)
    for shift in (1, 2, 64, 128):
        correlation = np.corrcoef(uniform[:, :-shift].ravel(), uniform[:, shift:].ravel())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(uniform[:, shift:].size)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_backends_agree(data):
    draw = data.draw
    rows, num_items, dim = draw(st.integers(1, 9)), draw(st.integers(1, 900)), draw(st.integers(1, 12))
    users, items = tables(rows, num_items, dim, draw(st.integers(0, 9)))
    if draw(st.booleans()):
        users, items = users.round(), items.round()
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    bias = torch.randn(num_items) if draw(st.booleans()) else None
    if bias is not None:
        bias[draw(st.integers(0, num_items - 1))] = draw(st.sampled_from([-math.inf, math.inf, math.nan]))
    options = {
        "temperature": draw(st.sampled_from([0.01, 1.0, 30.0])), "seed": 1, "epoch": 0, "item_bias": bias,
        "exclude": exclusions(rows, num_items, draw(st.sampled_from([0.0, 0.4, 0.97]))),
    }  # fmt: skip
    n = draw(st.integers(0, 60))
    a, b = (sample_softmax(users.to(dtype), items.to(dtype), n, backend=k, **options) for k in ("reference", "numba"))
    assert torch.equal(a, b)
    for u, row in enumerate(a.tolist()):
        taken = [i for i in row if i >= 0]
        assert row == taken + [-1] * (n - len(taken))
        assert len(set(taken)) == len(taken)
        assert not np.isin(taken, options["exclude"].row(u)).any()


@pytest.mark.parametrize(
    ("num_items", "n", "temperature", "dtype"),
    [(5, 8, 1.0, torch.bfloat16), (270, 4, 0.3, torch.float32), (140, 9, 9.0, torch.float64)],
)
def test_triton_draws_the_same(num_items, n, temperature, dtype):
    users, items = (t.to(dtype) for t in tables(3, num_items, 7))
    bias, device = torch.randn(num_items), device_of("triton")
    bias[0] = -math.inf
    options = {"temperature": temperature, "seed": 5, "epoch": 1, "exclude": exclusions(3, num_items, 0.3)}
    expected = sample_softmax(users, items, n, item_bias=bias, backend="numba", **options)
    found = sample_softmax(
        users.to(device), items.to(device), n, item_bias=bias.to(device), backend="triton", **options
    )
    assert torch.equal(found.cpu(), expected)


def test_scores_without_a_bound_are_drawn_exactly():
    users, items = tables(4, 400, 5)
    items[7], items[300, 0], users[3] = 1e30, math.nan, 1e30
    a, b = (sample_softmax(users, items, 10, backend=k, **DRAW) for k in ("reference", "numba"))
    assert torch.equal(a, b)
    assert not (a == 300).any()


def test_a_draw_depends_on_the_user_id_alone():
    users, items = tables(20, 700, 6)
    whole, threads = sample_softmax(users, items, 8, **DRAW), torch.get_num_threads()
    ids = torch.tensor([17, 3])
    assert torch.equal(sample_softmax(users[ids], items, 5, user_ids=ids, **DRAW), whole[ids, :5])
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            assert torch.equal(sample_softmax(users, items, 8, **DRAW), whole)
    finally:
        torch.set_num_threads(threads)
    for change in ({"seed": 4}, {"epoch": 3}):
        assert not torch.equal(sample_softmax(users, items, 8, **{**DRAW, **change}), whole)


def test_opcheck_and_compile():
    users, items = tables(5, 200, 6)
    seen = exclusions(5, 200, 0.2)

    def draw(u, v):
        return sample_softmax(u, v, 4, exclude=seen, **DRAW)

    seen.to_torch()  # as any call does that is not compiled
    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(users, items), draw(users, items))
    arguments = (users, items, 4, 1.0, torch.arange(5), *seen.to_torch(), torch.randn(200), 1, 2, "numba")
    torch.library.opcheck(torch.ops.fastkd.sample_softmax.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"exclude": Interactions.empty(3, 40)}, "exclude has 3 rows for 2 users"),
        ({"user_ids": torch.arange(3)}, "same number of rows"),
        ({"item_bias": torch.randn(39)}, "one value for each of 40 items"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"n": 3, **DRAW, **change}
    with pytest.raises(ValueError, match=message):
        sample_softmax(*tables(2, 40, 4), arguments.pop("n"), **arguments)


def test_triton_looks_at_as_many_users_as_a_grid_holds(monkeypatch):
    from fastkd.kernels.triton import sample_softmax as kernel

    users, items = tables(130, 40, 4)
    device = device_of("triton")
    options = {"n": 3, "temperature": 1.0, "seed": 2, "epoch": 0, "backend": "triton"}
    whole = sample_softmax(users.to(device), items.to(device), **options)
    monkeypatch.setattr(kernel, "SECOND_AXIS", 1)
    assert torch.equal(sample_softmax(users.to(device), items.to(device), **options), whole)
