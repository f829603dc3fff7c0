from __future__ import annotations

import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import build_method
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, ModelTeacher, PairRecommender, build_model, pairs
from fastkd.training import Trainer, TrainingConfig
from tests.contracts.interactions import random_interactions
from tests.training.tiny_run import EVALUATION, tiny_data


class Distance(PairRecommender):
    """Minus the squared distance of two vectors: exact in small integers."""

    pair_width = 3

    def __init__(self, num_users=11, num_items=29):
        super().__init__()
        random = Seeds(1).torch("d")
        self.num_users, self.num_items, self.dim = num_users, num_items, 3
        self.places = torch.nn.Parameter(torch.randint(0, 5, (num_users + num_items, 3), generator=random).float())

    def score(self, users, items):
        return -(self.places[users] - self.places[items + self.num_users]).square().sum(-1)


def test_ranking_is_the_sorted_scores_at_any_chunk(monkeypatch):
    model, train = Distance(), random_interactions(11, 29, 4)
    whole = model.frozen_tables().scores(torch.arange(11), torch.arange(29).expand(11, -1))
    for user, row in enumerate(train):
        whole[user, torch.from_numpy(row).long()] = -torch.inf
    wanted = whole.sort(dim=1, descending=True, stable=True)
    for chunk, cells in ((1024, 1 << 24), (4, 24), (7, 1), (1, 6)):
        monkeypatch.setattr(pairs, "CHUNK", chunk)
        monkeypatch.setattr(pairs, "CELLS", cells)
        best = model.frozen_tables().topk(torch.arange(11), 6, exclude=train)
        assert torch.equal(best.ids, wanted.indices[:, :6])
        assert torch.equal(best.scores, wanted.values[:, :6])
    assert model.frozen_tables().topk(torch.arange(0), 6).ids.shape == (0, 6)


def test_vectors_are_refused_by_name():
    tables = Distance().tables()
    for ask in (lambda: tables.users, lambda: tables.items, lambda: tables.user_vectors(torch.arange(2)),
                lambda: tables.item_vectors(torch.arange(2))):  # fmt: skip
        with pytest.raises(ConfigError, match="Distance scores pairs and has no user and item vectors"):
            ask()


def test_a_teacher_that_scores_pairs_ranks_and_has_no_vectors():
    model = Distance(30, 41)
    teacher = ModelTeacher(model)
    data = tiny_data()
    method = build_method("de", {}, Seeds(0))
    student = build_model(ModelConfig(dim=4), data.train, Seeds(0))
    with pytest.raises(ConfigError, match="Distance scores pairs"):
        method.prepare(teacher, student, data.train, epochs=1)
    build_method("rrd", {"top": 20, "ranked": 5}, Seeds(0)).prepare(teacher, student, data.train, epochs=1)
    with torch.no_grad():
        model.places[3, 1] = torch.nan
    with pytest.raises(TeacherError, match="changed after it was first read"):
        teacher.lists(3, None)
    with pytest.raises(TeacherError, match="parameter places holds NaN or infinity"):
        ModelTeacher(model).lists(3, None)


def test_what_needs_vectors_is_refused_before_training():
    data, model = tiny_data(), Distance(30, 41)
    with pytest.raises(ConfigError, match="keep_every=2 keeps vectors, and Distance has none"):
        Trainer(model, data, None, TrainingConfig(keep_every=2), evaluation=EVALUATION)
    with pytest.raises(ConfigError, match="needs a student whose tables are its parameters"):
        Trainer(model, data, None, TrainingConfig(optimizer="row_adam"), evaluation=EVALUATION)
    with pytest.raises(ConfigError, match="path='ranks' needs vectors, and this model scores pairs"):
        evaluate(model, data, config=EvalConfig(path="ranks"))
