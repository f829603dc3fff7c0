"""Memory that the C++ samplers hold, by formula and as it is counted, and what building them takes."""

import tracemalloc

import numpy as np
import pytest

from fastkd.core import Interactions
from fastkd.sampling import NegativeSampler, _tables
from fastkd.sampling.distributions import Stratified

pytest.importorskip("fastkd._native", reason="fastkd._native is not built")

USERS, ITEMS, DEGREE = 1000, 10_000, 100


@pytest.fixture(scope="module")
def table():
    """The shape of the goal, 1000 times smaller: 100 interactions per user, 10 per item."""
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, ITEMS // DEGREE, (USERS, DEGREE)) + np.arange(DEGREE) * (ITEMS // DEGREE))
    indptr = np.arange(USERS + 1, dtype=np.int64) * DEGREE
    return Interactions(indptr, indices.reshape(-1).astype(np.int32), ITEMS)


def held(sampler):
    return sampler._draws.nbytes


@pytest.mark.parametrize("distribution", ["uniform", "popularity", "mixed", "stratified"])
def test_what_is_held_is_at_most_a_fifth_of_the_interactions(table, distribution):
    sampler = NegativeSampler(table, distribution=distribution, backend="native")
    sampler.sample(np.arange(USERS), 20)
    sampler.sample_epoch(2, epoch=0)
    per_item = {"uniform": 0, "popularity": 8, "mixed": 8, "stratified": 5}[distribution]
    assert per_item * ITEMS <= held(sampler) <= per_item * ITEMS + 128
    assert held(sampler) <= 0.2 * (table.indptr.nbytes + table.indices.nbytes)


@pytest.mark.parametrize(
    ("distribution", "asked"),
    [(name, asked) for name in ("popularity", "mixed") for asked in ("log_prob", "lists")]
    + [("popularity", "without replacement")],
)
def test_what_reads_masses_has_them_made_once(table, distribution, asked):
    options = {
        "log_prob": {"return_log_prob": True},
        "lists": {"exclude_lists": np.full((USERS, 1), -1)},
        "without replacement": {"replacement": False},
    }[asked]
    sampler = NegativeSampler(table, distribution=distribution, backend="native")
    for _ in range(2):
        sampler.sample(np.arange(USERS), 2, **options)
        assert held(sampler) == 8 * ITEMS + 8 * (ITEMS + 1) + 8 * USERS


def test_a_user_who_has_most_of_the_mass_costs_one_bit_per_user():
    whole = np.arange(ITEMS, dtype=np.int32)
    indptr = np.array([0, *[0] * 99, ITEMS - 1, ITEMS - 1 + 3], dtype=np.int64)
    seen = Interactions(indptr, np.concatenate([whole[1:], whole[:3]]), ITEMS)
    sampler = NegativeSampler(seen, distribution="popularity", backend="native")
    assert held(sampler) == 8 * ITEMS + 8 * 2  # 101 users
    assert set(sampler.sample(np.array([99]), 50)[0].tolist()) == {0}
    assert held(sampler) == 8 * ITEMS + 8 * 2 + 8 * (ITEMS + 1)  # drawn by rank: cumulative masses


def peak(work):
    tracemalloc.start()
    try:
        kept = work()
        return kept, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("alpha", [0, 0.75, 1.5])
def test_masses_are_made_without_a_second_copy_of_the_catalogue(alpha):
    counts = np.random.default_rng(0).zipf(1.3, 2**20).clip(0, 5000)
    masses, most = peak(lambda: _tables.masses(counts, alpha))
    assert masses.nbytes <= most < 1.5 * masses.nbytes


def test_items_are_counted_without_a_copy():
    ids = np.sort(np.random.default_rng(0).permutation(2**20)[: 2**19]).astype(np.int32)
    seen = Interactions(np.array([0, len(ids), len(ids)], dtype=np.int64), ids, 2**20)
    counts, most = peak(lambda: _tables.item_counts(seen))
    assert counts.nbytes <= most < 1.5 * counts.nbytes
    np.testing.assert_array_equal(counts, seen.item_counts())


def test_strata_are_made_of_one_order_of_the_items():
    counts = np.random.default_rng(0).integers(0, 50, 2**20)
    (stratum_of, _), most = peak(lambda: _tables.strata(Stratified(strata=7), counts))
    # The order, int64, its scratch memory and the answer, uint8.
    assert most < (8 + 4 + 1 + 1) * len(counts)
    np.testing.assert_array_equal(
        stratum_of[np.argsort(counts, kind="stable")], np.arange(len(counts)) * 7 // len(counts)
    )
