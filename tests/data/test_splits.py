import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import ConfigError, DataError, Seeds
from fastkd.data import column_split, cut_valid, leave_one_out, random_split, temporal_split
from fastkd.data.log import IdColumn
from fastkd.data.splits import TEST, TRAIN, VALID, draw_keys

RATIOS = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0), (0.7, 0.0, 0.3), (1.0, 0.0, 0.0)])
COUNTS = st.lists(st.integers(1, 23), min_size=1, max_size=12)


def pairs_of(counts, seed=0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(counts)), counts)
    items = np.concatenate([rng.permutation(50)[:n] for n in counts])
    order = rng.permutation(len(users))
    return users[order], items[order]


@settings(deadline=None, max_examples=60)
@given(COUNTS, RATIOS, st.integers(0, 3))
def test_random_split_sizes_and_independence_of_order(counts, ratios, seed):
    users, items = pairs_of(counts)
    parts = random_split(users, items, ratios=ratios, seeds=Seeds(seed))
    for user, n in enumerate(counts):
        sizes = np.bincount(parts[users == user], minlength=3)
        train = max(1, int(n * ratios[0] + 1e-9))
        assert sizes[TRAIN] == train
        assert sizes[VALID] == max(int(n * (ratios[0] + ratios[1]) + 1e-9), train) - train
        assert sizes.sum() == n
        if ratios[2] == 0:
            assert sizes[TEST] == 0
    order = np.random.default_rng(1).permutation(len(users))
    assert (random_split(users[order], items[order], ratios=ratios, seeds=Seeds(seed)) == parts[order]).all()
    alone = users == users[0]  # other users do not matter
    assert (random_split(users[alone], items[alone], ratios=ratios, seeds=Seeds(seed)) == parts[alone]).all()


def test_random_split_depends_on_the_seed_and_is_uniform():
    users = np.repeat(np.arange(4000), 10)
    items = np.tile(np.arange(10), 4000)
    held = [random_split(users, items, ratios=(0.8, 0.1, 0.1), seeds=Seeds(s)) for s in (0, 1)]
    assert (held[0] != held[1]).any()
    tested = np.bincount(items[held[0] == TEST], minlength=10)  # 400 each, chi-square with 9 degrees of freedom
    assert tested.sum() == 4000
    assert ((tested - 400) ** 2 / 400).sum() < 33.7  # p = 1e-4


@pytest.mark.parametrize(
    ("ratios", "sizes"), [((0.58, 0.21, 0.21), [29, 10, 11]), ((0.7, 0.1, 0.2), [7, 1, 2])], ids=["train", "valid"]
)
def test_shares_that_are_whole_on_paper_are_whole(ratios, sizes):
    # In floats 50 * 0.58 is below 29, and 10 * (0.7 + 0.1) below 8.
    users, items = np.zeros(sum(sizes), dtype=np.int64), np.arange(sum(sizes))
    parts = (
        random_split(users, items, ratios=ratios, seeds=Seeds(0)),
        temporal_split(users, items, ratios=ratios),
        temporal_split(users, items, ratios=ratios, per_user=True),
    )
    for found in parts:
        assert np.bincount(found).tolist() == sizes


def test_validation_rows_cut_from_training_are_a_uniform_draw():
    users, items = np.repeat(np.arange(4000), 10), np.tile(np.arange(10), 4000)
    parts = np.zeros(40_000, dtype=np.int8)
    cut = [cut_valid(users, items, parts, share=0.1, seeds=Seeds(s)) for s in (0, 1)]
    assert (cut[0] != cut[1]).any()
    moved = np.bincount(items[cut[0] == VALID], minlength=10)  # 400 each, chi-square with 9 degrees of freedom
    assert moved.sum() == 4000
    assert ((moved - 400) ** 2 / 400).sum() < 33.7  # p = 1e-4


def test_draw_keys_use_all_bits_of_both_ids():
    users, items = np.array([0, 1, 2**33, 0, 0]), np.array([0, 0, 0, 1, 2**33])
    assert len(set(draw_keys(users, items, 7).tolist())) == 5
    assert draw_keys(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 7).shape == (0,)


@pytest.mark.parametrize("ratios", [(0.8, 0.1, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_bad_ratios_are_named(ratios):
    with pytest.raises(ConfigError, match=str(ratios[0])):
        random_split(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), ratios=ratios, seeds=Seeds(0))


@settings(deadline=None, max_examples=60)
@given(COUNTS, st.integers(0, 5))
def test_leave_one_out_takes_the_last_two(counts, seed):
    users, items = pairs_of(counts, seed)
    time = np.random.default_rng(seed).integers(0, 4, len(users))  # many ties: file order decides
    parts = leave_one_out(users, items, time=time, seeds=Seeds(0))
    for user, n in enumerate(counts):
        mine = np.flatnonzero(users == user)
        ordered = sorted(mine, key=lambda row: (time[row], row))
        expected = [TRAIN] * n
        if n >= 2:
            expected[-1] = TEST
        if n >= 3:
            expected[-2] = VALID
        assert [parts[row] for row in ordered] == expected


def test_leave_one_out_without_time_is_a_draw():
    users, items = pairs_of([6] * 50)
    a, b = (leave_one_out(users, items, time=None, seeds=Seeds(s)) for s in (0, 1))
    assert np.bincount(a).tolist() == [200, 50, 50]
    assert (a != b).any()


def test_temporal_split_keeps_equal_times_together():
    time = np.array([5, 1, 2, 3, 3, 3, 4, 9, 8, 7])
    parts = temporal_split(np.zeros(10, dtype=np.int64), time, ratios=(0.4, 0.3, 0.3))
    # sorted: 1 2 3 3 | 3 4 5 | 7 8 9; the cut falls inside the threes, which all go to valid
    assert parts.tolist() == [1, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert max(time[parts == TRAIN]) < min(time[parts == VALID]) < min(time[parts == TEST])


@settings(deadline=None, max_examples=40)
@given(COUNTS, RATIOS)
def test_temporal_split_per_user_never_trains_on_the_future(counts, ratios):
    users, items = pairs_of(counts)
    time = np.random.default_rng(0).permutation(len(users))
    parts = temporal_split(users, time, ratios=ratios, per_user=True)
    sizes = random_split(users, items, ratios=ratios, seeds=Seeds(0))
    for user in range(len(counts)):
        mine = users == user
        assert (np.diff(parts[mine][np.argsort(time[mine])]) >= 0).all()
        assert np.bincount(parts[mine], minlength=3).tolist() == np.bincount(sizes[mine], minlength=3).tolist()


def test_column_labels_and_their_synonyms():
    labels = IdColumn.from_values(np.array(["Train", "val", "TEST", "dev", " valid "]))
    parts, labelled = column_split(labels, source="f")
    assert parts.tolist() == [0, 1, 2, 1, 1]
    assert labelled.all()
    gaps = IdColumn(np.array([0, -1]), np.array(["train"]))
    assert column_split(gaps, source="f")[1].tolist() == [True, False]


def test_unknown_label_lists_those_found():
    with pytest.raises(DataError, match=r"f: unknown split label 'holdout'; labels found: 'holdout', 'train'"):
        column_split(IdColumn.from_values(np.array(["train", "holdout"])), source="f")
    with pytest.raises(DataError, match="unknown split label '0'"):
        column_split(IdColumn(np.array([0, 1])), source="f")
    unused = IdColumn(np.array([1]), np.array(["holdout", "train"]))
    assert column_split(unused, source="f")[0].tolist() == [0]


@settings(deadline=None, max_examples=40)
@given(COUNTS, st.sampled_from([0.0, 0.1, 0.5, 0.99, 1 - 1e-13]))
def test_cut_valid_moves_training_rows_only(counts, share):
    users, items = pairs_of(counts)
    before = random_split(users, items, ratios=(0.7, 0.0, 0.3), seeds=Seeds(1))
    after = cut_valid(users, items, before, share=share, seeds=Seeds(1))
    assert (after[before == TEST] == TEST).all()
    for user in range(len(counts)):
        n = int((before[users == user] == TRAIN).sum())
        assert int((after[users == user] == VALID).sum()) == min(int(n * share + 1e-9), n - 1)
    with pytest.raises(ConfigError, match=r"1\.0"):
        cut_valid(users, items, before, share=1.0, seeds=Seeds(1))
