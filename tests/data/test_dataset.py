import numpy as np
import pytest

from fastkd.core import DataError, Interactions
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.sequences import UserSequences


def make(train, valid=None, test=None, users=None, items=None):
    empty = Interactions.empty(train.num_users, train.num_items)
    return Dataset(
        train,
        valid or empty,
        test or empty,
        users or IdMap.identity(train.num_users),
        items or IdMap.identity(train.num_items),
    )


def test_user_without_training_items_is_named_by_original_id():
    train = Interactions.from_pairs([0, 0], [0, 1], num_users=2)
    with pytest.raises(DataError, match=r"1 user\(s\) without training items, first: 'bo'"):
        make(train, users=IdMap(np.array(["al", "bo"])))


def test_parts_of_other_shapes_are_refused():
    train = Interactions.from_pairs([0, 1], [0, 1])
    with pytest.raises(DataError, match=r"test is Interactions\(2 users x 3 items"):
        make(train, test=Interactions.empty(2, 3))
    with pytest.raises(DataError, match="3 users"):
        make(train, users=IdMap.identity(3))


def test_id_map_refuses_what_it_does_not_know():
    ids = IdMap(np.array([10, 20, 30]))
    assert ids.encode(np.array([[30], [10]])).tolist() == [[2], [0]]
    with pytest.raises(DataError, match="first: 25"):
        ids.encode(np.array([10, 25]))
    with pytest.raises(DataError, match="internal id -1"):
        ids.decode(np.array([0, -1]))
    with pytest.raises(DataError, match=r"ids are integers here.*'10'"):
        ids.encode(np.array(["10"]))
    with pytest.raises(DataError, match=r"ids are text here.*10"):
        IdMap(np.array(["10"])).encode(np.array([10]))


def test_ids_past_what_float64_counts_keep_their_value_whatever_their_sign():
    ids = IdMap(np.array([2**53, 2**53 + 1, 2**53 + 2, -1]))
    assert ids.encode(np.array([[2**53 + 1], [2**53 + 2]], dtype=np.uint64)).tolist() == [[1], [2]]
    assert ids.encode(np.array([-1, 2**53])).tolist() == [3, 0]
    with pytest.raises(DataError, match=r"1 unknown id\(s\), first: 18446744073709551615, past the largest id"):
        ids.encode(np.array([2**53, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(DataError, match=r"id 18446744073709551616 is no 64-bit integer; such ids must be text"):
        ids.encode(np.array([2**53, 2**64], dtype=object))


@pytest.mark.parametrize("wrong", [np.array([1.0, 3.0]), np.array([True]), np.array([b"1"]), np.array([np.nan])])
def test_integer_ids_are_not_asked_for_by_other_kinds(wrong):
    with pytest.raises(DataError, match=rf"ids are integers here, got dtype .*, first: {wrong[0].item()!r}"):
        IdMap(np.array([0, 1, 3])).encode(wrong)
    assert IdMap(np.array([0, 1, 3])).encode(np.array([])).tolist() == []


def test_content_hash_sees_every_part():
    train = Interactions.from_pairs([0, 1], [0, 1])
    other = Interactions.from_pairs([0], [1], num_users=2, num_items=2)
    hashes = {
        make(train).content_hash(),
        make(train, valid=other).content_hash(),
        make(train, test=other).content_hash(),
    }
    assert len(hashes) == 3


def test_sequences_of_other_data_are_refused():
    train = Interactions.from_csr([0, 2, 3], [0, 1, 2], 3)
    empty, maps = Interactions.empty(2, 3), (IdMap.identity(2), IdMap.identity(3))
    for indptr, items in (([0, 1, 3], [0, 1, 2]), ([0, 2, 3], [0, 1])):
        order = UserSequences(np.array(indptr), np.array(items))
        with pytest.raises(DataError, match=r"sequences hold .* items, not those of each user"):
            Dataset(train, empty, empty, *maps, sequences=order)


def test_ids_as_python_objects_are_read_as_what_they_are():
    assert IdMap(np.array(["a", "b"])).encode(np.array(["b", "a"], dtype=object)).tolist() == [1, 0]
    assert IdMap(np.array([5, 7])).encode(np.array([7, np.int32(5)], dtype=object)).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"1 unknown id.*'c'"):
        IdMap(np.array(["a", "b"])).encode(np.array(["c"], dtype=object))
    with pytest.raises(DataError, match="all integers or all text, got 'a', None"):
        IdMap(np.array(["a", "b"])).encode(np.array(["a", None], dtype=object))
