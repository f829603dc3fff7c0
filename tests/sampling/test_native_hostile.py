"""Hostile arrays at the border of the C++ module: every call raises or draws what it should; none crashes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

native = pytest.importorskip("fastkd._native", reason="fastkd._native is not built")

EDGES = st.sampled_from([0, 1, -1, 2, 5, 2**31 - 1, 2**31, 2**32, 2**62, -(2**63), 2**63 - 1])
NUMBERS = st.one_of(st.integers(-2, 12), EDGES)
DTYPES = st.sampled_from([np.int64, np.int32, np.uint64, np.float64, np.bool_, ">i8"])


@st.composite
def arrays(draw, dtypes=DTYPES):
    values = draw(st.lists(NUMBERS, max_size=8))
    array = np.array(values, dtype=np.int64).astype(draw(dtypes))
    shape = draw(st.sampled_from(["flat", "strided", "matrix", "reversed"]))
    if shape == "strided":
        array = np.repeat(array, 2)[::2]
    return {"matrix": array[None], "reversed": array[::-1]}.get(shape, array)


def valid(indptr, indices, num_items):
    """The rules of a table, written a second time."""
    if indptr.dtype != np.int64 or indices.dtype not in (np.int32, np.int64):
        return False
    if any(a.ndim != 1 or not a.flags.c_contiguous or not a.dtype.isnative for a in (indptr, indices)):
        return False
    if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(indices) or not 0 <= num_items <= 2**32 - 1:
        return False
    ends = [int(p) for p in indptr]
    if any(b < a for a, b in itertools.pairwise(ends)):
        return False
    rows = [[int(i) for i in indices[a:b]] for a, b in itertools.pairwise(ends)]
    return all(row == sorted(set(row)) and (not row or (row[0] >= 0 and row[-1] < num_items)) for row in rows)


@settings(deadline=None, max_examples=400)
@given(arrays(st.sampled_from([np.int64, np.int64, np.int32, np.float64])), arrays(), st.one_of(NUMBERS, st.just(9)))
def test_any_table_is_refused_or_drawn_from(indptr, indices, num_items):
    try:
        sampler = native.UniformSampler(indptr, indices, num_items)
    except (ValueError, TypeError):
        assert not valid(indptr, indices, num_items)
        return
    assert valid(indptr, indices, num_items)
    users = np.arange(len(indptr) - 1)
    out = np.full((len(users), 3), -7)
    sampler.sample(users, 1, out)
    assert ((out >= -1) & (out < max(num_items, 0))).all()
    for user in users:
        assert not set(out[user].tolist()) & set(indices[indptr[user] : indptr[user + 1]].tolist())


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 8), max_size=8), st.lists(st.integers(-3, 9), max_size=9), st.integers(1, 9))
def test_nearly_valid_tables(ends, ids, num_items):
    # Close to the rules, so that often one alone is broken, and often none.
    indptr, indices = np.array([0, *sorted(ends), len(ids)]), np.array(ids, dtype=np.int32)
    try:
        native.UniformSampler(indptr, indices, num_items)
    except ValueError:
        assert not valid(indptr, indices, num_items)
    else:
        assert valid(indptr, indices, num_items)


@settings(deadline=None, max_examples=300)
@given(
    arrays(), arrays(), st.integers(0, 4), st.integers(0, 6), st.one_of(st.none(), arrays()),
    st.one_of(st.none(), arrays()), st.booleans(), NUMBERS,
)  # fmt: skip
def test_any_call_is_refused_or_filled(users, lists, rows, n, firsts, log_prob, replacement, threads):
    table = (np.array([0, 2, 2, 5]), np.array([0, 3, 0, 1, 4], dtype=np.int32), 6)
    sampler = native.PopularitySampler(*table, np.full(6, 2**32, dtype=np.uint64))
    out = np.full((rows, n), -7)
    try:
        sampler.sample(users, 1, out, lists, replacement, threads, firsts, log_prob)
    except (ValueError, TypeError):
        assert (out >= -7).all()
        return
    assert len(users) == rows
    assert ((out >= -1) & (out < 6)).all()
