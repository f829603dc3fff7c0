import datetime

import numpy as np
import pyarrow as pa
import pytest

from fastkd.core import DataError
from fastkd.data.columns import MAX_ID_LENGTH, LogBuilder, choose_columns
from fastkd.data.log import ReadOptions


def build(text=False, **columns):
    batches = columns.pop("batches", None) or [pa.record_batch(columns)]
    builder = LogBuilder({name: name for name in batches[0].schema.names}, "src", text=text)
    for batch in batches:
        builder.add(batch)
    return builder.finish()


def test_usual_names_are_found_whatever_their_case():
    chosen = choose_columns(["UserId", "movieId", "Rating", "TimeStamp", "x"], ReadOptions(), "f")
    assert chosen == {"user": "UserId", "item": "movieId", "rating": "Rating", "time": "TimeStamp"}
    assert "rating" not in choose_columns(["user", "item", "rating"], ReadOptions(rating=""), "f")


def test_missing_columns_list_what_there_is_and_the_nearest():
    with pytest.raises(
        DataError, match=r"f: no column 'itm' for item\. Did you mean 'item'\? Columns found: 'user', 'item'"
    ):
        choose_columns(["user", "item"], ReadOptions(item="itm"), "f")
    with pytest.raises(DataError, match=r"f: no user column.*'users'.*'article'.*ReadOptions\(user"):
        choose_columns(["users", "article"], ReadOptions(), "f")
    with pytest.raises(DataError, match="named for both"):
        choose_columns(["user", "item"], ReadOptions(user="item"), "f")


def test_text_that_is_canonical_integers_becomes_integers():
    log = build(text=True, user=["3", "-7", "0"], item=["10", "11", "12"])
    assert log.users.names is None
    assert log.user.tolist() == [3, -7, 0]


@pytest.mark.parametrize("odd", ["007", "+1", "1.0", " 1", "9223372036854775808", "x"])
def test_other_text_stays_text_and_nothing_is_lost(odd):
    batches = [
        pa.record_batch({"user": ["7", "1"], "item": ["1", "2"]}),
        pa.record_batch({"user": [odd, "7"], "item": ["3", "4"]}),
        pa.record_batch({"user": ["5"], "item": ["5"]}),
    ]
    log = build(text=True, batches=batches)
    assert log.user.tolist() == ["7", "1", odd, "7", "5"]
    assert log.item.tolist() == [1, 2, 3, 4, 5]


def test_typed_text_is_never_guessed():
    assert build(user=pa.array(["1", "2"]), item=[1, 2]).user.tolist() == ["1", "2"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", "a", "b"]),
        pa.array(["b", "a", "b"], pa.large_string()),
        pa.array(["b", "a", "b"], pa.string_view()),
        pa.array(["b", "a", "b"]).dictionary_encode(),
        pa.array(["b", "a", "b"], pa.dictionary(pa.int8(), pa.large_string())),
    ],
    ids=lambda c: str(c.type),
)
def test_every_kind_of_arrow_text_reads_the_same(column):
    assert build(user=column, item=[1, 2, 3]).user.tolist() == ["b", "a", "b"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, None, 3]), "row 2: null id"),
        (pa.array(["a", None]), "row 2: null id"),
        (pa.array([1.0, 2.5]), r"row 2: id 2\.5 is not a whole number"),
        (pa.array([1.0, float("nan")]), "row 2: null id"),
        (pa.array([1.0, float("inf")]), "row 2: id inf"),
        (pa.array([1, 2**63], pa.uint64()), "row 2: id 9223372036854775808 is past the largest"),
        (pa.array([True, False]), "column is bool"),
        (pa.array([[1], [2]]), "column is list"),
        (pa.array(["a", "b" * (MAX_ID_LENGTH + 1)]), "row 2: id of 257 characters"),
    ],
)
def test_bad_ids_are_named(column, message):
    with pytest.raises(DataError, match=f"src: column 'user'.*{message}"):
        build(user=column, item=list(range(len(column))))


def test_rows_are_counted_over_batches():
    batches = [pa.record_batch({"user": [1, 2], "item": [1, 2]}), pa.record_batch({"user": [3, None], "item": [1, 2]})]
    with pytest.raises(DataError, match="row 4: null id"):
        build(batches=batches)


def test_whole_floats_are_ids():
    assert build(user=[1.0, 2.0], item=[1, 2]).user.tolist() == [1, 2]


def test_ratings_and_times_parse_and_missing_ones_are_nan():
    log = build(text=True, user=["1", "2"], item=["1", "2"], rating=["4.5", "null"], time=["10", "20"])
    assert log.rating[0] == 4.5
    assert np.isnan(log.rating[1])
    assert log.time.dtype == np.int64
    gaps = build(text=True, user=["1", "2"], item=["1", "2"], time=["10", None])
    assert gaps.time.dtype == np.float64
    assert np.isnan(gaps.time[1])


@pytest.mark.parametrize("value", ["good", "4,5", "1e", "--1", "0x10"])
def test_non_numeric_rating_is_named(value):
    with pytest.raises(DataError, match=f"column 'rating', row 2: expected a number, got '{value}'"):
        build(text=True, user=["1", "2"], item=["1", "2"], rating=["4", value])


def test_dates_become_integers_in_order():
    days = [datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 1)]
    typed = build(user=[1, 2], item=[1, 2], time=pa.array(days))
    text = build(text=True, user=["1", "2"], item=["1", "2"], time=["2020-01-02 00:00:00", "2020-01-01 00:00:00"])
    date = build(user=[1, 2], item=[1, 2], time=pa.array([d.date() for d in days]))
    for log in (typed, text, date):
        assert log.time.dtype == np.int64
        assert log.time[0] - log.time[1] == 86_400_000_000


def test_boolean_rating_column_is_refused():
    with pytest.raises(DataError, match="expected numbers, the column is bool"):
        build(user=[1], item=[1], rating=[True])


def test_labels_may_be_missing_and_are_text():
    log = build(user=[1, 2, 3], item=[1, 2, 3], split=pa.array(["b", None, "a"]).dictionary_encode())
    assert log.split.codes.tolist() == [1, -1, 0]
    assert build(user=[1, 2], item=[1, 2], split=[0, 1]).split.names.tolist() == ["0", "1"]


def test_no_rows():
    with pytest.raises(DataError, match="src: no rows"):
        build(user=pa.array([], pa.int64()), item=pa.array([], pa.int64()))
