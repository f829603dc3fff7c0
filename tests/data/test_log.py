import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import DataError
from fastkd.data.filters import times_of
from fastkd.data.log import IdColumn, InteractionLog, ReadOptions, unique_inverse

INTEGERS = st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)), max_size=40)


@settings(deadline=None, max_examples=60)
@given(INTEGERS)
def test_unique_inverse_agrees_with_numpy(values):
    array = np.array(values, dtype=np.int64)
    distinct, inverse = unique_inverse(array)
    assert distinct.tolist() == sorted(set(values))
    assert distinct[inverse].tolist() == values


@settings(deadline=None, max_examples=60)
@given(st.one_of(INTEGERS, st.lists(st.text("ab0é", min_size=1, max_size=4), min_size=1, max_size=20)))
def test_compact_ids_are_dense_sorted_and_invertible(values):
    column = IdColumn.from_values(np.array(values)) if values else IdColumn(np.zeros(0, dtype=np.int64))
    dense, mapping = column.compact()
    assert mapping.originals.tolist() == sorted(set(values))
    assert sorted(set(dense.tolist())) == list(range(len(mapping)))
    assert mapping.decode(dense).tolist() == values
    assert mapping.encode(np.array(values, dtype=mapping.originals.dtype)).tolist() == dense.tolist()


def test_compact_after_take_forgets_absent_names():
    column = IdColumn.from_values(np.array(["c", "a", "b", "a"])).take(np.array([True, False, True, False]))
    assert column.compact()[1].originals.tolist() == ["b", "c"]
    assert column.values.tolist() == ["c", "b"]


def test_wide_ranges_do_not_allocate_the_range():
    dense, mapping = IdColumn(np.array([2**62, -(2**62), 0])).compact()
    assert dense.tolist() == [2, 0, 1]
    assert mapping.originals.tolist() == [-(2**62), 0, 2**62]


@pytest.mark.parametrize("bad", [[1.5], [True], [[1], [2]]])
def test_ids_of_other_kinds_are_refused(bad):
    with pytest.raises(DataError, match=r"float64|bool|\(2, 1\)"):
        IdColumn.from_values(bad)


def test_ids_past_64_bits_are_refused_with_what_to_do():
    largest = np.array([2**63 - 1], dtype=np.uint64)
    assert IdColumn.from_values(largest).codes.tolist() == [2**63 - 1]
    with pytest.raises(DataError, match=f"id {2**63} is past the largest id {2**63 - 1}; cast the ids to text"):
        IdColumn.from_values(largest + np.uint64(1))


def test_columns_of_different_length_are_refused_by_name():
    with pytest.raises(DataError, match="2 users but 3 item"):
        InteractionLog.from_arrays([0, 1], [0, 1, 2])
    with pytest.raises(DataError, match="2 users but 1 rating"):
        InteractionLog.from_arrays([0, 1], [0, 1], rating=[3.0])


def test_take_keeps_all_columns_parallel():
    log = InteractionLog.from_arrays(
        ["a", "b", "c"], [7, 8, 9], rating=[1, 2, 3], time=[5, 6, 7], split=["x", "y", "x"]
    )
    part = log.take(np.array([2, 0]))
    assert (part.user.tolist(), part.item.tolist()) == (["c", "a"], [9, 7])
    assert (part.rating.tolist(), part.time.tolist(), part.split.values.tolist()) == ([3, 1], [7, 5], ["x", "x"])


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        ReadOptions().user = "x"


def test_dates_of_any_unit_are_microseconds_and_a_missing_one_is_missing():
    for unit in ("D", "s", "ns"):
        times = np.array(["2020-01-03", "2020-01-02"], dtype=f"datetime64[{unit}]")
        log = InteractionLog.from_arrays([0, 0], [1, 2], time=times)
        assert log.dated
        assert log.time.tolist() == [1578009600000000, 1577923200000000]
    log = InteractionLog.from_arrays([0, 0], [1, 2], time=np.array(["2020-01-03", "NaT"], dtype="datetime64[D]"))
    assert np.isnan(log.time).tolist() == [False, True]
    with pytest.raises(DataError, match="needs a time in every row, 1 are missing, first in row 2"):
        times_of(log, "split='leave_one_out'")


@pytest.mark.parametrize("times", [["10", "9"], [True, False], np.array(["10", 9], dtype=object)])
def test_times_that_are_neither_numbers_nor_dates_are_refused(times):
    with pytest.raises(DataError, match=r"arrays: times must be numbers or dates .*datetime64.* got dtype .* first: "):
        InteractionLog.from_arrays([0, 0], [1, 2], time=times)


def test_rows_of_a_filtered_log_are_not_called_by_the_number_in_the_file():
    log = InteractionLog.from_arrays([0, 1, 2], [1, 2, 3])
    assert (log.row_name(1), log.take(np.array([2, 1, 0])).row_name(1)) == ("row 2", "row 2")
    assert log.take(np.array([False, True, True])).row_name(0) == "row 1 of those kept"
