import numpy as np

from fastkd.core import Interactions
from fastkd.data import Dataset, IdMap, Reading, dataset_summary


def test_counts_of_a_known_data_set():
    train = Interactions.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], num_users=3, num_items=5)
    valid = Interactions.from_pairs([0], [3], num_users=3, num_items=5)
    test = Interactions.from_pairs([0, 1, 1], [4, 1, 3], num_users=3, num_items=5)
    summary = dataset_summary(Dataset(train, valid, test, IdMap.identity(3), IdMap.identity(5), "toy"))
    assert (summary.users, summary.items) == (3, 5)
    assert summary.rows == {"train": 4, "valid": 1, "test": 3}
    assert summary.users_with == {"train": 3, "valid": 1, "test": 2}
    assert summary.density == 8 / 15
    assert (summary.cold_items, summary.cold_valid_rows, summary.cold_test_rows) == (3, 1, 2)
    assert summary.user_degrees["max"] == 2
    assert summary.item_degrees["max"] == 3
    assert summary.user_degrees["median"] == np.median([2, 1, 1])
    text = dict(summary.lines())
    assert text["name"] == "toy"
    assert text["test rows"] == "3 (2 users)"
    assert text["test rows of such items"] == "2"


def test_what_was_read_stands_behind_the_name():
    one = Interactions.from_pairs([0], [0])
    none = Interactions.empty(1, 1)
    reading = Reading(rows=4, columns={"user": "u", "item": "i"}, left_out={"duplicates": 3})
    made = Dataset(one, none, none, IdMap.identity(1), IdMap.identity(1), reading=reading)
    summary = dataset_summary(made)
    assert summary.reading == reading
    assert [name for name, _ in summary.lines()][:4] == ["name", "rows read", "columns read", "left out: repeats"]


def test_empty_data_set_has_a_summary():
    nothing = Interactions.empty(0, 0)
    summary = dataset_summary(Dataset(nothing, nothing, nothing, IdMap.identity(0), IdMap.identity(0)))
    assert (summary.density, summary.user_degrees["max"]) == (0.0, 0.0)
