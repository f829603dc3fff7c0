from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastkd import Interactions, Seeds
from fastkd.core.errors import TeacherError
from fastkd.models import EmbeddingTeacher, ModelConfig, ModelTeacher, Recommender, Tables, build_model
from fastkd.models import teacher as teacher_module
from tests.contracts.interactions import random_interactions


class NoisyInTraining(Recommender):
    """A model whose vectors differ from call to call in train mode."""

    def __init__(self, num_users: int = 9, num_items: int = 14, dim: int = 3) -> None:
        super().__init__()
        random = Seeds(5).torch("noisy")
        self.num_users, self.num_items, self.dim = num_users, num_items, dim
        self.users = nn.Parameter(torch.randn(num_users, dim, generator=random))
        self.items = nn.Parameter(torch.randn(num_items, dim, generator=random))
        self.dropout = nn.Dropout(0.5)

    def tables(self) -> Tables:
        return Tables(self.dropout(self.users), self.dropout(self.items))


def brute_lists(users, items, k, exclude):
    """Best first, ties by lower id, by sorting every row."""
    scores = users.double().numpy() @ items.double().numpy().T
    rows = []
    for user, row in enumerate(scores):
        left = [i for i in range(len(row)) if exclude is None or i not in set(exclude.row(user).tolist())]
        best = sorted(left, key=lambda i: (-row[i], i))[:k]
        rows.append(best + [-1] * (k - len(best)))
    return np.array(rows)


@pytest.fixture
def train():
    return random_interactions()


@pytest.fixture
def vectors():
    random = Seeds(2).torch("vectors")
    return torch.randn(23, 6, generator=random), torch.randn(37, 6, generator=random)


@pytest.mark.parametrize("masked", [True, False])
def test_lists_are_the_best_of_what_is_left(train, vectors, masked, monkeypatch):
    monkeypatch.setattr(teacher_module, "USER_CHUNK", 5)
    exclude = train if masked else None
    lists = EmbeddingTeacher(*vectors).lists(8, exclude)
    assert lists.ids.dtype == torch.int64
    np.testing.assert_array_equal(lists.ids.numpy(), brute_lists(*vectors, 8, exclude))
    wanted = (vectors[0].unsqueeze(1) * vectors[1][lists.ids]).sum(-1)
    torch.testing.assert_close(lists.scores, wanted)


def test_short_rows_are_padded_past_the_catalogue(train, vectors):
    lists = EmbeddingTeacher(*vectors).lists(50, train)
    assert lists.ids.shape == lists.scores.shape == (23, 50)
    left = 37 - train.degrees()
    for user in range(23):
        assert (lists.ids[user, left[user] :] == -1).all()
        assert (lists.scores[user, left[user] :] == -torch.inf).all()
        assert len(set(lists.ids[user, : left[user]].tolist())) == left[user]


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_equal_and_huge_scores(train, vectors, scale):
    users, items = vectors[0] * scale, vectors[1] * max(scale, 1.0)
    lists = EmbeddingTeacher(users, items).lists(5, train)
    np.testing.assert_array_equal(lists.ids.numpy(), brute_lists(users, items, 5, train))


def test_model_teacher_is_in_eval_mode_whatever_its_owner_does():
    model = NoisyInTraining()
    teacher = ModelTeacher(model.train())
    tables = teacher.tables()
    assert torch.equal(tables.users, model.users)
    assert not tables.users.requires_grad
    assert model.training
    model.eval()
    assert torch.equal(teacher.tables().users, tables.users)


@pytest.mark.parametrize("name", ["bpr_mf", "lightgcn"])
def test_model_and_its_exported_vectors_are_one_teacher(train, name):
    model = build_model(ModelConfig(name=name, dim=5), train, Seeds(1))
    live = ModelTeacher(model)
    exported = EmbeddingTeacher(model.frozen_tables().users, model.frozen_tables().items)
    assert live.fingerprint() == exported.fingerprint()
    assert torch.equal(live.lists(6, train).ids, exported.lists(6, train).ids)
    assert live.model is model


def test_vectors_are_computed_once(train, monkeypatch):
    model = build_model(ModelConfig(name="lightgcn", dim=5), train, Seeds(1))
    calls = []
    model.graph.register_forward_hook(lambda *_: calls.append(1))
    teacher = ModelTeacher(model)
    teacher.tables(), teacher.lists(3, train), teacher.fingerprint()
    assert len(calls) == 3


def test_a_model_that_is_trained_on_is_refused():
    model = NoisyInTraining()
    teacher = ModelTeacher(model)
    teacher.tables()
    with torch.no_grad():
        model.users.add_(1.0)
    with pytest.raises(TeacherError, match="NoisyInTraining changed"):
        teacher.tables()


def test_fingerprint_follows_the_content(vectors):
    users, items = vectors
    first = EmbeddingTeacher(users, items).fingerprint()
    assert first == EmbeddingTeacher(users.clone(), items.clone()).fingerprint()
    changed = items.clone()
    changed[36, 5] += 1e-3
    assert first != EmbeddingTeacher(users, changed).fingerprint()
    assert first != EmbeddingTeacher(items, users).fingerprint()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_vectors_that_are_not_finite_are_refused_by_row(vectors, value):
    users, items = vectors
    items[30, 2] = value
    with pytest.raises(TeacherError, match=rf"row 30 of items holds {value}"):
        EmbeddingTeacher(users, items)


def test_values_past_float32_are_refused_by_value(vectors):
    users, items = (t.double() for t in vectors)
    users[4, 1] = -1e300
    with pytest.raises(TeacherError, match=r"row 4 of users holds -1e\+300; all values must be finite in float32"):
        EmbeddingTeacher(users, items)
    users[4, 1] = torch.finfo(torch.float32).max
    assert EmbeddingTeacher(users, items).tables().users[4, 1] == users[4, 1]


def test_widths_dtypes_and_ranks_are_checked(vectors):
    users, items = vectors
    with pytest.raises(TeacherError, match="users are 6 wide and items 5"):
        EmbeddingTeacher(users, items[:, :5])
    with pytest.raises(TeacherError, match=r"users must be a floating matrix.*int64"):
        EmbeddingTeacher(users.long(), items)
    with pytest.raises(TeacherError, match=r"items must be a floating matrix.*\[37\]"):
        EmbeddingTeacher(users, items[:, 0])


def test_arrays_are_vectors_too_and_other_things_are_refused_by_type(vectors, tmp_path):
    users, items = (t.numpy() for t in vectors)
    wanted = EmbeddingTeacher(*vectors).fingerprint()
    assert EmbeddingTeacher(users, items.astype(np.float64)).fingerprint() == wanted
    assert EmbeddingTeacher(np.asfortranarray(users)[::-1][::-1], vectors[1]).fingerprint() == wanted
    np.save(tmp_path / "u.npy", users)
    assert EmbeddingTeacher(np.load(tmp_path / "u.npy", mmap_mode="r"), items).fingerprint() == wanted
    with pytest.raises(TeacherError, match="the teacher: users must be a tensor or a numpy array, got list"):
        EmbeddingTeacher(users.tolist(), items)
    with pytest.raises(
        TeacherError, match="the teacher: items must hold numbers that torch knows, got an array of >f4"
    ):
        EmbeddingTeacher(users, items.astype(">f4"))


def test_half_precision_vectors_are_kept_as_float32(vectors):
    users, items = (t.to(torch.bfloat16) for t in vectors)
    tables = EmbeddingTeacher(users, items).tables()
    assert tables.users.dtype == torch.float32
    assert torch.equal(tables.items, items.float())


def test_wrong_exclusions_and_lengths_are_refused(vectors):
    teacher = EmbeddingTeacher(*vectors)
    with pytest.raises(TeacherError, match=r"23 users x 37 items.*22 users x 37 items"):
        teacher.lists(3, Interactions.empty(22, 37))
    with pytest.raises(TeacherError, match="k=0"):
        teacher.lists(0, None)


def test_a_teacher_of_vectors_has_no_model(vectors):
    with pytest.raises(TeacherError, match="EmbeddingTeacher is no live model"):
        _ = EmbeddingTeacher(*vectors).model
    with pytest.raises(TeacherError, match="needs a Recommender, got int"):
        ModelTeacher(3)
