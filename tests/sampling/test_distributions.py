"""The distributions as values, and that the backends draw the same bytes from each."""

import threading

import numpy as np
import pytest
import torch

from fastkd.core import ConfigError, DataError, Interactions
from fastkd.sampling import NegativeSampler, _backends, _tables
from fastkd.sampling.distributions import Hard, Mixed, Popularity, Stratified, Uniform, named

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]
USERS, ITEMS = 40, 53
RNG = np.random.default_rng(8)
VECTORS = tuple(RNG.standard_normal((k, 5)).astype(np.float32) for k in (USERS, ITEMS))
EVERY = {
    "uniform": Uniform(),
    "popularity": Popularity(),
    "power 0": Popularity(alpha=0),
    "power 1.5": Popularity(alpha=1.5),
    "mixed": Mixed(share=0.3),
    "all uniform": Mixed(share=1),
    "all by count": Mixed(share=0),
    "stratified": Stratified(),
    "given strata": Stratified(strata=RNG.integers(0, 4, ITEMS), shares=(0.7, 0.1, 0, 0.2)),
    "hard": Hard(scores=VECTORS, candidates=5),
    "hard by function": Hard(scores=lambda users, items: np.cos(users[:, None] + items), candidates=3),
}


@pytest.fixture(scope="module")
def table():
    """Degrees from nothing to everything; popularity from no user to nearly all."""
    rng = np.random.default_rng(0)
    seen = rng.random((USERS, ITEMS)) < rng.random((USERS, 1)) * rng.random(ITEMS) ** 2 * 1.5
    seen[0], seen[-1], seen[:-1, [3, 7]], seen[-2, 5:] = False, True, False, True
    return Interactions.from_pairs(*np.nonzero(seen), num_users=USERS, num_items=ITEMS)


def every_draw(sampler, lists):
    users = np.arange(USERS)
    log_prob = not isinstance(sampler.distribution, Hard)
    drawn = []
    for replacement in (True, False) if isinstance(sampler.distribution, (Uniform, Popularity)) else (True,):
        options = {"epoch": 2, "on_exhausted": "pad", "replacement": replacement, "return_log_prob": log_prob}
        for extra in (None, lists):
            found = sampler.sample(users, 11, exclude_lists=extra, **options)
            drawn += found if log_prob else [found]
    return [*drawn, sampler.sample_epoch(2, epoch=1, on_exhausted="pad")]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("backend", FAST)
def test_backends_draw_the_same_bytes(table, backend, name):
    lists = np.random.default_rng(1).integers(-1, ITEMS, (USERS, 6))
    fast, truth = (NegativeSampler(table, distribution=EVERY[name], seed=5, backend=b) for b in (backend, "reference"))
    for one, other in zip(every_draw(fast, lists), every_draw(truth, lists), strict=True):
        if one.dtype == np.float32:
            np.testing.assert_allclose(one, other, rtol=2e-7)
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("backend", FAST)
def test_threads_splits_order_and_slots_do_not_enter(table, backend, name):
    big = table.rows(np.tile(np.arange(USERS), 25))
    distribution = EVERY[name]
    if distribution.name == "hard" and not callable(distribution.scores):
        distribution = Hard(scores=(np.tile(VECTORS[0], (25, 1)), VECTORS[1]), candidates=5)
    make = [NegativeSampler(big, distribution=distribution, backend=backend, num_threads=t) for t in (1, 2, 7)]
    users = np.random.default_rng(2).permutation(big.num_users)
    whole = [s.sample(users, 70, epoch=3, on_exhausted="pad") for s in make]
    assert whole[0].tobytes() == whole[1].tobytes() == whole[2].tobytes()
    parts = [make[1].sample(u, 70, epoch=3, on_exhausted="pad") for u in np.array_split(users[::-1], 7)]
    assert np.concatenate(parts)[::-1].tobytes() == whole[0].tobytes()
    epoch = make[0].sample_epoch(3, epoch=1, on_exhausted="pad")
    assert epoch.tobytes() == make[2].sample_epoch(3, epoch=1, on_exhausted="pad").tobytes()
    owners = big.entry_users().astype(np.int64)
    entries = np.random.default_rng(3).permutation(big.nnz)[:500]
    firsts = (entries - big.indptr[owners[entries]]) * 3
    out = torch.empty((500, 3), dtype=torch.int32)
    found = make[0].sample_slots(torch.from_numpy(owners[entries]), firsts, 3, epoch=1, on_exhausted="pad", out=out)
    assert found is out
    np.testing.assert_array_equal(found.numpy(), epoch[entries])


@NATIVE
@pytest.mark.parametrize("name", EVERY)
def test_many_python_threads_get_what_a_lone_one_gets(table, name):
    # Calls change nothing that they share, which is what mod_gil_not_used() promises.
    sampler = NegativeSampler(table, distribution=EVERY[name], num_threads=2)
    alone = [sampler.sample(np.arange(USERS), 200, epoch=e, on_exhausted="pad") for e in range(6)]
    together = [None] * 6

    def draw(epoch):
        together[epoch] = sampler.sample(np.arange(USERS), 200, epoch=epoch, on_exhausted="pad")

    threads = [threading.Thread(target=draw, args=(e,)) for e in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", EVERY)
def test_further_exclusions_of_the_sampler_are_never_drawn(table, backend, name):
    lists = np.random.default_rng(4).integers(-1, ITEMS, (USERS, 8))
    as_table = NegativeSampler(table, distribution=EVERY[name], exclude=lists, backend=backend)
    users, items = np.nonzero(np.stack([np.isin(np.arange(ITEMS), row) for row in lists]))
    other = Interactions.from_pairs(users, items, num_users=USERS, num_items=ITEMS)
    merged = NegativeSampler(table, distribution=EVERY[name], exclude=other, backend=backend)
    drawn = as_table.sample(np.arange(USERS), 300, on_exhausted="pad")
    np.testing.assert_array_equal(drawn, merged.sample(np.arange(USERS), 300, on_exhausted="pad"))
    # Popularity is that of the interactions, so excluding by row and by sampler are the same draws.
    rows = NegativeSampler(table, distribution=EVERY[name], backend=backend)
    np.testing.assert_array_equal(drawn, rows.sample(np.arange(USERS), 300, exclude_lists=lists, on_exhausted="pad"))
    assert (
        rows.sample_epoch(2, epoch=0, on_exhausted="pad").shape
        == as_table.sample_epoch(2, epoch=0, on_exhausted="pad").shape
    )
    for user in range(USERS):
        barred = np.union1d(table.row(user), lists[user])
        assert not np.isin(drawn[user][drawn[user] >= 0], barred).any()


@pytest.mark.parametrize("alpha", [0, 0.75, 1.5])
def test_masses_are_exact(alpha):
    counts = np.random.default_rng(0).zipf(1.3, 5000).clip(0, 100_000) - 1
    masses = _tables.masses(counts, alpha)
    assert int(masses.astype(object).sum()) == 5000 * 2**32
    weights = counts.astype(np.float64) ** alpha
    assert ((masses > 0) == (weights > 0)).all()
    np.testing.assert_allclose(masses / (5000 * 2**32), weights / weights.sum(), rtol=0, atol=3 / (5000 * 2**32))


def test_bad_distributions_are_refused_by_value(table):
    for make, error, message in [
        (lambda: named("hard", 0.5), ConfigError, r"Hard\(scores="),
        (lambda: named("populariy", 0.5), ConfigError, "Did you mean 'popularity'"),
        (lambda: named(3, 0.5), TypeError, "got int"),
        (lambda: named("popularity", 1.6), ConfigError, r"alpha must be in \[0, 1.5\], got 1.6"),
        (lambda: Mixed(share=1.1), ConfigError, r"share must be in \[0, 1\], got 1.1"),
        (lambda: Stratified(strata=0), ConfigError, "got 0"),
        (lambda: Stratified(strata=1.5), ConfigError, "got 1.5"),
        (lambda: Stratified(strata=2, shares=(0.5, 0.6)), ConfigError, "sum to 1, got 1.1"),
        (lambda: Hard(scores=3), ConfigError, "a function or a pair"),
        (lambda: Hard(scores=VECTORS, candidates=0), ConfigError, "got 0"),
        (lambda: Hard(scores=VECTORS, candidates=2.0), ConfigError, "got 2.0"),
    ]:
        with pytest.raises(error, match=message):
            make()
    for distribution, error, message in [
        (Stratified(strata=3, shares=(0.5, 0.5)), ConfigError, "2 entries for 3 strata"),
        (Stratified(strata=np.zeros(5, dtype=np.int64)), DataError, "5 entries for 53 items"),
        (Stratified(strata=np.full(ITEMS, -1)), DataError, "stratum -1"),
        (Hard(scores=(VECTORS[0].astype(np.float64), VECTORS[1])), TypeError, "user vectors .* float64"),
        (Hard(scores=VECTORS[::-1]), DataError, r"user vectors must be \[40, d\], got \[53, 5\]"),
        (Hard(scores=(VECTORS[0][:, :4].copy(), VECTORS[1])), DataError, "width: 4 and 5"),
    ]:
        with pytest.raises(error, match=message):
            NegativeSampler(table, distribution=distribution)
    with pytest.raises(DataError, match="no item has an interaction"):
        NegativeSampler(Interactions.empty(2, 3), distribution="popularity")
    wrong = NegativeSampler(table, distribution=Hard(scores=lambda users, items: items))
    with pytest.raises(DataError, match=r"scores must return floats \[2, 8\], got int64"):
        wrong.sample(np.array([0, 1]), 1)
    for distribution in ("mixed", "stratified"):
        with pytest.raises(ConfigError, match=f"{distribution} draws with replacement only"):
            NegativeSampler(table, distribution=distribution).sample(np.array([0]), 1, replacement=False)
    with pytest.raises(ConfigError, match="log-Q"):
        NegativeSampler(table, distribution=EVERY["hard"]).sample(np.array([0]), 1, return_log_prob=True)


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("name", EVERY)
def test_users_who_have_seen_everything_are_named_or_padded(table, backend, name):
    sampler = NegativeSampler(table, distribution=EVERY[name], backend=backend)
    with pytest.raises(DataError, match="user 39 has no item left"):
        sampler.sample(np.array([1, 39, 39]), 4)
    drawn = sampler.sample(np.array([1, 39]), 4, on_exhausted="pad")
    assert (drawn[0] >= 0).all()
    assert (drawn[1] == -1).all()


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_items_without_weight_are_not_drawn(backend):
    seen = Interactions.from_pairs([0, 0, 1], [0, 1, 0], num_items=5)
    by_count = NegativeSampler(seen, distribution="popularity", backend=backend)
    with pytest.raises(DataError, match=r"user 0 has fewer items left that popularity can draw .* no weight"):
        by_count.sample(np.array([0]), 1)
    assert by_count.sample(np.array([1]), 9).tolist() == [[1] * 9]
    # Half uniform: what cannot come by popularity comes evenly.
    mixed = NegativeSampler(seen, distribution="mixed", backend=backend).sample(np.array([0]), 60)
    assert set(mixed[0].tolist()) == {2, 3, 4}


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("shares", [(0.5, 0.5000005, 0.0), tuple(np.float32([0.3, 0.7000001, 0]))])
def test_shares_that_pass_1_by_a_rounding_before_the_last(table, backend, shares):
    assert _tables.shares_of(shares).tolist()[-1] == 0
    drawn = NegativeSampler(table, distribution=Stratified(strata=3, shares=shares), backend=backend).sample([5, 6], 4)
    assert (drawn >= 0).all()


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_a_function_of_scores_is_asked_about_items_alone(table, backend):
    def scores(users, items):
        assert items.min() >= 0
        return np.cos(users[:, None] + items)

    made = {"distribution": Hard(scores, candidates=3), "backend": backend}
    full = USERS - 1
    with pytest.raises(DataError, match=f"user {full} has no item"):
        NegativeSampler(table, **made).sample(np.array([1, full]), 2)
    drawn = NegativeSampler(table, **made).sample(np.array([1, full, 2]), 2, on_exhausted="pad")
    assert (drawn[1] == -1).all()
    assert (drawn[[0, 2]] == NegativeSampler(table, **made).sample(np.array([1, 2]), 2)).all()
