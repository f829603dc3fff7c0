from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core import BackendError
from fastkd.core.seeds import Seeds
from fastkd.kernels.numba import _threads
from fastkd.kernels.reference.sample_ranked import race_times
from fastkd.ops import sample_weighted

BACKENDS = ("reference", "numba")
DRAW = {"seed": 3, "epoch": 2}


def chance_of_sets(weights, n):
    """Exact probability of each set of n successive draws without replacement."""
    chances = {}
    for drawn in itertools.permutations(range(len(weights)), n):
        p, left = 1.0, weights.sum()
        for r in drawn:
            p, left = p * weights[r] / left, left - weights[r]
        chances[tuple(sorted(drawn))] = chances.get(tuple(sorted(drawn)), 0.0) + p
    return chances


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_set_is_as_likely_as_in_successive_draws(backend, n):
    weights = np.array([0.5, 3.0, 1.0, 0.05, 2.0])
    users = 20_000
    logs = torch.from_numpy(np.log(weights)).expand(users, -1)
    found = sample_weighted(users, logs, n, seed=11, epoch=0, backend=backend)
    chances = chance_of_sets(weights, n)
    where = {s: i for i, s in enumerate(chances)}
    observed = np.bincount([where[tuple(row)] for row in found.tolist()], minlength=len(chances))
    # p of 1e-6.
    assert stats.chisquare(observed, np.array(list(chances.values())) * users).pvalue > 1e-6


@settings(deadline=None, max_examples=40)
@given(
    users=st.lists(st.integers(0, 2**40), max_size=8),
    length=st.integers(0, 30),
    n=st.integers(0, 40),
    scale=st.sampled_from([0.0, 1.0, 1e4, 1e30]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**40),
)
def test_backends_agree_and_rows_are_ascending_positions(users, length, n, scale, dtype, seed):
    random = np.random.default_rng(seed)
    weights = random.standard_normal((len(users), length)) * scale
    weights[random.random(weights.shape) < 0.3] = -np.inf
    logs, ids = torch.from_numpy(weights).to(dtype), torch.tensor(users, dtype=torch.int64)
    a, b = (sample_weighted(ids, logs, n, seed=seed, epoch=1, backend=backend) for backend in BACKENDS)
    assert torch.equal(a, b)
    for row, possible in zip(a.tolist(), (logs > -torch.inf).tolist(), strict=True):
        count = min(n, sum(possible))
        assert row[:count] == sorted(set(row[:count]))
        assert all(possible[r] for r in row[:count])
        assert row[count:] == [-1] * (n - count)


def test_the_stated_counters():
    user, logs = 2**33 + 5, torch.linspace(-2, 2, 10)
    key = Seeds(9).key("sample_weighted", 4)
    # The times of rank decay at an infinite temperature are the logarithms of the exponentials alone.
    times = race_times(np.array([user]), 10, math.inf, key)[0] - logs.double().numpy()
    found = sample_weighted(torch.tensor([user]), logs[None], 4, seed=9, epoch=4)
    assert found[0].tolist() == sorted(np.argsort(times)[:4].tolist())
    for backend in BACKENDS:
        drawn = sample_weighted(torch.tensor([user]), logs[None], 4, order="drawn", seed=9, epoch=4, backend=backend)
        assert drawn[0].tolist() == np.argsort(times)[:4].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_the_draw_holds_the_same_positions(backend):
    logs = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 33)))
    logs[:20, 5:] = -torch.inf
    listed, drawn = (sample_weighted(50, logs, 9, order=o, **DRAW, backend=backend) for o in ("list", "drawn"))
    assert (drawn[:20, 5:] == -1).all()
    assert (drawn[:20, :5] >= 0).all()
    assert not torch.equal(drawn, listed)
    assert torch.equal(drawn.masked_fill(drawn < 0, 99).sort(1).values, listed.masked_fill(listed < 0, 99))


def test_a_draw_depends_on_user_weights_seed_and_epoch_alone(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    logs = torch.zeros(64, 50)
    whole = sample_weighted(64, logs, 9, **DRAW)
    part = torch.tensor([63, 0, 17, 17], dtype=torch.int32)
    assert torch.equal(sample_weighted(part, logs[:4], 9, **DRAW), whole[part.long()])
    assert torch.equal(sample_weighted(64, torch.zeros(50, 64).T, 9, **DRAW), whole)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(sample_weighted(64, logs, 9, seed=3, epoch=3), whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_weights": torch.tensor([[0.0, 1.0], [math.nan, 0.0]])}, r"log_weights\[1, 0\] is nan"),
        ({"log_weights": torch.tensor([[0.0, math.inf], [0.0, 0.0]])}, r"log_weights\[0, 1\] is inf"),
        ({"log_weights": torch.zeros(3, 2)}, "users"),
        ({"order": "random"}, "order must be 'list' or 'drawn', got 'random'"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"epoch": -3}, "epoch must be a whole number of at least 0, got -3"),
        ({"users": torch.tensor([0, -4])}, "users holds -4"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": 2, "log_weights": torch.zeros(2, 2), "n": 2, **DRAW, **change}
    with pytest.raises(ValueError, match=message):
        sample_weighted(arguments.pop("users"), arguments.pop("log_weights"), arguments.pop("n"), **arguments)


def test_opcheck_and_compile():
    logs = torch.linspace(-1, 1, 20)

    def draw(users):
        return sample_weighted(users, logs.expand(users.shape[0], -1), 4, **DRAW)

    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for rows in (4, 7):
        assert torch.equal(compiled(torch.arange(rows)), draw(torch.arange(rows)))
    arguments = (torch.arange(5), torch.zeros(5, 20), 4, False, 1, 2, "numba")
    torch.library.opcheck(torch.ops.fastkd.sample_weighted.default, arguments)


def test_triton_has_no_kernel_and_says_so():
    with pytest.raises(BackendError, match="it has no kernel for sample_weighted"):
        sample_weighted(2, torch.zeros(2, 5), 2, **DRAW, backend="triton")
