import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import DataError
from fastkd.core.errors import FastKDWarning
from fastkd.data._values import MAX_ID_LENGTH
from fastkd.data.columns import LogBuilder, choose_columns
from fastkd.data.log import ReadOptions
from fastkd.data.readers import read_interactions

LENIENT = ReadOptions(lenient_time=True)


def build(text=False, options=None, **columns):
    batches = columns.pop("batches", None) or [pa.record_batch(columns)]
    roles = {name: name for name in batches[0].schema.names}
    builder = LogBuilder(roles, "src", options or ReadOptions(), text=text)
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
    with pytest.raises(
        DataError, match=r"f: no user column.*'users'.*'article'.*--set user_column=.*ReadOptions\(user"
    ):
        choose_columns(["users", "article"], ReadOptions(), "f")
    with pytest.raises(DataError, match="named for both"):
        choose_columns(["user", "item"], ReadOptions(user="item"), "f")


@pytest.mark.parametrize(
    "found", [["user", "item", "item"], ["user", "Item", "item"], ["item", "user", "USER", "user"]]
)
def test_columns_of_one_name_are_refused(found):
    with pytest.raises(DataError, match=r"f: [23] columns could be the (user|item): .*Columns found: "):
        choose_columns(found, ReadOptions(), "f")


def test_columns_of_one_name_do_not_matter_where_they_are_not_read():
    assert choose_columns(["user", "item", "note", "note"], ReadOptions(), "f") == {"user": "user", "item": "item"}
    found = ["user", "item", "rating", "rating"]
    assert "rating" not in choose_columns(found, ReadOptions(rating=""), "f")
    with pytest.raises(DataError, match="2 columns could be the rating: 'rating', 'rating'; rename all but one"):
        choose_columns(found, ReadOptions(), "f")


def test_a_name_given_tells_letter_case_apart():
    found = ["user", "Item", "item"]
    assert choose_columns(found, ReadOptions(item="Item"), "f")["item"] == "Item"
    with pytest.raises(DataError, match=r"name one: --set item_column=.*ReadOptions\(item="):
        choose_columns(found, ReadOptions(), "f")


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
        (
            pa.array([1, 2**63], pa.uint64()),
            "row 2: id 9223372036854775808 is past the largest.*cast the column to text",
        ),
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


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.none() | OFFSETS)


def written(moment, form):
    text = moment.isoformat(sep=" " if form & 1 else "T")
    return text.replace("+00:00", "Z") if form & 2 else text


@settings(deadline=None, max_examples=60)
@given(st.lists(MOMENTS, min_size=1, max_size=6), st.integers(0, 3))
def test_dates_with_a_zone_are_the_moment_and_those_without_are_in_utc(moments, form):
    ids = list(map(str, range(len(moments))))
    log = build(text=True, user=ids, item=ids, time=[written(m, form) for m in moments])
    utc = [m if m.tzinfo else m.replace(tzinfo=datetime.UTC) for m in moments]
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert log.time.tolist() == [(m - epoch) // datetime.timedelta(microseconds=1) for m in utc]


def test_zones_in_every_spelling_and_a_gap():
    same = ["2024-01-01T10:00:00Z", "2024-01-01 12:00+02:00", "2024-01-01T04:30:00.000-0530", "2024-01-01 11:00:00+01"]
    log = build(text=True, user=list("abcdef"), item=list("abcdef"), time=[*same, "2024-01-01", None])
    assert log.time[:4].tolist() == [1_704_103_200_000_000] * 4
    assert log.time[4] == 1_704_067_200_000_000
    assert np.isnan(log.time[5])


def test_zoned_text_and_zoned_columns_read_the_same():
    moments = [
        datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.UTC),
        datetime.datetime(2023, 5, 1, tzinfo=datetime.UTC),
    ]
    typed = build(user=[1, 2], item=[1, 2], time=pa.array(moments, pa.timestamp("us", "Europe/Vienna")))
    text = build(text=True, user=["1", "2"], item=["1", "2"], time=[str(m) for m in moments])
    assert typed.time.tolist() == text.time.tolist()


@pytest.mark.parametrize(
    ("times", "row", "says"),
    [
        (["2024-01-01", "2024-01-02T10:00Z", "soon", "later"], 3, "a number or an ISO date .2024-01-31.*, got 'soon'"),
        (["2024-01-01", "2024-13-01"], 2, "a number or an ISO date .*, got '2024-13-01'"),
        (["soon", "10"], 1, "a number or an ISO date .*, got 'soon'"),
        (["10", None, "2024-01-01"], 3, "a time written as in the rows before, got '2024-01-01'"),
        (["2024-01-01", "11"], 2, "a time written as in the rows before, got '11'"),
    ],
)
def test_the_first_time_that_cannot_be_read_is_named(times, row, says):
    ids = list(map(str, range(len(times))))
    with pytest.raises(DataError, match=f"src: column 'time', row {row}: expected {says}"):
        build(text=True, user=ids, item=ids, time=times)


def batches_with_bad_times():
    return [
        pa.record_batch({"user": ["a", "b"], "item": ["1", "2"], "time": ["10", "20"]}),
        pa.record_batch({"user": ["c"], "item": ["3"], "time": ["soon"]}),
        pa.record_batch({"user": ["d"], "item": ["4"], "time": ["40"]}),
    ]


def test_a_found_time_column_without_times_is_left_out_where_none_is_needed():
    with pytest.warns(FastKDWarning, match=r"column 'time', row 3: .*got 'soon'\. .* left out.*time_column=''"):
        log = build(text=True, options=LENIENT, batches=batches_with_bad_times())
    assert (log.time, len(log)) == (None, 4)
    assert log.columns == {"user": "user", "item": "item"}
    with pytest.warns(FastKDWarning, match="expected numbers or dates, the column is bool"):
        assert build(options=LENIENT, user=[1], item=[1], time=[True]).time is None


def test_a_time_column_that_is_named_or_needed_is_never_left_out():
    for options in (ReadOptions(), ReadOptions(lenient_time=True, time="time")):
        with pytest.raises(DataError, match="row 3: expected a number or an ISO date"):
            build(text=True, options=options, batches=batches_with_bad_times())
    with pytest.raises(DataError, match="column 'rating', row 1: expected a number, got 'good'"):
        build(text=True, options=LENIENT, user=["1"], item=["1"], rating=["good"])


def test_boolean_rating_column_is_refused():
    with pytest.raises(DataError, match="expected numbers, the column is bool"):
        build(user=[1], item=[1], rating=[True])


def test_labels_may_be_missing_and_are_text():
    log = build(user=[1, 2, 3], item=[1, 2, 3], split=pa.array(["b", None, "a"]).dictionary_encode())
    assert log.split.codes.tolist() == [1, -1, 0]
    assert build(user=[1, 2], item=[1, 2], split=[0, 1]).split.names.tolist() == ["0", "1"]


def test_the_log_names_the_columns_it_read():
    log = build(user=[1], item=[2], time=[3])
    assert log.columns == {"user": "user", "item": "item", "time": "time"}
    assert log.take(np.array([0])).columns == log.columns


def test_no_rows():
    with pytest.raises(DataError, match="src: no rows"):
        build(user=pa.array([], pa.int64()), item=pa.array([], pa.int64()))


def test_a_null_among_the_values_of_a_dictionary_is_a_null_id():
    ids = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", None, "b"]))
    with pytest.raises(DataError, match="column 'user', row 2: null id"):
        read_interactions(pa.table({"user": ids, "item": [1, 2, 3]}))
    labels = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["train", None]))
    log = read_interactions(
        pa.table({"user": [1, 2, 3], "item": [1, 2, 3], "split": labels}), options=ReadOptions(split="split")
    )
    assert log.split.codes.tolist() == [0, -1, 0]


@pytest.mark.parametrize("late", ["2020-01-01", "7"])
def test_dates_and_numbers_of_two_batches_do_not_mix(late):
    roles = {"user": "user", "item": "item", "time": "time"}
    builder = LogBuilder(roles, "src", ReadOptions(time="time"), text=True)
    for times in (["", ""], ["7" if late != "7" else "2020-01-01", ""], [late, ""]):
        batch = pa.record_batch({"user": ["1", "2"], "item": ["1", "2"], "time": times})
        if times[0] != late:
            builder.add(batch)
    with pytest.raises(DataError, match=r"src: column 'time': (dates|numbers) in the rows from 5 on, .* before"):
        builder.add(batch)
