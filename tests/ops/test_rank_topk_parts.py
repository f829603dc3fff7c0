"""What the CPU kernel is made of: products of few users, cuts by counting, sorting by rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.kernels.numba._select import make_key
from fastkd.kernels.numba._topk_cut import bound_of, keep_smallest, keep_within, reached_by, sort_keys, write_sorted
from fastkd.kernels.numba._topk_few import score_few


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "items", "dim"), [(1, 64, 64), (2, 72, 64), (8, 63, 16), (3, 1000, 20), (24, 9, 7), (2, 3, 1)]
)
def test_few_users_products_and_the_largest_norm(rows, items, dim, dtype):
    random = np.random.default_rng(0)
    users, table = (random.normal(size=(n, dim)).astype(dtype) for n in (rows, items))
    whole = np.full((rows, items + 5), np.nan, dtype=dtype)
    top = score_few(users, table, whole[:, :items])
    truth = users.astype(np.float64) @ table.astype(np.float64).T
    unit = np.finfo(dtype).eps * dim
    assert (np.abs(whole[:, :items] - truth) <= unit * np.abs(users) @ np.abs(table).T).all()
    assert np.isnan(whole[:, items:]).all(), "nothing is written past the tile"
    longest = np.sqrt((table.astype(np.float64) ** 2).sum(1).max())
    assert longest <= top <= longest * 1.0001


@pytest.mark.parametrize("place", [0, 7, 8, 9])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_bad_item_shows_in_the_norm(place, value, rows):
    table = np.ones((10, 8), dtype=np.float32)
    table[place, 3] = value
    assert not np.isfinite(
        score_few(np.ones((rows, 8), dtype=np.float32), table, np.empty((rows, 10), dtype=np.float32))
    )


def test_squares_that_vanish_still_give_a_norm():
    table = np.full((10, 8), 1e-30, dtype=np.float32)
    assert score_few(table[:1], table, np.empty((1, 10), dtype=np.float32)) >= np.sqrt(8) * 1e-30


def keys_of(data, most):
    """Keys of scores that may tie, of any size."""
    count = data.draw(st.integers(1, most))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = random.normal(size=count) * 10.0 ** data.draw(st.integers(-30, 30))
    if data.draw(st.booleans()):
        scores = random.integers(-3, 3, count).astype(float)
    scores[random.random(count) < 0.05] = data.draw(st.sampled_from([0.0, -np.inf, np.nan]))
    return np.array([make_key(np.float32(s), i) for i, s in enumerate(scores)], dtype=np.uint64)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_cuts_keep_the_smallest(data):
    keys = keys_of(data, 700)
    k, slack = data.draw(st.integers(1, len(keys))), data.draw(st.integers(0, 20))
    ordered, bound = np.sort(keys), np.uint64(bound_of(keys, len(keys), k, slack))
    assert k <= (keys <= bound).sum() <= max(k + slack, k)
    cut = keys.copy()
    kept = keep_within(cut, len(cut), bound)
    assert np.array_equal(cut[:kept], keys[keys <= bound])
    best = keys.copy()
    keep_smallest(best, len(best), k)
    assert np.array_equal(np.sort(best[:k]), ordered[:k])


@pytest.mark.parametrize("count", [3000, 5])
def test_cuts_of_many_keys_and_of_none(count):
    keys = np.random.default_rng(0).permutation(count).astype(np.uint64)
    keep_smallest(keys, count, 3)
    assert sorted(keys[:3]) == [0, 1, 2]
    before = keys.copy()
    keep_smallest(keys, count, 0)
    assert np.array_equal(keys, before)


def crowds(name):
    """Thousands of unlike keys that a histogram of their range finds hard."""
    random, many = np.random.default_rng(3), 5000
    scores = {
        "normal": random.normal(size=many),
        "equal": np.zeros(many),
        "an outlier": np.where(np.arange(many) == 7, 1e30, random.normal(size=many) * 1e-3),
        "both infinities": np.where(np.arange(many) < 2, [np.inf, -np.inf] * (many // 2), random.normal(size=many)),
        "two clusters": np.where(random.random(many) < 0.5, 1e30, -1e30) * (1 + 1e-6 * random.random(many)),
        "no numbers": np.where(random.random(many) < 0.5, np.nan, random.normal(size=many)),
    }[name]
    keys = np.array([make_key(np.float32(s), i) for i, s in enumerate(scores)], dtype=np.uint64)
    return random.permutation(keys)


@pytest.mark.parametrize("name", ["normal", "equal", "an outlier", "both infinities", "two clusters", "no numbers"])
def test_thousands_of_keys_are_cut_and_sorted(name):
    keys = crowds(name)
    ordered = np.sort(keys)
    for k in (1, 2, 100, 2500, 4998, 4999, 5000):
        assert np.uint64(bound_of(keys, len(keys), k, 0)) >= ordered[k - 1]
        for slack in (0, k // 16):
            assert k <= (keys <= np.uint64(bound_of(keys, len(keys), k, slack))).sum() <= k + slack
        best = keys.copy()
        keep_smallest(best, len(best), k)
        assert np.array_equal(np.sort(best[:k]), ordered[:k])
    for count in (0, 1, 2, 321, 5000):
        part = keys.copy()
        sort_keys(part, count)
        assert np.array_equal(part[:count], np.sort(keys[:count]))
        assert np.array_equal(part[count:], keys[count:])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_opening_is_reached_by_k_and_close_below(data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = random.normal(size=data.draw(st.integers(2, 300))).astype(np.float32)
    k = data.draw(st.integers(1, len(values)))
    found, exact = reached_by(values, k), np.sort(values)[-k]
    assert (values >= found).sum() >= k
    assert 0 <= exact - found <= (values.max() - values.min()) / 1000
    values[0] = -np.inf
    assert reached_by(values, k) == -np.inf


@pytest.mark.parametrize("count", [0, 1, 9, 100, 400])
def test_rows_are_written_in_order(count):
    random = np.random.default_rng(1)
    scores = random.integers(0, 9, count).astype(np.float32)
    keys = np.array([make_key(s, i) for i, s in enumerate(scores)], dtype=np.uint64)
    shuffled = random.permutation(keys) if count else keys
    written, ids = np.empty(count + 2, dtype=np.float32), np.empty(count + 2, dtype=np.int64)
    write_sorted(shuffled, count, written, ids)
    order = np.lexsort((np.arange(count), -scores))
    assert np.array_equal(ids, [*order, -1, -1])
    assert np.array_equal(written, [*scores[order], -np.inf, -np.inf])
