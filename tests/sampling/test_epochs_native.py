"""The border of the C++ epoch and in-batch tables: arrays are taken as they are or refused by name."""

import numpy as np
import pytest

native = pytest.importorskip("fastkd._native", reason="fastkd._native is not built")

INDPTR, INDICES = np.array([0, 2, 2, 3]), np.array([1, 4, 0], dtype=np.int32)


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 129, 5000])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_order_is_numpys(size, dtype):
    for key in (0, 1, 2**64 - 1, 0x9E3779B97F4A7C15):
        order = np.full(size, -1, dtype=dtype)
        native.shuffled(key, order)
        np.testing.assert_array_equal(order, np.random.Generator(np.random.Philox(key=key)).permutation(size))


def arguments(**changed):
    rows = np.array([2, 0])
    given = {
        "entries": rows,
        "drawn": np.arange(6, dtype=np.int32).reshape(3, 2),
        "users": np.empty(2, dtype=np.int64),
        "positives": np.empty(2, dtype=np.int64),
        "negatives": np.empty((2, 2), dtype=np.int64),
    }
    return given | changed


def test_entries_are_looked_up():
    given = arguments()
    native.EpochTable(INDPTR, INDICES, 5).gather(**given, threads=2)
    assert given["users"].tolist() == [2, 0]
    assert given["positives"].tolist() == [0, 1]
    assert given["negatives"].tolist() == [[4, 5], [0, 1]]


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"entries": np.array([0, 3])}, ValueError, r"outside \[0, 3\) at place 1"),
        ({"entries": np.array([-1, 0])}, ValueError, r"outside \[0, 3\) at place 0"),
        ({"entries": np.array([0.0, 1.0])}, TypeError, "entries must be int64, got float64"),
        ({"entries": np.array([0, 1], dtype=np.int32)}, TypeError, "users must be int32, got int64"),
        ({"drawn": np.zeros((3, 2), dtype=np.int64)}, TypeError, "drawn must be int32, got int64"),
        ({"drawn": np.zeros((2, 2), dtype=np.int32)}, ValueError, "drawn has 2 rows for 3 entries"),
        ({"drawn": np.zeros((3, 1), dtype=np.int32)}, ValueError, "negatives has 2 columns for 1 drawn"),
        ({"users": np.empty(3, dtype=np.int64)}, ValueError, "users has 3 rows for 2 entries"),
        ({"positives": read_only(np.empty(2, dtype=np.int64))}, TypeError, "positives must be writeable"),
        ({"negatives": np.empty((2, 4), dtype=np.int64)[:, ::2]}, TypeError, "negatives must be C-contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        native.EpochTable(INDPTR, INDICES, 5).gather(**arguments(**changed))


def test_wide_items_need_wide_room():
    table = native.EpochTable(INDPTR, INDICES.astype(np.int64), 2**40)
    narrow = {k: v.astype(np.int32) for k, v in arguments().items() if k != "drawn"}
    with pytest.raises(TypeError, match="entries must be int64 where users or items are past int32"):
        table.gather(**narrow, drawn=np.zeros((3, 2), dtype=np.int64))


@pytest.mark.parametrize("made", ["EpochTable", "InBatch"])
def test_a_bad_table_is_refused(made):
    with pytest.raises(ValueError, match=r"not strictly increasing \(row 0\)"):
        getattr(native, made)(INDPTR, np.array([4, 1, 0], dtype=np.int32), 5)
    with pytest.raises(ValueError, match=r"outside \[0, num_items\) \(row 0\)"):
        getattr(native, made)(INDPTR, INDICES, 4)
    with pytest.raises(TypeError, match="indptr must be int64, got int32"):
        getattr(native, made)(INDPTR.astype(np.int32), INDICES, 5)


def test_a_batch_out_of_range_is_refused():
    batch = native.InBatch(INDPTR, INDICES, 5)
    with pytest.raises(ValueError, match=r"user 3 is out of range \[0, 3\)"):
        batch.left_out(np.array([3]), np.array([0]))
    with pytest.raises(ValueError, match=r"positive -1 is out of range \[0, 5\)"):
        batch.left_out(np.array([0]), np.array([-1]))
    with pytest.raises(ValueError, match="positives has 2 rows for 1 users"):
        batch.left_out(np.array([0]), np.array([0, 1]))
