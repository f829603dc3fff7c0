"""Every distribution over 50 fixed seeds: chi-square and KS, and log-probabilities that are those of the draws.

The seeds are fixed, so a test either passes always or fails always. The smallest of 50 p-values is held against 1e-6
(Bonferroni:
a right sampler would have failed with probability 5e-5 when the seeds were chosen), and the 50 p-values together
against
evenness by a KS test at the same level, which small biases in every seed would fail.
"""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fastkd.core import Interactions
from fastkd.sampling import NegativeSampler, _backends
from fastkd.sampling.distributions import Hard, Mixed, Popularity, Stratified

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]
LOW = 1e-6
SEEDS = range(50)
ITEMS = 60
STRATA = np.random.default_rng(1).integers(0, 3, ITEMS)


@pytest.fixture(scope="module")
def table():
    """Users: nobody's, a few cold, the half that is popular, and all but seven items."""
    rng = np.random.default_rng(0)
    crowd = rng.random((400, ITEMS)) < (rng.random(ITEMS) ** 3)[None]
    crowd[:, 5] = False
    counts = crowd.sum(axis=0)
    crowd[0] = False
    crowd[1] = counts <= np.sort(counts)[4]
    crowd[2] = counts > np.median(counts)
    crowd[3] = np.arange(ITEMS) % 9 != 0
    return Interactions.from_pairs(*np.nonzero(crowd), num_users=400, num_items=ITEMS)


def expected(distribution, table, user):
    """The probability of each item, from the definition."""
    left = ~np.isin(np.arange(ITEMS), table.row(user))
    even = left / left.sum()
    if isinstance(distribution, Stratified):
        shares = np.array([0.5, 0.3, 0.2]) * [(left & (s == STRATA)).any() for s in range(3)]
        within = [left & (s == STRATA) for s in range(3)]
        return sum(share / shares.sum() * w / max(w.sum(), 1) for share, w in zip(shares, within, strict=True))
    if isinstance(distribution, str):
        return even
    weights = table.item_counts().astype(float) ** distribution.alpha * left
    by_count = weights / weights.sum()
    return getattr(distribution, "share", 0) * even + (1 - getattr(distribution, "share", 0)) * by_count


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    "distribution",
    ["uniform", Popularity(alpha=0.75), Popularity(alpha=1.5), Mixed(share=0.4), Stratified(STRATA, (0.5, 0.3, 0.2))],
    ids=["uniform", "0.75", "1.5", "mixed", "stratified"],
)
def test_every_distribution_over_fifty_seeds(backend, distribution, table):
    users = np.arange(4)
    truth = [expected(distribution, table, user) for user in users]
    p_values = []
    for seed in SEEDS:
        sampler = NegativeSampler(table, distribution=distribution, seed=seed, backend=backend)
        drawn, log_prob = sampler.sample(users, 4000, epoch=seed, return_log_prob=True)
        for user in users:
            np.testing.assert_allclose(np.exp(log_prob[user], dtype=np.float64), truth[user][drawn[user]], rtol=2e-6)
            counts = np.bincount(drawn[user], minlength=ITEMS)
            possible = truth[user] > 0
            assert not counts[~possible].any()
            # Cells of fewer than five draws are counted together.
            order = np.argsort(truth[user])[::-1]
            small = truth[user][order] * 4000 < 5
            cells = np.append(counts[order][~small], counts[order][small].sum())
            shares = np.append(truth[user][order][~small], truth[user][order][small].sum())
            kept = shares > 0
            p_values.append(stats.chisquare(cells[kept], shares[kept] * 4000).pvalue)
    assert min(p_values) > LOW
    assert stats.kstest(p_values, "uniform").pvalue > LOW


@pytest.mark.parametrize("backend", FAST)
def test_uniform_ids_follow_the_straight_line(backend):
    sampler = [NegativeSampler(Interactions.empty(1, 2**24), seed=seed, backend=backend) for seed in SEEDS]
    p_values = [stats.kstest(s.sample(np.array([0]), 2000)[0] / 2**24, "uniform").pvalue for s in sampler]
    assert min(p_values) > LOW
    assert stats.kstest(p_values, "uniform").pvalue > LOW


@NATIVE
def test_ids_by_popularity_follow_their_cumulative_mass(table):
    weights = np.random.default_rng(2).integers(1, 1000, 100_000)
    owners = Interactions(np.arange(2) * 0, np.zeros(0, dtype=np.int32), 100_000)
    cumulative = np.cumsum(weights**0.75) / (weights**0.75).sum()
    p_values = []
    for seed in SEEDS:
        masses = _backends._tables.masses(weights, 0.75)
        draws = _backends._of("native", "PopularitySampler", owners.indptr, owners.indices, 100_000, masses)
        out = np.empty((1, 2000), dtype=np.int64)
        draws.sample(np.array([0]), seed, out)
        # The id is uniform within its own step of the staircase.
        inside = np.random.default_rng(seed).random(2000)
        low = np.append(0, cumulative)[out[0]]
        p_values.append(stats.kstest(low + inside * (cumulative[out[0]] - low), "uniform").pvalue)
    assert min(p_values) > LOW
    assert stats.kstest(p_values, "uniform").pvalue > LOW


def successive(weights, n):
    """The probability of every ordered sample: each item in proportion among what is left."""
    found = {}
    for order in itertools.permutations(np.flatnonzero(weights).tolist(), n):
        left, p = float(weights.sum()), 1.0
        for item in order:
            p *= weights[item] / left
            left -= weights[item]
        found[order] = p
    return found


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seen", [(), (0,), (1, 6), (0, 1, 2)])
def test_successive_sampling_by_popularity_equals_enumeration(backend, seen):
    # Item i has 2**i users, so that one item may hold more than half of what is left: all stages are met.
    users, counts = 20_000, 2 ** np.arange(8)[::-1]
    crowd = [np.flatnonzero(counts > u) for u in range(counts[0])]
    rows = [*crowd, *[np.array(seen, dtype=np.int64)] * users]
    table = Interactions.from_csr(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int64), 8)
    sampler = NegativeSampler(table, distribution=Popularity(alpha=1.0), seed=len(seen), backend=backend)
    drawn, log_prob = sampler.sample(np.arange(len(crowd), len(rows)), 3, replacement=False, return_log_prob=True)
    weights = table.item_counts().astype(float)
    weights[list(seen)] = 0
    truth = successive(weights, 3)
    counted = Counter(map(tuple, drawn.tolist()))
    assert set(counted) <= set(truth)
    for row in range(50):
        np.testing.assert_allclose(np.exp(log_prob[row].sum()), truth[tuple(drawn[row].tolist())], rtol=1e-5)
    large = [order for order, p in truth.items() if p * users >= 5]
    rest = 1 - sum(truth[o] for o in large)
    cells = [*(counted[o] for o in large), users - sum(counted[o] for o in large)]
    shares = np.array([*(truth[o] for o in large), rest])
    assert stats.chisquare(cells, shares * users).pvalue > LOW
    for item in range(8):
        included = sum(p for order, p in truth.items() if item in order)
        share = (drawn == item).any(axis=1).mean()
        assert abs(share - included) < 5 * np.sqrt(max(included * (1 - included), 1e-9) / users)


@pytest.mark.parametrize("backend", FAST)
def test_hard_negatives_are_the_best_of_even_draws(backend, table):
    # With scores in order of the id, the best of m even draws from n has rank below r with probability (r / n)**m.
    scores = (np.ones((400, 1), np.float32), np.arange(ITEMS, dtype=np.float32)[:, None])
    left = np.setdiff1d(np.arange(ITEMS), table.row(1))
    steps = (np.arange(len(left) + 1) / len(left)) ** 4
    p_values = []
    for seed in SEEDS:
        hard = NegativeSampler(table, distribution=Hard(scores=scores, candidates=4), seed=seed, backend=backend)
        counts = np.bincount(hard.sample(np.array([1]), 3000)[0], minlength=ITEMS)[left]
        few = np.diff(steps) * 3000 < 5
        cells, shares = (np.append(x[~few], x[few].sum()) for x in (counts, np.diff(steps)))
        p_values.append(stats.chisquare(cells, shares * 3000).pvalue)
    assert min(p_values) > LOW
    assert stats.kstest(p_values, "uniform").pvalue > LOW


@NATIVE
@pytest.mark.parametrize("distribution", ["uniform", "popularity", "mixed", "stratified"])
def test_ten_million_draws_hold_no_positive(distribution):
    items = 20_000
    rng = np.random.default_rng(1)
    shares = [0.0, 0.001, 0.3, 0.5, 0.9, 0.999]
    rows = [np.sort(rng.choice(items, int(s * items), replace=False)) for s in shares]
    table = Interactions.from_csr(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int64), items)
    drawn = NegativeSampler(table, distribution=distribution).sample(
        np.arange(6), 1_700_000, out=np.empty((6, 1_700_000), np.int32)
    )
    for user in range(6):
        seen = np.zeros(items, dtype=bool)
        seen[rows[user]] = True
        assert drawn[user].min() >= 0
        assert not seen[drawn[user]].any()
