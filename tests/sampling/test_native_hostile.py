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


# Users with some, none, half and all of the six items.
INDPTR, INDICES, ITEMS = np.array([0, 2, 2, 5, 11]), np.array([0, 3, 0, 1, 4, *range(6)], dtype=np.int32), 6
MASSES = np.full(ITEMS, 2**32, dtype=np.uint64)
STRATA = np.array([0, 0, 1, 1, 1, 1], dtype=np.uint8), np.array([2**30, 3 * 2**30], dtype=np.uint64)
VECTORS = np.ones((4, 2), dtype=np.float32), np.ones((ITEMS, 2), dtype=np.float32)
SAMPLERS = {
    "uniform": native.UniformSampler(INDPTR, INDICES, ITEMS),
    "popularity": native.PopularitySampler(INDPTR, INDICES, ITEMS, MASSES),
    "mixed": native.MixedSampler(INDPTR, INDICES, ITEMS, MASSES, 2**31),
    "stratified": native.StratifiedSampler(INDPTR, INDICES, ITEMS, *STRATA),
    "hard": native.HardSampler(INDPTR, INDICES, ITEMS, *VECTORS, 3),
}


@st.composite
def calls(draw):
    """Arguments that are in order more often than not, and otherwise wrong in one place or several."""
    rows, n = draw(st.integers(0, 4)), draw(st.integers(0, 7))

    def often(valid):
        return draw(valid if draw(st.integers(0, 5)) else arrays())

    def numbers(low, high, *shape):
        values = st.lists(st.integers(low, high), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
        return values.map(lambda found: np.array(found, dtype=np.int64).reshape(shape))

    lists = numbers(-1, ITEMS - 1 + draw(st.integers(0, 5)) // 5, rows, draw(st.integers(0, 3)))
    kinds = st.sampled_from([np.int64, np.int32])
    lists = st.builds(np.ndarray.astype, lists, kinds)
    return {
        "users": often(numbers(0, 3 + draw(st.integers(0, 9)) // 9, rows)),
        "out": np.full((rows + 2, n), -7, dtype=draw(kinds)),
        "lists": None if draw(st.booleans()) else often(lists),
        "replacement": draw(st.booleans()),
        "threads": draw(st.one_of(st.integers(-2, 12), st.sampled_from([2**31 - 1, 2**31, -(2**63)]))),
        "firsts": None if draw(st.booleans()) else often(st.one_of([numbers(*ends, rows) for ends in FIRSTS])),
        "log_prob": None if draw(st.booleans()) else often(st.just(np.full((rows, n), np.nan, dtype=np.float32))),
    }


# Around the last slots, and around those of a sampler that takes three for each.
FIRSTS = [(0, 9), (-1, 2), (2**32 // 3 - 9, 2**32 // 3 + 1), (2**32 - 9, 2**32 + 1)]


def plain(array, dtypes, ndim):
    return array.dtype.isnative and array.dtype in dtypes and array.ndim == ndim and array.flags.c_contiguous


def in_order(name, users, out, lists, replacement, threads, firsts, log_prob):
    """The rules of a call, written a second time."""
    rows, n = len(out) - 2, out.shape[1]
    if not -(2**31) <= threads < 2**31 or not plain(users, [np.int64], 1) or len(users) != rows:
        return False
    if ((users < 0) | (users >= 4)).any() or (not replacement and name not in ("uniform", "popularity")):
        return False
    if firsts is not None:
        last = 2**32 // (3 if name == "hard" else 1) - n
        if not replacement or not plain(firsts, [np.int64], 1) or len(firsts) != rows:
            return False
        if any(not 0 <= int(first) <= last for first in firsts):
            return False
    if lists is not None:
        if not plain(lists, [np.int32, np.int64], 2) or len(lists) != rows:
            return False
        if rows * n > 0 and ((lists < -1) | (lists >= ITEMS)).any():
            return False
    return log_prob is None or (name != "hard" and plain(log_prob, [np.float32], 2) and log_prob.shape == (rows, n))


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(sorted(SAMPLERS)), calls())
def test_any_call_is_refused_or_filled(name, call):
    whole = call["out"]
    out = whole[1:-1]
    order = ("lists", "replacement", "threads", "firsts", "log_prob")
    try:
        short = SAMPLERS[name].sample(call["users"], 1, out, *(call[key] for key in order))
    except (ValueError, TypeError):
        assert not in_order(name, **call)
        assert (whole[[0, -1]] == -7).all()
        return
    assert in_order(name, **call)
    assert (whole[[0, -1]] == -7).all()
    expected_short = -1
    for row, user in enumerate(call["users"]):
        barred = set(INDICES[INDPTR[user] : INDPTR[user + 1]].tolist())
        barred |= set() if call["lists"] is None else set(call["lists"][row].tolist())
        left = set(range(ITEMS)) - barred
        n = out.shape[1]
        filled = min(n, len(left)) if not call["replacement"] else n if left else 0
        expected_short = row if filled < n and expected_short < 0 else expected_short
        drawn = out[row].tolist()
        assert set(drawn[:filled]) <= left
        assert drawn[filled:] == [-1] * (n - filled)
        assert call["replacement"] or len(set(drawn[:filled])) == filled
        if call["log_prob"] is not None:
            logs = call["log_prob"][row]
            assert (np.isfinite(logs[:filled]) & (logs[:filled] <= 0)).all()
            assert (logs[filled:] == -np.inf).all()
    assert short == expected_short
