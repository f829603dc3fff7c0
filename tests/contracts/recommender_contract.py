"""What every recommender must hold: seeds, state, training, resuming, ranking. Its tests inherit this and name it."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, save

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError
from fastkd.data import Batch, IdMap, SyntheticConfig, UserSequences, build_sequences, synthetic_dataset
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, ModelTeacher, Recommender, build_model
from fastkd.serving import RecommendOptions, recommend
from fastkd.training import Trainer, TrainingConfig, TrainingInterrupted
from tests.contracts.interactions import random_interactions
from tests.training.tiny_run import EVALUATION, StopAt, tiny_data


@cache
def planted():
    """300 users with planted tastes among 200 items."""
    return synthetic_dataset(
        SyntheticConfig(num_users=300, num_items=200, num_clusters=8, interactions_per_user=20, seed=4)
    ).dataset


def shuffled(train: Interactions, seed: int = 0) -> UserSequences:
    """Each user's training items in a random order of time."""
    time = np.random.default_rng(seed).random(train.nnz)
    return build_sequences(train.entry_users(), train.indices, num_users=train.num_users, time=time)


class RecommenderContract:
    """Inherit, set ``name`` and how it trains; ``options`` are the model's own."""

    name: str
    options: ClassVar[dict[str, object]] = {}
    constant: tuple[str, ...] = ()
    """Parameters that start the same under all seeds."""
    learning: ClassVar[dict[str, object]] = {}
    beats: float

    @pytest.fixture
    def train(self) -> Interactions:
        return random_interactions()

    def build(self, train: Interactions, seed: int = 3, **changes: object) -> Recommender:
        options = {**self.options, **changes.pop("options", {})}
        config = ModelConfig(name=self.name, options=options, **{"dim": 6, **changes})
        return build_model(config, train, Seeds(seed), sequences=shuffled(train))

    def batch(self, train: Interactions, n: int = 3) -> Batch:
        entries = torch.from_numpy(np.random.default_rng(1).permutation(train.nnz)[:40])
        negatives = torch.from_numpy(np.random.default_rng(2).integers(0, train.num_items, (len(entries), n)))
        users = torch.from_numpy(train.entry_users()[entries.numpy()].astype(np.int64))
        return Batch(entries, users, torch.from_numpy(train.indices[entries.numpy()].astype(np.int64)), negatives)

    def dense(self, model: Recommender) -> torch.Tensor:
        """All scores, as the frozen model gives them."""
        ids = torch.arange(model.num_items).expand(model.num_users, -1)
        return model.frozen_tables().scores(torch.arange(model.num_users), ids)

    def test_init_is_a_function_of_the_seeds(self, train):
        torch.manual_seed(1)
        first = self.build(train).state_dict()
        torch.manual_seed(2)
        torch.rand(10)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        again, other = self.build(train).state_dict(), self.build(train, seed=4).state_dict()
        for name, value in first.items():
            assert torch.equal(value, again[name])
            assert torch.equal(value, other[name]) == (name in self.constant), name
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002

    def test_no_two_parameters_start_alike(self, train):
        values = [p.detach().flatten()[:6] for n, p in self.build(train).named_parameters() if n not in self.constant]
        assert not any(torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])

    def test_gradient_of_the_base_loss_reaches_every_parameter(self, train):
        model = self.build(train, init_std=0.5)
        losses = model.row_losses(model.tables(), self.batch(train))
        assert losses.shape == (40,)
        losses.sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_padding_negatives_count_for_nothing(self, train):
        model = self.build(train).eval()
        batch = self.batch(train)
        empty = torch.full((40, 2), -1)
        wider = Batch(batch.entries, batch.users, batch.positives, torch.cat([batch.negatives, empty], 1))
        found = [model.row_losses(model.tables(), b, epoch=1, step=2) for b in (batch, wider)]
        torch.testing.assert_close(*found)
        assert torch.isfinite(found[0]).all()

    def test_state_survives_safetensors_and_holds_parameters_only(self, train):
        model, other = self.build(train), self.build(train, seed=9)
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
        other.load_state_dict(load(save(model.state_dict())))
        assert torch.equal(self.dense(model), self.dense(other))

    def test_frozen_scores_come_from_eval_mode(self, train):
        model = self.build(train).train()
        frozen = model.frozen_tables()
        users, ids = torch.arange(23), torch.arange(37).expand(23, -1)
        first, live = frozen.scores(users, ids), model.eval().tables().scores(users, ids)
        assert not first.requires_grad
        torch.testing.assert_close(first, live.detach())
        assert torch.equal(first, frozen.scores(users, ids))
        model.train()
        frozen.scores(users, ids)
        assert model.training

    def test_scores_of_listed_items(self, train):
        model = self.build(train, init_std=0.5)
        ids = torch.tensor([[3, -1, 36], [0, 5, -1]])
        found, whole = model.frozen_tables().scores(torch.tensor([7, 2]), ids), self.dense(model)
        torch.testing.assert_close(found[0, [0, 2]], whole[7, [3, 36]])
        torch.testing.assert_close(found[1, :2], whole[2, [0, 5]])
        assert found[0, 1] == found[1, 2] == -torch.inf

    def test_lists_evaluation_and_recommendation_are_those_of_the_scores(self, train, tmp_path):
        model = self.build(train, init_std=0.5)
        whole = self.dense(model)
        for user, row in enumerate(train):
            whole[user, torch.from_numpy(row.astype(np.int64))] = -torch.inf
        wanted = whole.sort(dim=1, descending=True, stable=True).indices[:, :5]
        teacher = ModelTeacher(model)
        assert torch.equal(teacher.lists(5, train).ids, wanted)
        assert torch.equal(teacher.lists(5, train, users=range(4, 11)).ids, wanted[4:11])
        among = np.array([1, 4, 8, 20, 36])
        best = teacher.lists(2, train, among=among).ids
        order = whole[:, among].sort(dim=1, descending=True, stable=True).indices
        assert torch.equal(best, torch.from_numpy(among)[order[:, :2]])
        ids = {"user_ids": IdMap.identity(23), "item_ids": IdMap.identity(37)}
        recommend(model, tmp_path / "r.parquet", exclude=train, options=RecommendOptions(k=5), **ids)
        assert pq.read_table(tmp_path / "r.parquet")["item"].to_pylist() == wanted.flatten().tolist()
        assert teacher.fingerprint() == ModelTeacher(self.build(train, init_std=0.5)).fingerprint()
        assert teacher.fingerprint() != ModelTeacher(self.build(train, seed=8, init_std=0.5)).fingerprint()

    def test_users_and_items_without_interactions_stay_finite(self):
        for train in (Interactions.from_pairs([0], [2], num_users=3, num_items=5), Interactions.empty(3, 5)):
            model = self.build(train)
            assert torch.isfinite(self.dense(model)).all()

    def test_unknown_options_are_refused_by_name(self, train):
        with pytest.raises(ConfigError, match=r"unknown key 'model.options.nothing'"):
            self.build(train, options={"nothing": 1})

    def test_it_learns_planted_tastes(self):
        data, evaluation = planted(), EvalConfig(ks=(10,), metrics=("ndcg",))
        config = {"epochs": 15, "batch_size": 256, "negatives": 4, "lr": 0.01, "eval_every": 5, "monitor": "ndcg@10"}
        model = self.build(data.train, dim=16)
        training = TrainingConfig(**{**config, "device": "cpu", **self.learning})
        Trainer(model, data, None, training, evaluation=evaluation).fit()
        assert evaluate(model, data, "test", config=evaluation).metrics["ndcg@10"] > self.beats

    @pytest.mark.parametrize("stop", [3, 7])
    def test_a_run_stopped_and_resumed_is_the_run_never_stopped(self, tmp_path, stop):
        data = tiny_data()

        def trainer(folder, *callbacks):
            config = {"epochs": 3, "batch_size": 80, "negatives": 2, "lr": 0.05, "eval_every": 1, "device": "cpu"}
            training, model = TrainingConfig(**config, monitor="ndcg@10"), self.build(data.train)
            return Trainer(model, data, None, training, evaluation=EVALUATION, folder=folder, callbacks=callbacks)

        whole = trainer(tmp_path / "whole")
        whole.fit()
        with pytest.raises(TrainingInterrupted):
            trainer(tmp_path / "cut", StopAt(stop)).fit()
        resumed = trainer(tmp_path / "cut")
        resumed.fit(resume="must")
        for name, value in whole.student.state_dict().items():
            assert torch.equal(value, resumed.student.state_dict()[name]), name
