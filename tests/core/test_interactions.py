import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastkd.core import DataError, Interactions


@st.composite
def pair_lists(draw):
    num_users, num_items = draw(st.integers(1, 12)), draw(st.integers(1, 15))
    pairs = draw(st.sets(st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1)), max_size=60))
    order = draw(st.permutations(sorted(pairs)))
    return num_users, num_items, order


def build(num_users, num_items, pairs):
    users, items = (np.array([p[k] for p in pairs], dtype=np.int64) for k in (0, 1))
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


@given(pair_lists())
def test_pairs_in_any_order_give_the_same_sorted_rows(case):
    num_users, num_items, pairs = case
    built = build(num_users, num_items, pairs)
    for user, row in enumerate(built):
        assert row.tolist() == sorted(i for u, i in pairs if u == user)
    assert built.indptr.dtype == np.int64
    assert built == Interactions.from_csr(built.indptr, built.indices, num_items)


@given(pair_lists())
def test_transpose_twice_is_the_identity_and_counts_agree(case):
    num_users, num_items, pairs = case
    built = build(num_users, num_items, pairs)
    assert built.transpose().transpose() == built
    assert built.transpose().degrees().tolist() == built.item_counts().tolist()


@given(pair_lists(), st.data())
def test_rows_contains_and_union_agree_with_sets(case, data):
    num_users, num_items, pairs = case
    built = build(num_users, num_items, pairs)
    chosen = data.draw(st.lists(st.integers(0, num_users - 1), max_size=8))
    subset = built.rows(np.array(chosen, dtype=np.int64))
    assert [r.tolist() for r in subset] == [built.row(u).tolist() for u in chosen]
    grid = np.indices((num_users, num_items)).reshape(2, -1)
    assert built.contains(*grid).tolist() == [(u, i) in set(pairs) for u, i in grid.T.tolist()]
    other = build(num_users, num_items, data.draw(st.permutations(pairs))[: len(pairs) // 2])
    assert built.union(other) == built


def test_scipy_round_trip():
    matrix = sp.random_array((30, 20), density=0.2, rng=np.random.default_rng(0)).tocsr()
    built = Interactions.from_scipy(matrix)
    assert built.nnz == matrix.nnz
    assert (matrix.toarray() != 0).sum(axis=1).tolist() == built.degrees().tolist()


@pytest.mark.parametrize(
    ("indptr", "indices", "named"),
    [
        ([0, 2], [1, 7], "row 0 holds item 7, outside [0, 5)"),
        ([0, 1, 3], [0, -3, 2], "row 1 holds item -3"),
        ([0, 1, 3], [0, 3, 3], "row 1 holds item 3 twice"),
        ([0, 0, 0, 2], [4, 1], "row 2 holds item 4 before 1"),
        ([0, 2, 1], [0], "indptr decreases at row 1: 2 then 1"),
        ([1, 2], [0, 1], "indptr must start with 0"),
        ([0, 3], [0, 1], "indptr ends at 3 but there are 2 indices"),
        ([0, 1], [0.5], "indices must be integers, got dtype float64"),
        ([[0, 1]], [0], "indptr must be one-dimensional"),
    ],
)
def test_broken_csr_is_refused_with_row_and_value(indptr, indices, named):
    with pytest.raises(DataError) as error:
        Interactions.from_csr(indptr, indices, 5)
    assert named in str(error.value)


def test_row_starts_do_not_count_as_falls():
    built = Interactions.from_csr([0, 0, 2, 2, 3, 3], [3, 4, 0], 5)
    assert [r.tolist() for r in built] == [[], [3, 4], [], [0], []]


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"users": [0, 0], "items": [2, 2]}, "user 0 item 2"),
        ({"users": [0, -4], "items": [1, 2]}, "negative user id -4 in entry 1"),
        ({"users": [0, 1], "items": [1, 9], "num_items": 9}, "item id 9 in entry 1 is out of range [0, 9)"),
        ({"users": [0], "items": [1, 2]}, "1 and 2"),
        ({"users": np.array([2**63], dtype=np.uint64), "items": [0]}, str(2**63)),
    ],
)
def test_broken_pairs_are_refused_with_the_value(kwargs, named):
    with pytest.raises(DataError) as error:
        Interactions.from_pairs(**kwargs)
    assert named in str(error.value)


def test_merge_counts_a_repeated_pair_once():
    built = Interactions.from_pairs([0, 0, 1], [2, 2, 0], duplicates="merge")
    assert built.nnz == 2


def test_unknown_rows_are_refused_by_id():
    built = Interactions.from_pairs([0, 1], [0, 1])
    with pytest.raises(DataError, match="user 2 is out of range"):
        built.row(2)
    with pytest.raises(DataError, match="user -1 is out of range"):
        built.rows([0, -1])


def test_catalogues_past_int32_use_64_bit_ids():
    far = 2**31 + 5
    built = Interactions.from_pairs([0, 0], [far, 3])
    assert built.indices.dtype == np.int64
    assert built.indices.tolist() == [3, far]
    assert built.contains([0], [far]).tolist() == [True]
    assert Interactions.from_pairs([0], [3]).indices.dtype == np.int32


def test_hash_follows_content_not_dtype():
    a = Interactions.from_csr(np.array([0, 1]), np.array([2], dtype=np.int32), 5)
    b = Interactions.from_csr(np.array([0, 1]), np.array([2], dtype=np.int64), 5)
    assert a.content_hash() == b.content_hash()
    assert a.content_hash() != Interactions.from_csr([0, 1], [2], 6).content_hash()


def test_empty_has_rows_but_no_entries():
    empty = Interactions.empty(3, 4)
    assert (len(empty), empty.nnz, empty.num_items) == (3, 0, 4)
    assert empty.transpose().num_users == 4


def test_torch_view_shares_memory_and_is_cached():
    built = Interactions.from_pairs([0, 1], [0, 1])
    indptr, indices = built.to_torch()
    assert indices.data_ptr() == built.indices.ctypes.data
    assert built.to_torch()[0] is indptr


def test_ids_out_of_range_are_in_no_interaction():
    built = Interactions.from_pairs([0, 1, 1], [0, 1, 2], num_users=2, num_items=3)
    users = [0, 0, 1, 1, 2, -1, 2**61, 1]
    items = [4, 5, -1, -3, -2, 5, 1, 1]
    assert built.contains(users, items).tolist() == [False] * 7 + [True]
    assert built.contains(np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint64)).tolist() == [True]


def test_the_matrix_it_is_built_from_stays_as_it_is():
    matrix = sp.csr_array((np.ones(3), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    assert Interactions.from_scipy(matrix).indices.tolist() == [0, 2]
    assert (matrix.indices.tolist(), matrix.nnz) == ([2, 0, 2], 3)


def test_tensors_made_in_inference_mode_serve_training_afterwards():
    table = Interactions.from_pairs([0, 1], [1, 0])
    with torch.inference_mode():
        table.to_torch()
    assert not any(t.is_inference() for t in table.to_torch())


def test_unsigned_ids_are_ids():
    table = Interactions.from_pairs(np.array([0, 1], dtype=np.uint64), np.array([2**40 + 1, 5], dtype=np.uint64))
    assert table.indices.tolist() == [2**40 + 1, 5]


def test_pairs_past_64_bits_are_refused_where_they_are_looked_up():
    table = Interactions.from_csr([0, 1, 2, 3, 4], [5, 6, 7, 8], 2**62)
    with pytest.raises(DataError, match="do not fit 64-bit keys"):
        table.contains([0], [5])
