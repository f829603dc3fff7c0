import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import ConfigError, DataError
from fastkd.data import InteractionLog, deduplicate, k_core, threshold

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=60)


def log_of(pairs, **columns):
    return InteractionLog.from_arrays([f"u{u}" for u, _ in pairs], [i * 1000 for _, i in pairs], **columns)


def rows(log):
    return list(zip(log.user.tolist(), log.item.tolist(), strict=True))


def slow_core(pairs, user_core, item_core):
    while True:
        kept = [
            (u, i)
            for u, i in pairs
            if sum(a == u for a, _ in pairs) >= user_core and sum(b == i for _, b in pairs) >= item_core
        ]
        if kept == pairs:
            return kept
        pairs = kept


@settings(deadline=None, max_examples=80)
@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_the_fixed_point(pairs, user_core, item_core):
    log = deduplicate(log_of(pairs))
    expected = slow_core(rows(log), user_core, item_core)
    if not expected:
        with pytest.raises(DataError, match=f"user_core={user_core} and item_core={item_core}"):
            k_core(log, user_core=user_core, item_core=item_core)
        return
    core = k_core(log, user_core=user_core, item_core=item_core)
    assert rows(core) == expected
    assert rows(k_core(core, user_core=user_core, item_core=item_core)) == expected


def test_k_core_follows_a_long_chain_to_its_end():
    # a path graph: each round frees only its ends
    pairs = [(n // 2, (n + 1) // 2) for n in range(200)]
    with pytest.raises(DataError, match="in 200 rows"):
        k_core(log_of(pairs), user_core=2, item_core=2)


def test_cores_below_one_are_refused():
    with pytest.raises(ConfigError, match="got 0 and 1"):
        k_core(log_of([(0, 0)]), user_core=0)


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.randoms(use_true_random=False))
def test_deduplicate_keeps_the_first_or_the_latest(pairs, random):
    times = [random.randint(0, 3) for _ in pairs]
    log = log_of(pairs, time=times, rating=np.arange(len(pairs), dtype=float))  # rating = row
    first, latest = {}, {}
    for row, (pair, time) in enumerate(zip(pairs, times, strict=True)):
        first.setdefault(pair, row)
        if pair not in latest or time >= latest[pair][0]:
            latest[pair] = (time, row)
    assert deduplicate(log).rating.tolist() == sorted(first.values())
    assert deduplicate(log, keep="latest").rating.tolist() == sorted(row for _, row in latest.values())


def test_duplicates_can_be_refused_by_row_and_value():
    log = log_of([(1, 1), (2, 2), (1, 1)])
    with pytest.raises(DataError, match=r"row 3: user 'u1' and item 1000 appear before \(1 repeated"):
        deduplicate(log, keep="refuse")
    with pytest.raises(DataError, match=r"'latest' needs a time column; name it: --set time_column=\.\.\."):
        deduplicate(log, keep="latest")
    with pytest.raises(ConfigError, match="'last'"):
        deduplicate(log, keep="last")
    assert deduplicate(log_of([(1, 1), (2, 2)]), keep="refuse").user.tolist() == ["u1", "u2"]


def test_threshold_keeps_the_limit_itself():
    log = log_of([(0, 0), (0, 1), (1, 1)], rating=[3.5, 4.0, 4.5])
    assert threshold(log, 4.0).rating.tolist() == [4.0, 4.5]


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        (None, r"no rating column; name it: --set rating_column=\.\.\."),
        ([1.0, np.nan], r"1 missing rating\(s\), first in row 2"),
        ([1.0, 2.0], "1.0 to 2.0"),
    ],
)
def test_threshold_refuses_by_name(rating, message):
    with pytest.raises(DataError, match=message):
        threshold(log_of([(0, 0), (0, 1)], rating=rating), 3.0)
