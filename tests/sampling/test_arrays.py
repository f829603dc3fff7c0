import numpy as np
import pytest
import torch

from fastkd.core import DataError
from fastkd.sampling import _arrays


@pytest.mark.parametrize("values", [torch.arange(5), np.arange(5), np.arange(5, dtype=np.int32)])
def test_contiguous_ids_are_read_in_place(values):
    seen = _arrays.integers(values, "users", 1)
    assert np.shares_memory(seen, np.asarray(values))
    assert seen.dtype == np.asarray(values).dtype


def test_strided_ids_are_copied_once_and_keep_their_values():
    for values in (torch.arange(6)[::2], np.arange(6)[::2], np.arange(6)[::-1]):
        seen = _arrays.integers(values, "users", 1)
        assert seen.flags.c_contiguous
        np.testing.assert_array_equal(seen, np.asarray(values))


def test_what_is_drawn_is_handed_over_without_a_copy():
    drawn = np.zeros(3, dtype=np.int64)
    assert _arrays.like(drawn, torch.arange(1)).data_ptr() == drawn.ctypes.data
    assert _arrays.like(drawn, np.arange(1)) is drawn


def test_the_first_id_out_of_range_is_named():
    _arrays.check_range(np.array([[0, 4]]), 0, 5, "item")
    _arrays.check_range(np.empty((0, 3), dtype=np.int64), 0, 0, "item")
    with pytest.raises(DataError, match=r"item 5 at \[1, 0\] is out of range \[0, 5\)"):
        _arrays.check_range(np.array([[0, 4], [5, 9]]), 0, 5, "item")


def test_counts_are_whole_and_bounded():
    assert _arrays.count(np.int32(7), "n", 0, 7) == 7
    with pytest.raises(DataError, match=r"n must be in \[0, 7\], got 8"):
        _arrays.count(8, "n", 0, 7)
    for value in (1.0, "1", None, True):
        with pytest.raises(TypeError, match=f"n must be an integer, got {value!r}"):
            _arrays.count(value, "n", 0, 7)
