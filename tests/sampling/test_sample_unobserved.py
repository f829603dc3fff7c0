"""One definition, three implementations: C++, numba and the numpy truth draw the same bytes."""

import numpy as np
import pytest

from fastkd.core import Interactions
from fastkd.core.philox import philox4x32
from fastkd.kernels.numba import sample_unobserved as numba_kernel
from fastkd.kernels.numba._sampler_rows import block_words
from fastkd.kernels.reference._sampler import Stream
from fastkd.sampling import NegativeSampler, _backends

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]


def table_of(num_items, seed):
    rng = np.random.default_rng(seed)
    seen = rng.random((25, num_items)) < rng.random((25, 1))
    seen[0], seen[1], seen[2], seen[2, : num_items // 2] = False, True, False, True
    return Interactions.from_pairs(*np.nonzero(seen), num_users=25, num_items=num_items)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("num_items", [1, 2, 23, 64, 130])
def test_rows_equal_the_truth(backend, replacement, num_items):
    table = table_of(num_items, seed=num_items)
    rng = np.random.default_rng(0)
    users = rng.integers(0, 25, 30)
    fast, truth = (NegativeSampler(table, seed=2**63 - 1, backend=b) for b in (backend, "reference"))
    options = {"replacement": replacement, "on_exhausted": "pad", "epoch": 9}
    # One slot for a long history takes binary search, many slots take marks; 70 crosses a tile of random words.
    for n in (1, 4, 5, 70):
        for lists in (None, rng.integers(-1, num_items, (30, 7)), rng.integers(-1, num_items, (30, 1), dtype=np.int32)):
            drawn = fast.sample(users, n, exclude_lists=lists, **options)
            np.testing.assert_array_equal(drawn, truth.sample(users, n, exclude_lists=lists, **options))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [1, 3])
def test_epochs_equal_the_truth(backend, n):
    table = table_of(61, seed=1)
    fast, truth = (NegativeSampler(table, seed=4, backend=b) for b in (backend, "reference"))
    drawn = fast.sample_epoch(n, epoch=2, on_exhausted="pad")
    np.testing.assert_array_equal(drawn, truth.sample_epoch(n, epoch=2, on_exhausted="pad"))


@pytest.mark.parametrize("backend", FAST)
def test_long_histories_searched_equal_the_truth(backend):
    # 400 and 700 of 1000 items seen, one slot: retries by binary search, ranks by rank shift.
    rng = np.random.default_rng(3)
    rows = [np.sort(rng.permutation(1000)[:k]) for k in (400, 500, 501, 700, 999)] * 40
    table = Interactions.from_csr(np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int64), 1000)
    fast, truth = (NegativeSampler(table, backend=b) for b in (backend, "reference"))
    users = np.arange(200)
    np.testing.assert_array_equal(fast.sample(users, 1), truth.sample(users, 1))


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_first_attempts_by_hand(backend):
    # Without a history and with a power of two of items, item = word * N / 2**32 with no other attempt.
    sampler = NegativeSampler(Interactions.empty(6, 1 << 10), seed=1, backend=backend)
    drawn = sampler.sample(np.array([5]), 11, epoch=2)[0]
    slots = np.arange(11)
    words = np.stack(philox4x32((5, 0, slots // 4, 0), sampler.key(2)))[slots % 4, slots]
    np.testing.assert_array_equal(drawn, words >> np.uint32(22))


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_int64_item_ids(backend):
    narrow = table_of(50, seed=2)
    wide = Interactions(narrow.indptr, narrow.indices.astype(np.int64), narrow.num_items)
    a, b = (NegativeSampler(t, backend=backend) for t in (narrow, wide))
    users = np.arange(25)
    np.testing.assert_array_equal(a.sample(users, 6, on_exhausted="pad"), b.sample(users, 6, on_exhausted="pad"))
    left, right = (s.sample_epoch(2, epoch=0, on_exhausted="pad") for s in (a, b))
    assert (left.dtype, right.dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(left, right)


# Here Lemire's test turns away every fourth word, half of them, none, and one.
LARGE_BOUNDS = [3 * 2**30, 2**31 + 1, 2**31, 2**32 - 1]


@NATIVE
@pytest.mark.parametrize("bound", LARGE_BOUNDS)
def test_large_catalogues_equal_the_truth_native(bound):
    sampler = NegativeSampler(Interactions.empty(300, bound), seed=8, backend="native")
    drawn = sampler.sample(np.arange(300), 1)[:, 0].tolist()
    assert drawn == [Stream(sampler.key(0), user, 0, 1).below(bound, 0) for user in range(300)]


@pytest.mark.parametrize("bound", LARGE_BOUNDS)
def test_large_bounds_equal_the_truth_numba(bound):
    key, user = 0xFEDCBA9876543210, np.uint64((1 << 39) + 5)
    nothing = np.zeros(0, dtype=np.bool_)
    stream = Stream(key, int(user), 0, 300)
    for slot in range(300):
        words = tuple(np.uint64(w) for w in block_words(user, slot >> 2, 0, np.uint64(key)))
        drawn = numba_kernel._below(words, user, np.uint64(key), slot, bound, nothing, False)
        assert drawn == stream.below(bound, slot)
