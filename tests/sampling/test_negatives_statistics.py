"""Draws follow their distribution: chi-square tests at fixed seeds, p in [1e-6, 1 - 1e-6].

The seeds are fixed, so a test either passes always or fails always; over the seeds used, a right sampler
would have failed with probability below 1e-4.
"""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fastkd.core import Interactions
from fastkd.sampling import NegativeSampler, _backends

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]
LOW, HIGH = 1e-6, 1 - 1e-6


def assert_even(counts):
    p = stats.chisquare(counts).pvalue
    assert LOW <= p <= HIGH, f"p = {p}"


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("seen", [0, 1, 500, 501, 990])
def test_slots_of_one_user_are_even(backend, seed, seen):
    history = np.sort(np.random.default_rng(seed).permutation(1000)[:seen])
    table = Interactions.from_csr([0, seen], history, 1000)
    drawn = NegativeSampler(table, seed=seed, backend=backend).sample(np.array([0]), 200_000)
    left = np.setdiff1d(np.arange(1000), history)
    counts = np.bincount(drawn[0], minlength=1000)
    assert counts.sum() == counts[left].sum()
    assert_even(counts[left])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_slots_of_many_users_and_epochs_are_even(backend, seed):
    sampler = NegativeSampler(Interactions.empty(4000, 97), seed=seed, backend=backend)
    by_user = sampler.sample(np.arange(4000), 5)
    for slot in range(5):
        assert_even(np.bincount(by_user[:, slot], minlength=97))
    by_epoch = np.array([sampler.sample(np.array([7]), 5, epoch=e)[0] for e in range(3000)])
    assert_even(np.bincount(by_epoch[:, 0], minlength=97))
    # Neighbouring slots, users and epochs are independent of each other: pairs are even too.
    small = NegativeSampler(Interactions.empty(8000, 12), seed=seed, backend=backend)
    drawn = small.sample(np.arange(8000), 2)
    for first, second in ((drawn[:, 0], drawn[:, 1]), (drawn[:-1, 0], drawn[1:, 0])):
        assert_even(np.bincount(first * 12 + second, minlength=144))
    later = small.sample(np.arange(8000), 2, epoch=1)
    assert_even(np.bincount(drawn[:, 0] * 12 + later[:, 0], minlength=144))


@NATIVE
def test_bounds_near_the_word_size_are_even():
    # At 3 * 2**30 items, multiply-and-shift without rejection would draw one item in three twice as often.
    sampler = NegativeSampler(Interactions.empty(1, 3 * 2**30), backend="native")
    drawn = np.concatenate([sampler.sample(np.array([0]), 1, epoch=e)[0] for e in range(6000)])
    assert_even(np.bincount(drawn % 3, minlength=3))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("num_items", [5, 8])
@pytest.mark.parametrize("seen", [(), (0,), (1, 2, 4)])
@pytest.mark.parametrize("extra", [(-1, -1), (3, 3)])
def test_without_replacement_every_ordered_sample_is_equally_likely(backend, num_items, seen, extra):
    left = [i for i in range(num_items) if i not in seen and i not in extra]
    n = min(3, len(left))
    users = 30_000
    table = Interactions.from_csr(
        np.arange(users + 1) * len(seen), np.tile(np.array(seen, dtype=np.int64), users), num_items
    )
    lists = np.tile(np.array(extra), (users, 1))
    sampler = NegativeSampler(table, seed=num_items + len(seen), backend=backend)
    drawn = sampler.sample(np.arange(users), n, exclude_lists=lists, replacement=False)
    outcomes = list(itertools.permutations(left, n))
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) <= set(outcomes)
    if len(outcomes) > 1:
        assert_even([counts[outcome] for outcome in outcomes])
    included = np.bincount(drawn.reshape(-1), minlength=num_items)[left] / users
    np.testing.assert_allclose(included, n / len(left), atol=5 * 0.5 / np.sqrt(users))


@pytest.mark.parametrize("backend", FAST)
def test_without_replacement_inclusion_across_the_change_of_method(backend):
    # 60 of 100 slots: the first 51 retry, the rest are ranks among what is left.
    drawn = NegativeSampler(Interactions.empty(4000, 100), backend=backend).sample(
        np.arange(4000), 60, replacement=False
    )
    for slot in (0, 50, 51, 59):
        assert_even(np.bincount(drawn[:, slot], minlength=100))
    included = np.bincount(drawn.reshape(-1), minlength=100) / 4000
    np.testing.assert_allclose(included, 0.6, atol=6 * np.sqrt(0.24 / 4000))
