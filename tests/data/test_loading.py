import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastkd.data
from fastkd.core import ConfigError, DataError, FastKDWarning
from fastkd.data import (
    DataConfig,
    InteractionLog,
    Reading,
    SyntheticConfig,
    dataset_summary,
    load_dataset,
    prepare_log,
)

REAL = Path(os.environ.get("FASTKD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set FASTKD_DATA")


def frame(users=20, per_user=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{u:02}", int(i) * 10, float(rng.integers(1, 6)))
        for u in range(users)
        for i in rng.permutation(30)[:per_user]
    ]
    made = pd.DataFrame(rows, columns=["user", "item", "rating"])
    made["time"] = rng.permutation(len(made))
    return made


def test_file_to_data_set_keeps_the_original_ids(tmp_path):
    table = frame()
    table.to_csv(tmp_path / "mine.csv", index=False)
    data = load_dataset(DataConfig(path=tmp_path / "mine.csv"))
    assert data.name == "mine"
    assert load_dataset(DataConfig(path=str(tmp_path / "mine.csv"))).content_hash() == data.content_hash()
    assert data.users.originals.tolist() == sorted(table.user.unique())
    assert data.items.originals.tolist() == sorted(table.item.unique())
    pairs = set()
    for part in (data.train, data.valid, data.test):
        users, items = data.users.decode(part.entry_users()), data.items.decode(part.indices)
        pairs |= set(zip(users.tolist(), items.tolist(), strict=True))
    assert pairs == set(zip(table.user, table.item, strict=True))
    assert (data.train.nnz, data.valid.nnz, data.test.nnz) == (20 * 9, 20, 40)


def test_steps_come_in_order():
    # rating filter first, then duplicates, then the core
    rows = [("a", 1, 5), ("a", 1, 1), ("a", 2, 5), ("b", 1, 5), ("b", 2, 5), ("b", 2, 5), ("c", 1, 5), ("c", 2, 2)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating"])
    data = load_dataset(DataConfig(min_rating=4, user_core=2, item_core=2, ratios=(1, 0, 0)), source=table)
    assert data.users.originals.tolist() == ["a", "b"]
    assert data.train.indices.tolist() == [0, 1, 0, 1]


def test_result_does_not_depend_on_the_order_of_the_file():
    table = frame()
    a = load_dataset(DataConfig(), source=table)
    b = load_dataset(DataConfig(), source=table.sample(frac=1, random_state=3))
    assert a.content_hash() == b.content_hash()
    assert load_dataset(DataConfig(seed=1), source=table).content_hash() != a.content_hash()


def test_what_was_read_and_left_out_adds_up():
    rows = [("a", 1, 5), ("a", 1, 5), ("a", 2, 5), ("b", 1, 5), ("b", 2, 5), ("b", 2, 1), ("c", 1, 5), ("c", 1, 5)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating"])
    config = DataConfig(min_rating=4, user_core=2, item_core=2, ratios=(1, 0, 0))
    prepared = prepare_log(config, source=table)
    assert prepared.reading == Reading(
        rows=8,
        columns={"user": "user", "item": "item", "rating": "rating"},
        left_out={"unlabelled": 0, "min_rating": 1, "duplicates": 2, "core": 1, "users_without_train": 0},
    )
    assert prepared.dataset().reading == prepared.reading
    assert prepared.reading.rows - sum(prepared.reading.left_out.values()) == len(prepared.users)
    assert load_dataset(DataConfig(synthetic=SyntheticConfig(num_users=20, num_items=80))).reading is None


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=30),
    core=st.integers(1, 2),
    drop=st.booleans(),
)
def test_no_row_goes_missing(rows, core, drop):
    table = pd.DataFrame(rows, columns=["user", "item", "rating"])
    table["split"] = ["train" if i % 3 else None for i in range(len(table))]
    config = DataConfig(
        split="column",
        unlabelled="drop",
        min_rating=2,
        user_core=core,
        users_without_train="drop" if drop else "refuse",
    )
    try:
        prepared = prepare_log(config, source=table)
    except DataError:  # nothing is left
        return
    assert prepared.reading.rows == len(rows)
    assert prepared.reading.rows - sum(prepared.reading.left_out.values()) == len(prepared.users)


def test_times_that_cannot_be_read_stop_only_what_needs_them(tmp_path):
    path = tmp_path / "mine.csv"
    frame(users=5).assign(time="last spring").to_csv(path, index=False)
    with pytest.warns(FastKDWarning, match=r"mine\.csv: column 'time', row 1: .* got 'last spring'.*left out"):
        data = load_dataset(DataConfig(path=path))
    assert data.sequences is None
    assert data.reading.columns == {"user": "user", "item": "item"}
    assert load_dataset(DataConfig(path=path, time_column="")).content_hash() == data.content_hash()
    for options in (
        {"split": "leave_one_out"},
        {"split": "temporal"},
        {"duplicates": "latest"},
        {"time_column": "time"},
    ):
        with pytest.raises(DataError, match=r"row 1: expected a number or an ISO date .* got 'last spring'"):
            load_dataset(DataConfig(path=path, **options))


def test_given_ids_stay():
    log = InteractionLog.from_arrays([0, 0, 1, 1], [0, 5, 2, 5])
    data = load_dataset(DataConfig(keep_ids=True, ratios=(1, 0, 0)), source=log)
    assert (data.num_users, data.num_items) == (2, 6)
    assert data.train.row(1).tolist() == [2, 5]
    assert load_dataset(DataConfig(keep_ids=True, num_items=9, ratios=(1, 0, 0)), source=log).num_items == 9


@pytest.mark.parametrize(
    ("users", "items", "more", "message"),
    [
        ([0, -4], [0, 1], {}, "row 2: negative user id -4"),
        ([0, 1], [0, -1], {}, "row 2: negative item id -1"),
        ([0, 1], [0, 10**15], {}, f"row 2: item id {10**15} would make"),
        ([0, 1], [0, 7], {"num_items": 7}, r"row 2: item id 7 is outside \[0, 7\)"),
        (["a", "b"], [0, 1], {}, "integer user ids, found text such as 'a'"),
        ([0, 2], [0, 1], {}, "1 of 3 users have no training rows, first: user 1;"),
    ],
)
def test_given_ids_that_do_not_fit_are_named(users, items, more, message):
    with pytest.raises(DataError, match=message):
        load_dataset(DataConfig(keep_ids=True, **more), source=InteractionLog.from_arrays(users, items))


def test_nothing_to_load():
    with pytest.raises(ConfigError, match="give path, synthetic or store"):
        load_dataset(DataConfig())


def test_column_split_cuts_a_validation_part_only_when_there_is_none():
    table = frame()
    table["split"] = np.where(np.arange(len(table)) % 12 < 10, "train", "test")
    data = load_dataset(DataConfig(split="column"), source=table)
    assert (data.train.nnz, data.valid.nnz, data.test.nnz) == (180, 20, 40)
    assert load_dataset(DataConfig(split="column", valid_from_train=0), source=table).valid.nnz == 0
    table.loc[table.index % 12 == 0, "split"] = "valid"
    assert load_dataset(DataConfig(split="column", valid_from_train=0.5), source=table).train.nnz == 180


def test_missing_labels_are_refused_or_dropped():
    table = frame(per_user=6)
    table["split"] = pd.Series(np.where(np.arange(len(table)) % 6 < 4, "train", "test"), dtype=object)
    table.loc[table.index % 6 == 3, "split"] = None
    with pytest.raises(DataError, match=r"row 4: no label in column 'split' \(20 such rows\); unlabelled='drop'"):
        load_dataset(DataConfig(split="column"), source=table)
    data = load_dataset(DataConfig(split="column", unlabelled="drop", valid_from_train=0), source=table)
    assert (data.train.nnz, data.test.nnz) == (60, 40)
    table["split"] = None
    with pytest.raises(DataError, match="none of 120 rows has a label in column 'split'; use another split"):
        load_dataset(DataConfig(split="column", unlabelled="drop", min_rating=2), source=table)
    with pytest.raises(DataError, match="no column 'part' for split"):
        load_dataset(DataConfig(split="column", split_column="part"), source=table)


def test_users_without_training_rows_are_refused_or_left_out():
    log = InteractionLog.from_arrays(["old"] * 6 + ["new"] * 2, [1, 2, 3, 4, 5, 6, 6, 7], time=np.arange(8))
    config = DataConfig(split="temporal", ratios=(0.5, 0.2, 0.3))
    with pytest.raises(DataError, match="1 of 2 users have no training rows, first: user 'new'; raise user_core"):
        load_dataset(config, source=log)
    data = load_dataset(replace(config, users_without_train="drop"), source=log)
    assert data.users.originals.tolist() == ["old"]
    assert data.items.originals.tolist() == [1, 2, 3, 4, 5, 6]
    assert dataset_summary(data).cold_test_rows == data.test.nnz == 1


def test_time_is_needed_where_it_is_used():
    log = InteractionLog.from_arrays([0, 0, 0], [1, 2, 3], time=[1.0, np.nan, 2.0])
    with pytest.raises(DataError, match="split='temporal' needs a time in every row, 1 are missing, first in row 2"):
        load_dataset(DataConfig(split="temporal"), source=log)
    with pytest.raises(DataError, match=r"split='temporal_per_user' needs a time column; name it: --set time_column="):
        load_dataset(DataConfig(split="temporal_per_user"), source=InteractionLog.from_arrays([0], [1]))
    assert load_dataset(DataConfig(split="random"), source=log).train.nnz == 2


def test_sequences_of_the_same_rows():
    table = frame()
    prepared = prepare_log(DataConfig(split="leave_one_out"), source=table)
    data, sequences = prepared.dataset(), prepared.sequences()
    for user in range(data.num_users):
        mine = table[table.user == data.users.originals[user]].sort_values("time")
        expected = data.items.encode(mine.item.to_numpy())
        assert sequences.row(user).tolist() == expected[:-2].tolist()
        assert data.sequences.row(user).tolist() == expected[:-2].tolist()
        assert data.test.row(user).tolist() == [expected[-1]]
        assert data.valid.row(user).tolist() == [expected[-2]]
    untimed = prepare_log(DataConfig(split="random"), source=table.drop(columns="time")).dataset()
    assert untimed.sequences is None


def test_readme_example_prints_what_it_says(tmp_path, monkeypatch, capsys):
    readme = (Path(fastkd.data.__file__).parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("plays.csv").write_text(blocks[1])
    exec(compile(blocks[2], "README.md", "exec"), {})
    assert capsys.readouterr().out == blocks[3]


@needs_data
@pytest.mark.parametrize(("column", "cold"), [("split", 10829), ("split_rand", 958)])
def test_citeulike_as_published(column, cold):
    config = DataConfig(path=REAL / "citeulike.inter.parquet", split="column", split_column=column, keep_ids=True)
    summary = dataset_summary(load_dataset(config))
    assert (summary.users, summary.items) == (5219, 25181)
    assert summary.rows == {"train": 98405, "valid": 12451, "test": 14724}
    assert summary.cold_test_rows == cold


@needs_data
def test_citeulike_random_split_has_the_published_sizes():
    config = DataConfig(path=REAL / "citeulike.inter.parquet")
    assert dataset_summary(load_dataset(config)).rows == {"train": 98405, "valid": 12451, "test": 14724}


@needs_data
def test_gowalla_gets_a_validation_part_from_train():
    config = DataConfig(path=REAL / "gowalla.inter.parquet", split="column", keep_ids=True)
    summary = dataset_summary(load_dataset(config))
    assert (summary.users, summary.items, summary.rows["test"]) == (29858, 40981, 217242)
    assert summary.rows["train"] + summary.rows["valid"] == 810128
    assert 0.07 * 810128 < summary.rows["valid"] <= 0.1 * 810128


@needs_data
def test_ml_1m_ten_core_of_ratings_from_four_is_the_published_one():
    config = DataConfig(path=REAL / "ml-1m.inter.parquet", min_rating=4, user_core=10, item_core=10)
    summary = dataset_summary(load_dataset(config))
    assert (summary.users, summary.items, sum(summary.rows.values())) == (5949, 2810, 571531)
    with pytest.raises(DataError, match="199983 are missing"):
        load_dataset(replace(config, min_rating=None, user_core=1, item_core=1, split="temporal"))


@needs_data
def test_amazon_beauty_leave_one_out_agrees_with_its_own_split():
    path = REAL / "amazon-beauty.inter.parquet"
    ours = load_dataset(DataConfig(path=path, split="leave_one_out", time_column="pos", keep_ids=True))
    theirs = load_dataset(DataConfig(path=path, split="column", keep_ids=True))
    assert ours.content_hash() == theirs.content_hash()


def test_leave_one_out_without_times_says_so():
    table = frame().rename(columns={"time": "event_time"})
    config = DataConfig(split="leave_one_out")
    said = r"no time column was found.*Columns: 'user', 'item', 'rating', 'event_time'\. Name the one .*time_column=''"
    with pytest.warns(FastKDWarning, match=said):
        drawn = load_dataset(config, source=table)
    assert load_dataset(replace(config, time_column=""), source=table).content_hash() == drawn.content_hash()
    assert load_dataset(replace(config, time_column="event_time"), source=table).sequences is not None


def test_rows_after_a_filter_are_not_called_by_their_number_in_the_file():
    rows = [("a", 1, 1), ("a", 1, 5), ("a", 2, 5), ("a", 1, 5)]
    table = pd.DataFrame(rows, columns=["user", "item", "rating"])
    config = DataConfig(min_rating=2, duplicates="refuse")
    with pytest.raises(DataError, match="row 3 of those kept: user 'a' and item 1 appear before"):
        load_dataset(config, source=table)
    table["user"] = [0, 0, -1, 0]
    with pytest.raises(DataError, match="row 2 of those kept: negative user id -1"):
        load_dataset(replace(config, duplicates="first", keep_ids=True), source=table)
