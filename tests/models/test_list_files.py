"""Files of ranked lists under the ids of the source, under row numbers, with and without scores."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from fastkd.core.errors import ConfigError, TeacherError
from fastkd.data import IdMap
from fastkd.models import ListsConfig, ListTeacher, TopKLists, load_lists, save_lists

USERS = {"text": np.array(["ann", "bob", "007"]), "integers": np.array([30, 10, 20])}
ITEMS = {"text": np.array(["p", "q", "r", "s"]), "integers": np.array([2, 3, 4, 1])}
IDS = torch.tensor([[3, 1, 0], [2, 0, 1], [0, 3, 2]])
SCORES = torch.tensor([[0.9, 0.5, -1.0], [3.0, 2.0, 2.0], [7.0, 1.0, 0.0]])


def maps(kind):
    return IdMap(USERS[kind]), IdMap(ITEMS[kind])


def columns(kind, ids=IDS, scores=SCORES):
    users, places = np.nonzero(ids.numpy() >= 0)
    held = {"user": USERS[kind][users], "item": ITEMS[kind][ids[users, places].numpy()], "rank": places + 1}
    return held if scores is None else {**held, "score": scores[users, places].numpy()}


def written(path, values):
    table = pa.table(values)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", ["text", "integers"])
def test_lists_come_by_the_ids_of_the_source_in_any_row_order(tmp_path, kind, suffix):
    order = np.random.default_rng(0).permutation(9)
    values = {"note": np.arange(9), **{name: column[order] for name, column in columns(kind).items()}}
    lists = load_lists(written(tmp_path / f"l{suffix}", values), *maps(kind)).lists(3, None)
    assert torch.equal(lists.ids, IDS)
    assert torch.equal(lists.scores, SCORES)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_may_be_absent(tmp_path, suffix):
    path = written(tmp_path / f"l{suffix}", columns("text", scores=None))
    assert load_lists(path, *maps("text")).fingerprint() == ListTeacher(IDS, None, 4).fingerprint()


@pytest.mark.parametrize("kind", ["text", "integers"])
def test_a_number_and_its_digits_are_one_id(tmp_path, kind):
    users = IdMap(np.array([1, 2, 3]) if kind == "integers" else np.array(["1", "2", "3"]))
    wanted = ListTeacher(torch.tensor([[0], [1], [2]]), None, 4).fingerprint()
    for form in (pa.int32(), pa.uint64(), pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array([1, 2, 3]) if pa.types.is_integer(form) else pa.array(["1", "2", "3"])
        values = {"user": column.cast(form), "item": ["p", "q", "r"], "rank": [1, 1, 1]}
        assert load_lists(written(tmp_path / "l.parquet", values), users, IdMap(ITEMS["text"])).fingerprint() == wanted


def test_a_frame_of_polars_is_read(tmp_path):
    pl.DataFrame(columns("text")).write_parquet(tmp_path / "l.parquet")
    assert torch.equal(load_lists(tmp_path / "l.parquet", *maps("text")).lists(3, None).ids, IDS)


def test_what_fastkd_wrote_as_rows_is_read_as_rows(tmp_path):
    """Even where the source's ids are the same numbers in another order."""
    shifted = IdMap(np.array([1, 2, 0])), IdMap(np.array([1, 2, 3, 0]))
    save_lists(tmp_path / "l.parquet", TopKLists(IDS, SCORES), num_items=4)
    assert torch.equal(load_lists(tmp_path / "l.parquet", *shifted).lists(3, None).ids, IDS)
    save_lists(tmp_path / "l.parquet", TopKLists(IDS, None), num_items=4)
    assert pq.read_schema(tmp_path / "l.parquet").names == ["user", "item", "rank"]
    assert torch.equal(load_lists(tmp_path / "l.parquet", *shifted).lists(3, None).ids, IDS)
    with pytest.raises(TeacherError, match=r"its ids are 'rows', but ids='original' was asked for; leave ids out"):
        load_lists(ListsConfig(path=tmp_path / "l.parquet", ids="original"), *shifted)
    # Files of before said their sizes alone.
    table = pq.read_table(tmp_path / "l.parquet")
    about = {key: value for key, value in table.schema.metadata.items() if key != b"fastkd.ids"}
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "l.parquet")
    assert torch.equal(load_lists(tmp_path / "l.parquet", *shifted).lists(3, None).ids, IDS)


def test_rows_may_be_asked_for(tmp_path):
    values = {"user": [0, 1, 2], "item": [3, 2, 0], "rank": [1, 1, 1]}
    for suffix in (".csv", ".parquet"):
        config = ListsConfig(path=written(tmp_path / f"l{suffix}", values), ids="rows")
        assert load_lists(config, *maps("text")).lists(1, None).ids.tolist() == [[3], [2], [0]]


def test_what_the_data_lacks_is_named_or_left_out(tmp_path):
    values = {
        "user": ["zoe", "ann", "ann", "ann", "bob", "007"],
        "item": ["p", "x", "q", "y", "r", "s"],
        "rank": [2, 1, 2, 3, 1, 1],
        "score": [1.0, 9.0, 8.0, 7.0, 6.0, 5.0],
    }
    path = written(tmp_path / "l.parquet", values)
    says = r"names 1 user\(s\) that the data lacks, first: 'zoe' \(row 0\); are they row numbers \(ids='rows'\)\?"
    with pytest.raises(TeacherError, match=rf"{path} {says} unknown='drop' leaves such entries out"):
        load_lists(path, *maps("text"))
    lists = load_lists(ListsConfig(path=path, unknown="drop"), *maps("text")).lists(1, None)
    assert (lists.ids.tolist(), lists.scores.tolist()) == ([[1], [2], [3]], [[8.0], [6.0], [5.0]])
    five = written(tmp_path / "five.csv", {"user": ["ann"] * 5, "item": list("vwxyz"), "rank": [1, 2, 3, 4, 5]})
    with pytest.raises(TeacherError, match=r"names 5 item\(s\) that the data lacks, first: 'v', 'w', 'x' \(row 0\)"):
        load_lists(five, *maps("text"))
    with pytest.raises(TeacherError, match=r"five\.csv lists no item of the data for any of its users"):
        load_lists(ListsConfig(path=five, unknown="drop", short="pad"), *maps("text"))


def test_ids_of_the_other_kind_are_unknown(tmp_path):
    path = written(tmp_path / "l.parquet", columns("text"))
    with pytest.raises(TeacherError, match=r"names 3 user\(s\) that the data lacks, first: 'ann', 'bob', '007'"):
        load_lists(path, *maps("integers"))
    path = written(tmp_path / "l.parquet", columns("integers"))
    with pytest.raises(TeacherError, match=r"names 3 user\(s\) that the data lacks, first: 30, 10, 20"):
        load_lists(path, *maps("text"))
    # 007 is not 7.
    values = {"user": ["007"], "item": ["p"], "rank": [1]}
    with pytest.raises(TeacherError, match=r"first: '007'"):
        load_lists(written(tmp_path / "l.csv", values), IdMap(np.array([7])), maps("text")[1])


def test_short_lists_and_users_without_one(tmp_path):
    ids = torch.tensor([[3, 1, 0], [-1, -1, -1], [0, -1, -1]])
    path = written(tmp_path / "l.csv", columns("text", ids))
    with pytest.raises(TeacherError, match=r"l\.csv: 1 user\(s\) have no list, first: user 'bob'; .* short='pad'"):
        load_lists(path, *maps("text"))
    lists = load_lists(ListsConfig(path="l.csv", short="pad"), *maps("text"), folder=tmp_path).lists(3, None)
    assert torch.equal(lists.ids, ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": [1, 3, 1]}, r"user 'ann' has rank 3 where 2 was expected \(row 1\)"),
        ({"item": ["p", "p", "q"]}, r"user 'ann' lists item 'p' twice, at ranks \[1, 2\]"),
        ({"score": [1.0, 2.0, 1.0]}, "user 'ann', rank 1: 1.0 is a score below its successor's"),
        ({"user": [1.0, 1.0, 2.0]}, "column user must be integer or text without nulls, is double"),
        ({"user": ["ann", None, "bob"]}, "column user must be .* is string with 1 null"),
        ({"rank": ["1", "2", "1"]}, "column rank must be integer"),
        ({"score": [1, 2, 3]}, "column score must be floating"),
        ({"user": [], "item": [], "rank": [], "score": []}, "column user must be"),
    ],
)
def test_bad_files_are_refused_by_name_and_value(tmp_path, changes, message):
    values = {"user": ["ann", "ann", "bob"], "item": ["p", "q", "r"], "rank": [1, 2, 1], "score": [3.0, 2.0, 1.0]}
    path = written(tmp_path / "l.parquet", {**values, **changes})
    with pytest.raises(TeacherError, match=f"{path}.*{message}"):
        load_lists(path, *maps("text"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_named_twice_is_refused_by_name(tmp_path, suffix):
    values = [["ann", "bob", "007"], ["p", "q", "r"], [1, 1, 1], [1, 1, 1]]
    path = tmp_path / f"l{suffix}"
    for names in (["user", "item", "rank", "rank"], ["user", "item", "rank", "item"]):
        written(path, pa.table(values, names=names))
        with pytest.raises(
            TeacherError, match=f"l{suffix} has more than one column {names[-1]}; it holds user, item, "
        ):
            load_lists(path, *maps("text"))
    written(path, pa.table([*values, values[0]], names=["user", "item", "rank", "note", "note"]))
    assert load_lists(path, *maps("text")).lists(1, None).ids.tolist() == [[0], [1], [2]]


def test_what_is_no_list_file_is_refused(tmp_path):
    with pytest.raises(TeacherError, match=r"l\.tsv: the name must end in \.parquet or \.csv"):
        load_lists(tmp_path / "l.tsv", *maps("text"))
    with pytest.raises(TeacherError, match=r"l\.csv does not exist"):
        load_lists(tmp_path / "l.csv", *maps("text"))
    (tmp_path / "l.csv").write_text("user,item\nann,p\n")
    with pytest.raises(TeacherError, match=r"l\.csv lacks the column\(s\) rank; it holds user, item"):
        load_lists(tmp_path / "l.csv", *maps("text"))
    (tmp_path / "l.csv").write_text("user,item,rank\nann,p,first\n")
    with pytest.raises(TeacherError, match=r"l\.csv is damaged or of another format: .*'first'"):
        load_lists(tmp_path / "l.csv", *maps("text"))
    (tmp_path / "l.csv").write_text("user,item,rank\n")
    with pytest.raises(TeacherError, match=r"l\.csv lists no item of the data for any of its users"):
        load_lists(tmp_path / "l.csv", *maps("text"))
    for key, value in (("ids", "names"), ("short", "keep"), ("unknown", "skip")):
        with pytest.raises(ConfigError, match=f"{key}.*'{value}' is not allowed"):
            ListsConfig(path="l.csv", **{key: value})
