from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd import Interactions
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.data import IdMap
from fastkd.models import ListTeacher
from fastkd.models.list_teacher import Names


def falling(shape: tuple[int, int]) -> torch.Tensor:
    return torch.arange(shape[1], 0, -1).float().expand(shape).clone()


def lists_of(rows: list[list[int]], num_items: int = 10, **options: object) -> ListTeacher:
    ids = torch.tensor(rows)
    return ListTeacher(ids, falling(tuple(ids.shape)), num_items, **options)


SEEN = Interactions.from_pairs([0, 0, 1], [4, 7, 2], num_users=2, num_items=10)


def test_excluded_items_are_left_out_in_list_order():
    lists = lists_of([[7, 1, 4, 9, 3], [2, 0, 5, 6, 8]]).lists(3, SEEN)
    assert lists.ids.tolist() == [[1, 9, 3], [0, 5, 6]]
    assert lists.scores.tolist() == [[4.0, 2.0, 1.0], [4.0, 3.0, 2.0]]


def test_without_exclusions_the_list_is_its_own_head():
    assert lists_of([[7, 1, 4], [2, 0, 5]]).lists(2, None).ids.tolist() == [[7, 1], [2, 0]]


def test_a_list_that_runs_out_is_refused_with_what_would_work():
    with pytest.raises(TeacherError, match=r"1 user\(s\).*fewer than 4.*user 0 with 3; ask for at most 3"):
        lists_of([[7, 1, 4, 9, 3], [2, 0, 5, 6, 8]]).lists(4, SEEN)


def test_a_list_that_runs_out_is_padded_where_allowed():
    lists = lists_of([[7, 1, 4, 9, 3], [2, 0, 5, 6, 8]], short="pad").lists(6, SEEN)
    assert lists.ids.tolist() == [[1, 9, 3, -1, -1, -1], [0, 5, 6, 8, -1, -1]]
    assert lists.scores[0].tolist() == [4.0, 2.0, 1.0, -np.inf, -np.inf, -np.inf]


def test_a_user_with_no_more_items_in_the_catalogue_is_not_short():
    everything = Interactions.from_pairs([0, 0], [0, 1], num_users=1, num_items=4)
    lists = lists_of([[3, 0, 2, 1]], num_items=4).lists(3, everything)
    assert lists.ids.tolist() == [[3, 2, -1]]


def test_missing_users_are_refused_or_padded():
    with pytest.raises(TeacherError, match=r"1 user\(s\) have no list, first: user 1"):
        lists_of([[1, 2], [-1, -1]])
    assert lists_of([[1, 2], [-1, -1]], short="pad").lists(2, None).ids.tolist() == [[1, 2], [-1, -1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2, 3], [4, 10, 5]], r"user 1, rank 2: 10 is outside the catalogue \[0, 10\)"),
        ([[1, -2, 3]], "user 0, rank 2: -2 is outside"),
        ([[1, 2, 3], [6, 4, 6]], r"user 1 lists item 6 twice, at ranks \[1, 3\]"),
        ([[1, -1, 3]], "user 0, rank 2: -1 is padding before the end"),
    ],
)
def test_bad_ids_are_refused_by_user_and_rank(rows, message):
    with pytest.raises(TeacherError, match=message):
        lists_of(rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(value):
    ids, scores = torch.tensor([[1, 2], [3, 4]]), falling((2, 2))
    scores[1, 0] = value
    with pytest.raises(TeacherError, match=f"user 1, rank 1: {value} is no finite score"):
        ListTeacher(ids, scores, 10)


def test_scores_that_contradict_the_ranks_are_refused():
    with pytest.raises(TeacherError, match=r"user 0, rank 1: 1\.0 is a score below its successor's"):
        ListTeacher(torch.tensor([[1, 2]]), torch.tensor([[1.0, 2.0]]), 10)
    ListTeacher(torch.tensor([[1, 2]]), torch.tensor([[2.0, 2.0]]), 10)


def test_shapes_and_options_are_checked():
    with pytest.raises(TeacherError, match=r"scores must be floating of the ids' shape \[1, 2\]"):
        ListTeacher(torch.tensor([[1, 2]]), torch.tensor([[1.0]]), 10)
    with pytest.raises(TeacherError, match="ids must be an integer matrix"):
        ListTeacher(torch.tensor([[1.0, 2.0]]), falling((1, 2)), 10)
    with pytest.raises(ConfigError, match="short='keep'"):
        lists_of([[1]], short="keep")


def test_arrays_are_lists_too_and_other_things_are_refused_by_type():
    ids, scores = np.array([[1, 2], [3, 4]]), np.array([[2.0, 1.0], [2.0, 1.0]])
    assert (
        ListTeacher(ids, scores, 10).fingerprint()
        == ListTeacher(*map(torch.from_numpy, (ids, scores)), 10).fingerprint()
    )
    with pytest.raises(TeacherError, match="list ids must be a tensor or a numpy array, got list"):
        ListTeacher([[1, 2]], None, 10)
    with pytest.raises(TeacherError, match="list scores must be a tensor or a numpy array, got float"):
        ListTeacher(ids, 1.0, 10)
    with pytest.raises(TeacherError, match="list ids must hold numbers that torch knows, got an array of <U1"):
        ListTeacher(np.array([["a"]]), None, 10)


def test_lists_without_scores_rank_and_say_what_they_lack():
    ids = torch.tensor([[7, 1, 4, 9, 3], [2, 0, 5, 6, -1]])
    teacher, scored = ListTeacher(ids, None, 10, short="pad"), ListTeacher(ids, falling((2, 5)), 10, short="pad")
    for k in (2, 6):
        lists = teacher.lists(k, SEEN, among=np.array([0, 1, 3, 5, 9]))
        assert torch.equal(lists.ids, scored.lists(k, SEEN, among=np.array([0, 1, 3, 5, 9])).ids)
        assert lists.known_scores is None
    assert teacher.fingerprint() != scored.fingerprint()
    says = "the teacher's lists have no scores, which this needs: give lists with scores, vectors or a model"
    with pytest.raises(TeacherError, match=says):
        _ = teacher.lists(2, SEEN).scores
    with pytest.raises(TeacherError, match=says):
        teacher.scores(torch.tensor([0]), torch.tensor([[1]]))


def test_messages_call_users_and_items_by_their_names():
    names = Names(IdMap(np.array(["ann", "bob"])), IdMap(np.arange(10) * 10))
    ids = torch.tensor([[7, 1, 4], [2, 0, 2]])
    with pytest.raises(TeacherError, match=r"user 'bob' lists item 20 twice, at ranks \[1, 3\]"):
        ListTeacher(ids, None, 10, names=names)
    with pytest.raises(TeacherError, match="user 'ann', rank 1: nan is no finite score"):
        ListTeacher(ids[:1], torch.full((1, 3), torch.nan), 10, names=names)
    with pytest.raises(TeacherError, match=r"first: user 'bob'; add their lists, .*short='pad' \(a key of lists"):
        ListTeacher(torch.tensor([[1], [-1]]), None, 10, names=names)
    with pytest.raises(TeacherError, match=r"the shortest: user 'ann' with 1; ask for at most 1.*short='pad'"):
        ListTeacher(ids[:1], None, 10, names=names).lists(3, SEEN.rows(np.arange(1)))


def test_a_teacher_of_lists_has_neither_vectors_nor_a_model():
    teacher = lists_of([[1, 2]])
    with pytest.raises(TeacherError, match="ListTeacher holds ranked lists only"):
        teacher.tables()
    with pytest.raises(TeacherError, match="ListTeacher is no live model"):
        _ = teacher.model


def test_the_error_of_short_lists_is_one_in_another_process_too():
    with pytest.raises(TeacherError) as caught:
        lists_of([[1, 2]]).lists(3, None)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert "user 0 with 2; ask for at most 2 (every user has as many), export longer lists, or" in str(caught.value)


def test_fingerprint_follows_ids_scores_and_catalogue():
    prints = {lists_of(rows, n).fingerprint() for rows, n in (([[1, 2]], 10), ([[2, 1]], 10), ([[1, 2]], 11))}
    assert len(prints) == 3
    assert lists_of([[1, 2]]).fingerprint() == lists_of([[1, 2]]).fingerprint()


@settings(deadline=None, max_examples=40)
@given(data=st.data(), k=st.integers(1, 12))
def test_filtering_is_what_a_loop_does(data, k):
    rows = [data.draw(st.permutations(range(9)))[: data.draw(st.integers(0, 9))] for _ in range(3)]
    seen = [sorted(data.draw(st.sets(st.integers(0, 8)))) for _ in range(3)]
    ids = torch.tensor([row + [-1] * (9 - len(row)) for row in rows])
    pairs = [(u, i) for u, row in enumerate(seen) for i in row]
    exclude = Interactions.from_pairs([u for u, _ in pairs], [i for _, i in pairs], num_users=3, num_items=9)
    found = ListTeacher(ids, falling((3, 9)), 9, short="pad").lists(k, exclude).ids.tolist()
    for user, row in enumerate(rows):
        kept = [i for i in row if i not in seen[user]][:k]
        assert found[user] == kept + [-1] * (k - len(kept))


def test_scores_of_chosen_items_are_the_listed_ones_and_else_the_last():
    ids = torch.tensor([[5, 0, 3], [2, -1, -1], [-1, -1, -1]])
    scores = torch.tensor([[3.0, 2.0, -1.0], [7.0, -torch.inf, -torch.inf], [-torch.inf] * 3])
    teacher = ListTeacher(ids, scores, 6, short="pad")
    found = teacher.scores(torch.tensor([1, 0, 2, 0]), torch.tensor([[2, 5], [3, 5], [1, -1], [4, 0]]))
    assert found.tolist() == [[7.0, 7.0], [-1.0, 3.0], [0.0, -torch.inf], [-1.0, 2.0]]
