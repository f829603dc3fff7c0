import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import DataError
from fastkd.data import build_sequences

USERS, ITEMS, TIME = np.array([1, 0, 1, 1, 3]), np.array([5, 6, 7, 5, 9]), np.array([3, 1, 2, 2, 0])


def test_order_is_time_then_file():
    sequences = build_sequences(USERS, ITEMS, num_users=5, time=TIME)
    assert [sequences.row(u).tolist() for u in range(5)] == [[6], [7, 5, 5], [], [9], []]
    assert sequences.lengths().tolist() == [1, 3, 0, 1, 0]
    assert build_sequences(USERS, ITEMS, num_users=5).row(1).tolist() == [5, 7, 5]


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 3)), max_size=30),
    wanted=st.lists(st.integers(0, 4), max_size=6),
    length=st.integers(1, 7),
    side=st.sampled_from(["left", "right"]),
)
def test_padding_keeps_the_last_items(rows, wanted, length, side):
    users, items, time = (np.array([r[c] for r in rows], dtype=np.int64) for c in range(3))
    sequences = build_sequences(users, items, num_users=5, time=time)
    out = sequences.padded(np.array(wanted, dtype=np.int64), max_length=length, side=side)
    assert out.shape == (len(wanted), length)
    for row, user in zip(out.tolist(), wanted, strict=True):
        ordered = [i for _, _, i in sorted((t, n, i) for n, (u, i, t) in enumerate(rows) if u == user)][-length:]
        gap = [-1] * (length - len(ordered))
        assert row == (gap + ordered if side == "left" else ordered + gap)


def test_bad_input_is_named():
    sequences = build_sequences(USERS, ITEMS, num_users=5)
    with pytest.raises(DataError, match="user 5 is out of range"):
        sequences.padded([0, 5], max_length=2)
    with pytest.raises(DataError, match="max_length must be at least 1, got 0"):
        sequences.padded([0], max_length=0)
    with pytest.raises(DataError, match="'middle'"):
        sequences.padded([0], max_length=1, side="middle")
    with pytest.raises(DataError, match="user -1"):
        sequences.row(-1)
    with pytest.raises(DataError, match="0 to 3"):
        build_sequences(USERS, ITEMS, num_users=3)
    with pytest.raises(DataError, match="first: row 2"):
        build_sequences(USERS, ITEMS, num_users=5, time=np.array([0, np.nan, 1, 1, 1]))
    with pytest.raises(DataError, match="5 users, 4 items"):
        build_sequences(USERS, ITEMS[:4], num_users=5)
