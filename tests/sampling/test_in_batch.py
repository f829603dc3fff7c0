import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import ConfigError, DataError, Interactions
from fastkd.sampling import NegativeSampler
from fastkd.sampling.in_batch import InBatchSampler

TABLE = Interactions.from_pairs([0, 0, 0, 1, 1, 2, 3, 4], [0, 1, 2, 2, 3, 0, 5, 6], num_users=5, num_items=8)
# Rows 0 and 5 hold the same item; user 0 knows the items of rows 0, 1, 2, 5; user 1 those of rows 2 and 3.
USERS = np.array([0, 0, 1, 1, 3, 2, 4])
POSITIVES = np.array([0, 1, 2, 3, 5, 0, 6])


def truth(table, users, positives):
    """Return allowed[b, c] from sets, one pair at a time."""
    history = [set(row.tolist()) for row in table]
    return np.array(
        [[bool(i != own and i not in history[u]) for i in positives] for u, own in zip(users, positives, strict=True)]
    ).reshape(len(users), len(users))


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
def test_the_mask_tells_false_negatives(backend):
    sampler = InBatchSampler(TABLE, backend=backend)
    want = truth(TABLE, USERS, POSITIVES)
    assert np.array_equal(sampler.mask(USERS, POSITIVES), want)
    rows, columns = sampler.false_negatives(USERS, POSITIVES)
    barred = np.zeros_like(want)
    barred[rows, columns] = True
    assert len(rows) == (~want).sum()
    assert np.array_equal(barred, ~want)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), threads=st.sampled_from([1, 2, 7]), wide=st.booleans())
def test_the_native_look_up_equals_the_truth(data, threads, wide):
    num_users, num_items = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 20))
    pairs = data.draw(st.sets(st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1)), max_size=80))
    users, items = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    table = Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)
    if wide:
        table = Interactions(table.indptr, table.indices.astype(np.int64), num_items)
    size = data.draw(st.integers(0, 150))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    batch = random.integers(0, num_users, size), random.integers(0, num_items, size)
    native = InBatchSampler(table, num_threads=threads, backend="native")
    assert np.array_equal(native.mask(*batch), truth(table, *batch))
    if size:
        drawn = native.sample(*batch, 5, epoch=2, step=9, on_exhausted="pad")
        plain = InBatchSampler(table, backend="reference").sample(*batch, 5, epoch=2, step=9, on_exhausted="pad")
        for name in ("items", "columns", "log_q", "positive_log_q"):
            assert np.array_equal(getattr(drawn, name), getattr(plain, name)), name


def test_log_q_is_the_share_of_the_interactions():
    sampler = InBatchSampler(TABLE)
    counts = np.array([2, 1, 2, 1, 1, 1, 1, 1])  # items 4 and 7 are taken to have been seen once
    got = sampler.log_q(np.arange(8))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.log(counts / 8), rtol=1e-6)
    drawn = sampler.sample(USERS, POSITIVES, 3)
    np.testing.assert_array_equal(drawn.log_q, sampler.log_q(drawn.items.reshape(-1)).reshape(7, 3))
    np.testing.assert_array_equal(drawn.positive_log_q, sampler.log_q(POSITIVES))


def test_corrected_softmax_over_the_batch_is_the_softmax_over_the_catalogue():
    """What the correction is for: the expected weight of an item in a batch no longer depends on how popular it is."""
    random = np.random.default_rng(0)
    popularity = np.array([1, 2, 4, 8, 16, 32])
    users = np.arange(63)
    table = Interactions.from_pairs(users, np.repeat(np.arange(6), popularity))
    sampler = InBatchSampler(table)
    batch = random.integers(0, 63, 200_000)
    weights = np.exp(-sampler.log_q(table.indices[batch].astype(np.int64)).astype(np.float64))
    sums = np.bincount(table.indices[batch], weights=weights, minlength=6) / len(batch)
    np.testing.assert_allclose(sums, 1.0, atol=0.06)


def test_draws_are_even_over_the_rows_negatives():
    sampler = InBatchSampler(TABLE, seed=5)
    allowed = truth(TABLE, USERS, POSITIVES)
    counts = np.zeros((7, 7))
    for step in range(40):
        columns = sampler.sample(USERS, POSITIVES, 300, step=step).columns
        for row in range(7):
            counts[row] += np.bincount(columns[row], minlength=7)
    assert (counts[~allowed] == 0).all()
    for row in range(7):
        want = 12_000 / allowed[row].sum()
        statistic = ((counts[row][allowed[row]] - want) ** 2 / want).sum()
        assert statistic < 22.5, "chi-square with at most 6 degrees of freedom, p = 0.001"


def test_all_of_them_and_distinct_ones():
    sampler, allowed = InBatchSampler(TABLE), truth(TABLE, USERS, POSITIVES)
    every = sampler.sample(USERS, POSITIVES, None)
    assert np.array_equal(every.columns >= 0, allowed)
    assert np.array_equal(every.items, np.where(allowed, POSITIVES[None], -1))
    assert (every.log_q[~allowed] == 0).all()
    distinct = sampler.sample(USERS, POSITIVES, 7, replacement=False, on_exhausted="pad")
    for row in range(7):
        found = distinct.columns[row][distinct.columns[row] >= 0]
        assert sorted(found) == np.flatnonzero(allowed[row]).tolist()


def test_a_draw_is_a_function_of_seed_epoch_and_step():
    def drawn(seed=0, threads=None, **at):
        return InBatchSampler(TABLE, seed=seed, num_threads=threads).sample(USERS, POSITIVES, 9, **at).columns

    assert np.array_equal(drawn(epoch=1, step=2), drawn(epoch=1, step=2, threads=7))
    for other in (drawn(epoch=2, step=2), drawn(epoch=1, step=3), drawn(seed=1, epoch=1, step=2)):
        assert not np.array_equal(other, drawn(epoch=1, step=2))
    few = InBatchSampler(TABLE).sample(USERS, POSITIVES, 4, epoch=1, step=2).columns
    assert np.array_equal(few, drawn(epoch=1, step=2)[:, :4])


def test_torch_in_torch_out():
    sampler = InBatchSampler(TABLE)
    users, positives = torch.from_numpy(USERS), torch.from_numpy(POSITIVES)
    drawn = sampler.sample(users, positives.to(torch.int32), 2)
    assert [t.dtype for t in (drawn.items, drawn.log_q)] == [torch.int64, torch.float32]
    assert sampler.mask(users, positives).dtype == torch.bool
    scores = torch.randn(7, 7)
    scores[sampler.false_negatives(users, positives)] = -torch.inf
    assert torch.equal(scores > -torch.inf, sampler.mask(users, positives))


def test_rows_without_a_negative_are_named_or_padded():
    sampler = InBatchSampler(TABLE)
    with pytest.raises(DataError, match=r"row 0 has 0 negative\(s\) in a batch of 1 but n=2"):
        sampler.sample(USERS[:1], POSITIVES[:1], 2)
    assert sampler.sample(USERS[:1], POSITIVES[:1], 2, on_exhausted="pad").items.tolist() == [[-1, -1]]
    with pytest.raises(DataError, match=r"row 0 has 3 .* without replacement"):
        sampler.sample(USERS, POSITIVES, 4, replacement=False)


@pytest.mark.parametrize("n", [0, 3, None])
@pytest.mark.parametrize("size", [0, 7])
def test_shapes(size, n):
    got = InBatchSampler(TABLE).sample(USERS[:size], POSITIVES[:size], n)
    width = size if n is None else n
    assert got.items.shape == got.columns.shape == got.log_q.shape == (size, width)
    assert got.positive_log_q.shape == (size,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.mask(USERS, POSITIVES[:3]), DataError, "positives has 3 rows for 7 users"),
        (lambda s: s.mask(USERS + 1, POSITIVES), DataError, r"user 5 at \[6\] is out of range \[0, 5\)"),
        (lambda s: s.mask(USERS, POSITIVES + 2), DataError, r"positive 8 at \[6\] is out of range \[0, 8\)"),
        (lambda s: s.mask(USERS.astype(float), POSITIVES), TypeError, "users must be int64"),
        (lambda s: s.sample(USERS, POSITIVES, -1), DataError, r"n must be in .* got -1"),
        (lambda s: s.sample(USERS, POSITIVES, 2, on_exhausted="x"), ConfigError, "'raise' or 'pad', got 'x'"),
        (lambda s: InBatchSampler(TABLE.indices), TypeError, "Interactions, got ndarray"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(InBatchSampler(TABLE))


def test_false_negatives_agree_with_the_other_samplers_exclusion():
    """An item that in-batch allows may be drawn by the uniform sampler too, and no other."""
    allowed = InBatchSampler(TABLE).mask(USERS, POSITIVES)
    drawn = NegativeSampler(TABLE).sample(USERS, 400)
    for row in range(7):
        assert set(POSITIVES[allowed[row]]) == (set(POSITIVES) & set(drawn[row].tolist()))
