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
from fastkd.core.philox import philox4x32 as philox_of_core
from fastkd.core.philox import uniform_open
from fastkd.core.seeds import Seeds
from fastkd.kernels.numba import _threads
from fastkd.kernels.numba._log import log as _log
from fastkd.kernels.numba.philox import philox4x32, words_of
from fastkd.kernels.reference.sample_ranked import log
from fastkd.ops import sample_ranked
from tests.contracts.backends import device_of
from tests.contracts.op_contract import without_interpreter

BACKENDS = ("reference", "numba")
DRAW = {"temperature": 5.0, "seed": 3, "epoch": 2}


def inclusion(length, n, temperature):
    """Exact probability that each position is among n successive draws without replacement."""
    weights = np.exp(-(np.arange(length) + 1) / temperature)
    chance = np.zeros(length)
    for drawn in itertools.permutations(range(length), n):
        p, left = 1.0, weights.sum()
        for r in drawn:
            p, left = p * weights[r] / left, left - weights[r]
        chance[list(drawn)] += p
    return chance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("length", "n", "temperature"), [(6, 1, 2.0), (6, 3, 2.0), (7, 4, 0.8), (5, 2, math.inf)])
def test_every_set_is_as_likely_as_in_successive_draws(backend, length, n, temperature):
    users = 40_000
    found = sample_ranked(users, length, n, temperature=temperature, seed=11, epoch=0, backend=backend)
    chance = inclusion(length, n, temperature)
    assert chance.sum() == pytest.approx(n)
    counts = np.bincount(found.numpy().ravel(), minlength=length)
    # Each position alone: a binomial count. The bound is a two-sided p of 1e-6 per position.
    spread = np.sqrt(users * chance * (1 - chance)) + 1e-9
    assert np.all(np.abs(counts - users * chance) <= stats.norm.isf(5e-7) * spread + 1)
    # All sets together: chi-square against the exact probabilities of the sets, p > 1e-6.
    weights = np.exp(-(np.arange(length) + 1) / temperature)
    sets = list(itertools.combinations(range(length), n))
    expected = np.array([sum(_path(weights, p) for p in itertools.permutations(s)) for s in sets]) * users
    where = {s: i for i, s in enumerate(sets)}
    observed = np.bincount([where[tuple(row)] for row in found.tolist()], minlength=len(sets))
    rare = expected < 10
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 0
    assert stats.chisquare(observed[kept], expected[kept]).pvalue > 1e-6


def _path(weights, drawn):
    p, left = 1.0, weights.sum()
    for r in drawn:
        p, left = p * weights[r] / left, left - weights[r]
    return p


@settings(deadline=None, max_examples=40)
@given(
    users=st.lists(st.integers(0, 2**40), max_size=12),
    length=st.integers(0, 90),
    n=st.integers(0, 100),
    temperature=st.sampled_from([1e-310, 1e-3, 0.7, 10.0, 1e30, math.inf]),
    seed=st.integers(0, 2**40),
)
def test_backends_agree_and_rows_are_lists_of_positions(users, length, n, temperature, seed):
    ids = torch.tensor(users, dtype=torch.int64)
    lengths = torch.tensor([(u * 7 + length) % (length + 1) for u in users], dtype=torch.int64)
    a, b = (
        sample_ranked(ids, lengths, n, temperature=temperature, seed=seed, epoch=1, backend=backend)
        for backend in BACKENDS
    )
    assert torch.equal(a, b)
    assert a.shape == (len(users), n)
    for row, m in zip(a.tolist(), lengths.tolist(), strict=True):
        taken = row[: min(n, m)]
        assert taken == sorted(set(taken))
        assert all(0 <= r < m for r in taken)
        assert row[min(n, m) :] == [-1] * (n - min(n, m))


def test_the_stated_counters_and_weights():
    user, key = 2**33 + 5, Seeds(9).key("sample_ranked", 4)
    words = philox_of_core((np.arange(3), user & 0xFFFFFFFF, user >> 32, 0), key)
    uniforms = uniform_open(np.stack(words, axis=1).ravel())[:10]
    scores = -(np.arange(10) + 1) / 3.0 - np.log(-np.log(uniforms))
    expected = np.sort(np.argsort(-scores)[:4])
    found = sample_ranked(torch.tensor([user]), 10, 4, temperature=3.0, seed=9, epoch=4)
    assert found[0].tolist() == expected.tolist()


def test_a_draw_depends_on_user_seed_and_epoch_alone(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    whole, threads = sample_ranked(64, 50, 9, **DRAW), torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            assert torch.equal(sample_ranked(64, 50, 9, **DRAW), whole)
    finally:
        torch.set_num_threads(threads)
    part = torch.tensor([63, 0, 17, 17], dtype=torch.int32)
    assert torch.equal(sample_ranked(part, 50, 9, **DRAW), whole[part.long()])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(sample_ranked(64, 50, 9, **{**DRAW, "epoch": 3}), whole)
    assert not torch.equal(sample_ranked(64, 50, 9, **{**DRAW, "seed": 4}), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_far_below_float32_still_rank(backend):
    # exp(-1000/1) is 0 in float32 and float64; the sample must reach down the list all the same.
    found = sample_ranked(3, 1000, 900, temperature=1.0, seed=0, epoch=0, backend=backend)
    assert (found >= 0).all()
    assert found.max() > 880
    head = sample_ranked(200, 3000, 10, temperature=0.01, seed=0, epoch=0, backend=backend)
    assert head.tolist() == [list(range(10))] * 200


def test_logarithm_is_exact_to_two_ulp_and_one_for_both():
    x = np.concatenate([np.random.default_rng(0).random(4000) + 2.0**-33, 10.0 ** np.linspace(-12, 3, 4000), [1.0]])
    found = log(x)
    truth = np.array([math.log(v) for v in x])
    assert np.all(np.abs(found - truth) <= 2 * np.spacing(np.abs(truth)))
    assert np.array_equal(found, [_log(v) for v in x])


def test_numba_words_are_those_of_the_core():
    random = np.random.default_rng(0)
    for key in (0, 2**64 - 1, 0xDEADBEEF12345678):
        counters = random.integers(0, 2**32, (50, 4), dtype=np.uint64)
        expected = np.stack(philox_of_core(tuple(counters.T), key), axis=1)
        assert [[int(w) for w in philox4x32(*c, *words_of(key))] for c in counters] == expected.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a number above 0, got 0.0"),
        ({"temperature": math.nan}, "got nan"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"epoch": -3}, "epoch must be a whole number of at least 0, got -3"),
        ({"seed": -5}, r"seed must be an integer in \[0, 2\*\*63\), got -5"),
        ({"users": torch.tensor([0, -4])}, "users holds -4"),
        ({"list_length": torch.tensor([3])}, "1 rows for 2 users"),
        ({"list_length": torch.tensor([3, -7])}, "list_length holds -7"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": 2, "list_length": 5, "n": 2, **DRAW, **change}
    with pytest.raises(ValueError, match=message):
        sample_ranked(arguments.pop("users"), arguments.pop("list_length"), arguments.pop("n"), **arguments)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the interpreter's, at 1e-310
@pytest.mark.parametrize(
    ("length", "n", "temperature"), [(30, 5, 3.0), (33, 40, 50.0), (7, 3, 1e-310), (90, 9, math.inf)]
)
def test_triton_draws_the_same(length, n, temperature):
    users = torch.tensor([0, 5, 2**40 + 3, 17])
    lengths = torch.tensor([length, length // 2, length, 0])
    options = {**DRAW, "temperature": temperature}
    expected = sample_ranked(users, lengths, n, backend="numba", **options)
    device = device_of("triton")
    for bound in (None, length):
        found = sample_ranked(users.to(device), lengths.to(device), n, backend="triton", max_length=bound, **options)
        assert torch.equal(found.cpu(), expected)


def test_opcheck_and_compile():
    def draw(users):
        return sample_ranked(users, 50, 9, **DRAW)

    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for rows in (4, 7):
        assert torch.equal(compiled(torch.arange(rows)), draw(torch.arange(rows)))
    arguments = (torch.arange(5), torch.full((5,), 20), 20, 4, 3.0, 1, 2, "numba")
    torch.library.opcheck(torch.ops.fastkd.sample_ranked.default, arguments)


def test_triton_is_refused_on_the_cpu(monkeypatch):
    with without_interpreter(monkeypatch), pytest.raises(BackendError, match="sample_ranked cannot run"):
        sample_ranked(2, 5, 2, **DRAW, backend="triton")
    with pytest.raises(ValueError, match="lists of at most 4096, got 5000"):
        sample_ranked(torch.arange(2).to(device_of("triton")), 5000, 2, **DRAW, backend="triton")
