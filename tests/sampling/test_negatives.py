import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.sampling import NegativeSampler, _backends

NATIVE = pytest.mark.skipif(_backends.obstacle("native") is not None, reason="fastkd._native is not built")
FAST = [pytest.param("native", marks=NATIVE), "numba"]


def random_interactions(num_users, num_items, seed=0):
    """Degrees from nothing to all items but one."""
    rng = np.random.default_rng(seed)
    seen = rng.random((num_users, num_items)) < rng.random((num_users, 1))
    seen[0] = False
    seen[-1] = True
    seen[:, 3] = False
    users, items = np.nonzero(seen)
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


@pytest.fixture(scope="module")
def table():
    return random_interactions(40, 53)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_million_draws_hold_no_positive(backend, share):
    num_items = 10_000
    rng = np.random.default_rng(1)
    rows = [np.sort(rng.permutation(num_items)[: int(share * num_items)]) for _ in range(5)]
    indptr = np.cumsum([0, *(len(r) for r in rows)])
    seen = Interactions.from_csr(indptr, np.concatenate(rows).astype(np.int64), num_items)
    drawn = NegativeSampler(seen, backend=backend).sample(np.arange(5), 240_000)
    assert drawn.size >= 10**6
    assert drawn.min() >= 0
    assert drawn.max() < num_items
    for user in range(5):
        used = np.bincount(drawn[user], minlength=num_items) > 0
        assert not used[seen.row(user)].any()
        # 24 draws per item at least: an item left out has probability below 1e-9 for all users together.
        assert used.sum() == num_items - len(seen.row(user))


@pytest.mark.parametrize("backend", FAST)
def test_epoch_draws_hold_no_positive_and_lie_beside_their_entries(backend, table):
    sampler = NegativeSampler(table, backend=backend, seed=5)
    drawn = sampler.sample_epoch(3, epoch=2)
    assert drawn.shape == (table.nnz, 3)
    assert drawn.dtype == table.indices.dtype
    assert not table.contains(np.repeat(table.entry_users(), 3), drawn.reshape(-1)).any()
    for user in range(table.num_users):
        begin, end = table.indptr[user : user + 2]
        slots = sampler.sample(np.array([user]), int(end - begin) * 3, epoch=2)[0]
        np.testing.assert_array_equal(drawn[begin:end].reshape(-1), slots)


@pytest.mark.parametrize("backend", FAST)
def test_slots_are_independent_of_n(backend, table):
    sampler = NegativeSampler(table, backend=backend)
    users = np.arange(table.num_users)
    for replacement in (True, False):
        options = {"replacement": replacement, "on_exhausted": "pad"}
        long = sampler.sample(users, 53, **options)
        for n in (0, 1, 3, 30):
            np.testing.assert_array_equal(sampler.sample(users, n, **options), long[:, :n])


@pytest.mark.parametrize("backend", FAST)
def test_seed_epoch_and_user_change_the_draws(backend):
    empty = Interactions.empty(2, 10_000)
    drawn = [
        tuple(NegativeSampler(empty, seed=seed, backend=backend).sample(np.array([user]), 8, epoch=epoch)[0])
        for seed in (0, 1)
        for epoch in (0, 1)
        for user in (0, 1)
    ]
    assert len(set(drawn)) == 8
    # Users share no window of slots either.
    assert len({item for row in drawn for item in row}) > 55


@pytest.mark.parametrize("backend", FAST)
def test_the_stream_is_pinned(backend):
    # A change of these bytes breaks every run that is resumed or reproduced: mark it [Breaking].
    table = random_interactions(40, 53)
    sampler = NegativeSampler(table, seed=11, backend=backend)
    drawn = sampler.sample(np.arange(40), 9, epoch=3)
    distinct = sampler.sample(np.arange(40), 9, epoch=3, replacement=False, on_exhausted="pad")
    digest = hashlib.sha256(drawn.tobytes() + distinct.tobytes()).hexdigest()
    assert digest == "41bfa3981ca19244aef38fda9963c366edecda772d8facd2021ad40dd05676e4"
    assert sampler.key(3) == Seeds(11).key("negatives", 3)


@pytest.mark.parametrize("backend", FAST)
def test_without_replacement_is_distinct_and_avoids_lists(backend, table):
    users = np.repeat(np.arange(table.num_users), 3)
    lists = np.random.default_rng(2).integers(-1, 53, (len(users), 9))
    drawn = NegativeSampler(table, backend=backend).sample(
        users, 53, exclude_lists=lists, replacement=False, on_exhausted="pad"
    )
    for user, extra, row in zip(users, lists, drawn, strict=True):
        left = np.setdiff1d(np.setdiff1d(np.arange(53), table.row(user)), extra)
        # Asked for all there is: every item left exactly once, then padding.
        np.testing.assert_array_equal(np.sort(row[: len(left)]), left)
        assert (row[len(left) :] == -1).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(0, 2**32 - 1), st.integers(0, 40), st.booleans())
def test_any_small_catalogue(num_items, seed, n, replacement):
    rng = np.random.default_rng(seed)
    seen = rng.random((4, num_items)) < rng.random((4, 1)) * 1.2
    table = Interactions.from_pairs(*np.nonzero(seen), num_users=4, num_items=num_items)
    users = rng.integers(0, 4, 6)
    lists = rng.integers(-1, num_items, (6, 5))
    drawn = NegativeSampler(table, seed=seed).sample(
        users, n, exclude_lists=lists, replacement=replacement, on_exhausted="pad"
    )
    for user, extra, row in zip(users, lists, drawn, strict=True):
        left = set(range(num_items)) - set(table.row(user).tolist()) - set(extra.tolist())
        filled = (n if left else 0) if replacement else min(n, len(left))
        assert set(row[:filled].tolist()) <= left
        assert (row[filled:] == -1).all()
        assert replacement or len(set(row[:filled].tolist())) == filled


def test_numpy_and_torch_get_their_own_kind(table):
    sampler = NegativeSampler(table)
    users = torch.arange(30)
    lists = torch.full((30, 2), 7)
    drawn = sampler.sample(users, 4, exclude_lists=lists)
    assert isinstance(drawn, torch.Tensor)
    assert drawn.dtype == torch.int64
    expected = sampler.sample(np.arange(30), 4, exclude_lists=np.full((30, 2), 7))
    assert isinstance(expected, np.ndarray)
    np.testing.assert_array_equal(drawn.numpy(), expected)
    np.testing.assert_array_equal(sampler.sample(np.arange(30, dtype=np.int32), 4, exclude_lists=lists), expected)
    np.testing.assert_array_equal(sampler.sample(np.arange(60)[::2] // 2, 4, exclude_lists=lists), expected)


def test_lists_stand_for_arrays(table):
    sampler = NegativeSampler(table, seed=3)
    expected = sampler.sample(np.array([2, 0]), 4, exclude_lists=np.array([[7, 8], [9, -1]]))
    drawn = sampler.sample([2, 0], 4, exclude_lists=[[7, 8], (9, -1)])
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(sampler.sample((2, 0), 4, exclude_lists=[[7, 8], [9, -1]]), expected)
    np.testing.assert_array_equal(sampler.sample(range(3), 2), sampler.sample(np.arange(3), 2))
    assert sampler.sample([], 4).shape == (0, 4)


def test_tensors_on_another_device_are_refused(table):
    with pytest.raises(TypeError, match=r"users is on meta.*users\.cpu\(\)"):
        NegativeSampler(table).sample(torch.empty(3, dtype=torch.int64, device="meta"), 2)


@pytest.mark.parametrize(
    ("users", "error", "message"),
    [
        (np.array([1.0]), TypeError, "users must be int64.*float64"),
        (np.array([1], dtype=np.uint64), TypeError, "users must be int64.*uint64"),
        (np.array([1], dtype=">i8"), TypeError, "users must be int64.*>i8"),
        (np.array([True]), TypeError, "bool"),
        (torch.tensor([1.0]), TypeError, "users must be int64.*float32"),
        ([0.5], TypeError, "users must be int64.*float64"),
        (["a"], TypeError, "users must be int64"),
        ([[0], [1, 2]], DataError, "users must be a list of ids, or lists of equal length"),
        ({1}, TypeError, "a numpy array, a torch tensor or a list, got set"),
        ([2, 40], DataError, r"user 40 at \[1\] is out of range \[0, 40\)"),
        (np.array([[1]]), DataError, r"1 dimension.*\(1, 1\)"),
        (np.array([2, 40, 41]), DataError, r"user 40 at \[1\] is out of range \[0, 40\)"),
        (np.array([2, -1]), DataError, r"user -1 at \[1\]"),
        (np.array([2**62]), DataError, f"user {2**62}"),
    ],
)
def test_bad_users_are_refused_by_value(table, users, error, message):
    with pytest.raises(error, match=message):
        NegativeSampler(table).sample(users, 2)


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "exclude_lists must be int64.*float64"),
        (np.zeros(2, dtype=np.int64), DataError, "2 dimension"),
        (np.zeros((3, 3), dtype=np.int64), DataError, "3 rows for 2 users"),
        (np.array([[1, 2], [3, 53]]), DataError, r"excluded item 53 at \[1, 1\] is out of range \[-1, 53\)"),
        (np.array([[1, -2], [3, 5]]), DataError, r"excluded item -2 at \[0, 1\]"),
    ],
)
def test_bad_lists_are_refused_by_value(table, lists, error, message):
    with pytest.raises(error, match=message):
        NegativeSampler(table).sample(np.array([0, 1]), 2, exclude_lists=lists)


def test_bad_arguments_are_refused_by_value(table):
    sampler = NegativeSampler(table)
    users = np.array([0])
    for call, error, message in [
        (lambda: sampler.sample(users, -1), DataError, "n must be in .* got -1"),
        (lambda: sampler.sample(users, 2.0), TypeError, r"n must be an integer, got 2\.0"),
        (lambda: sampler.sample(users, True), TypeError, "got True"),
        (lambda: sampler.sample(users, 1, epoch=-1), DataError, "epoch must be in .* got -1"),
        (lambda: sampler.sample(users, 1, on_exhausted="skip"), ConfigError, "'raise' or 'pad', got 'skip'"),
        (lambda: sampler.sample_epoch(1, epoch=0, on_exhausted="skip"), ConfigError, "'raise' or 'pad', got 'skip'"),
        (lambda: sampler.sample_epoch(2**32, epoch=0), DataError, r"user 3 with 52 items .* 2\*\*32 slots"),
        (lambda: NegativeSampler(table, distribution="unifrom"), ConfigError, "'unifrom'. Did you mean 'uniform'"),
        (lambda: NegativeSampler(table, num_threads=0), DataError, "num_threads must be in .* got 0"),
        (lambda: NegativeSampler(table, seed=-1), ConfigError, "got -1"),
        (lambda: NegativeSampler(table, backend="nativ"), ConfigError, "'nativ'. Did you mean 'native'"),
        (lambda: NegativeSampler([[1]]), TypeError, "got list"),
        (lambda: NegativeSampler(Interactions.empty(1, 2**32)), DataError, f"{2**32} items"),
    ]:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_exhausted_users_are_named_or_padded(backend):
    seen = Interactions.from_pairs([0, 1, 1, 1, 2, 2], [0, 0, 1, 2, 0, 2], num_items=3)
    sampler = NegativeSampler(seen, backend=backend)
    users = np.array([0, 2, 1, 1])
    with pytest.raises(DataError, match=r"user 1 has no item left \(3 seen and 0 excluded of 3 items\)"):
        sampler.sample(users, 2)
    with pytest.raises(DataError, match="user 1 has no item left"):
        sampler.sample_epoch(2, epoch=0)
    padded = sampler.sample(users, 2, on_exhausted="pad")
    np.testing.assert_array_equal(padded[2:], -np.ones((2, 2)))
    assert (padded[:2] >= 0).all()
    epoch = sampler.sample_epoch(2, epoch=0, on_exhausted="pad")
    np.testing.assert_array_equal((epoch == -1).all(axis=1), seen.entry_users() == 1)
    assert not (epoch == -1).any(axis=1)[seen.entry_users() != 1].any()
    with pytest.raises(DataError, match=r"user 2 has 1 item\(s\) left \(2 seen and 0 excluded of 3 items\) but n=2"):
        sampler.sample(users[:2], 2, replacement=False)
    np.testing.assert_array_equal(sampler.sample(users[1:2], 2, replacement=False, on_exhausted="pad"), [[1, -1]])
    lists = np.array([[1, 1, 0, -1]])
    with pytest.raises(DataError, match=r"user 2 has no item left \(2 seen and 1 excluded of 3 items\)"):
        sampler.sample(users[1:2], 2, exclude_lists=lists)


@pytest.mark.parametrize("backend", [*FAST, "reference"])
def test_empty_requests(backend, table):
    sampler = NegativeSampler(table, backend=backend)
    assert sampler.sample(np.empty(0, dtype=np.int64), 3).shape == (0, 3)
    assert sampler.sample(np.arange(3), 0).shape == (3, 0)
    assert sampler.sample(np.arange(3), 2, exclude_lists=np.empty((3, 0), dtype=np.int64)).shape == (3, 2)
    assert sampler.sample_epoch(0, epoch=0).shape == (table.nnz, 0)
    nothing = NegativeSampler(Interactions.empty(2, 0), backend=backend)
    assert nothing.sample_epoch(4, epoch=0).shape == (0, 4)
    assert nothing.sample(np.array([1]), 2, on_exhausted="pad").tolist() == [[-1, -1]]
    with pytest.raises(DataError, match="user 1 has no item left"):
        nothing.sample(np.array([1]), 2)
