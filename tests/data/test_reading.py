from hypothesis import given
from hypothesis import strategies as st

from fastkd.core.config import from_mapping, to_mapping
from fastkd.data import Reading
from fastkd.data.reading import STEPS

COUNTS = st.integers(0, 10**9)


def test_lines_say_what_was_read_and_left_out():
    reading = Reading(
        rows=1500,
        columns={"user": "user_id", "item": "song"},
        left_out={"min_rating": 0, "duplicates": 357, "core": 12},
    )
    assert reading.lines() == [
        ("rows read", "1,500"),
        ("columns read", "user 'user_id', item 'song'"),
        ("left out: repeats", "357"),
        ("left out: outside the core", "12"),
    ]


def test_a_source_without_names_and_with_every_row_has_one_line():
    assert Reading(rows=3).lines() == [("rows read", "3")]


@given(COUNTS, st.dictionaries(st.sampled_from(sorted(STEPS)), COUNTS))
def test_it_travels_through_plain_values(rows, left_out):
    reading = Reading(rows=rows, columns={"user": "u"}, left_out=left_out)
    assert from_mapping(Reading, to_mapping(reading)) == reading
    assert len(reading.lines()) == 2 + sum(count > 0 for count in left_out.values())
