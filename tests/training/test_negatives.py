import dataclasses

import numpy as np
import pytest
import torch
from tiny_run import EVALUATION, ITEMS, USERS, FakeMethod, tiny_config, tiny_data

from fastkd.core import DataError, Interactions, Seeds
from fastkd.data import batches
from fastkd.distillation import build_method
from fastkd.models import EmbeddingTeacher, ModelConfig, build_model
from fastkd.sampling import NegativeSampler
from fastkd.training import Trainer
from fastkd.training.negatives import EpochNegatives
from tests.contracts.recommender_contract import shuffled


class Own(FakeMethod):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def negatives(self, epoch):
        return self.given.get(epoch)


FIELDS = ("entries", "users", "positives", "negatives")


def plain(data, config, epoch, negatives, start=0):
    """The batches without producer or thread."""
    seeds, size = Seeds(config.seed), config.batch_size
    return batches(data.train, negatives=negatives, batch_size=size, seeds=seeds, epoch=epoch, start_step=start)


def same(got, want):
    got, want = list(got), list(want)
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        for field in FIELDS:
            assert getattr(ours, field).dtype == torch.int64
            assert torch.equal(getattr(ours, field), getattr(theirs, field)), field


def test_the_epochs_are_those_of_the_sampler_also_when_one_is_skipped():
    data, config = tiny_data(), tiny_config(epochs=5)
    sampler = NegativeSampler(data.train, seed=config.seed)
    with EpochNegatives(data.train, None, config) as negatives:
        for epoch, start in ((1, 0), (2, 3), (4, 0), (4, 6)):
            drawn = sampler.sample_epoch(2, epoch=epoch)
            same(negatives.batches(epoch, start), plain(data, config, epoch, drawn, start))
        with pytest.raises(DataError, match=r"start_step must be in \[0, 6\], got 7"):
            negatives.batches(4, 7)


def test_a_methods_own_negatives_come_first():
    data, config = tiny_data(), tiny_config(epochs=4)
    own = np.full((data.train.nnz, 1), 7)
    with EpochNegatives(data.train, Own({1: own}), config) as negatives:
        assert next(negatives.batches(0)).negatives.shape == (config.batch_size, 2)
        same(negatives.batches(1), plain(data, config, 1, own))
        drawn = NegativeSampler(data.train, seed=3).sample_epoch(2, epoch=2)
        same(negatives.batches(2), plain(data, config, 2, drawn))


@pytest.mark.parametrize("bad", [ITEMS, -2])
def test_own_negatives_out_of_range_are_named(bad):
    data = tiny_data()
    own = np.full((data.train.nnz, 1), -1)
    own[5] = bad
    with (
        EpochNegatives(data.train, Own({0: own}), tiny_config()) as negatives,
        pytest.raises(DataError, match=rf"method 'fake' gave negative {bad} for epoch 0, outside \[-1, {ITEMS}\)"),
    ):
        negatives.batches(0)


def test_nothing_past_the_last_epoch_is_drawn_and_the_thread_ends(monkeypatch):
    drawn = []
    real = NegativeSampler.sample_epoch

    def note(self, n, *, epoch, on_exhausted):
        drawn.append(epoch)
        return real(self, n, epoch=epoch, on_exhausted=on_exhausted)

    monkeypatch.setattr(NegativeSampler, "sample_epoch", note)
    with EpochNegatives(tiny_data().train, None, tiny_config(epochs=2)) as negatives:
        negatives.batches(0)
        negatives.batches(1)
    assert drawn == [0, 1]


@pytest.mark.parametrize("own", [False, True])
def test_rows_of_a_user_come_together_where_the_student_reads_them_so(own):
    data, config = tiny_data(), tiny_config(epochs=3)
    drawn = NegativeSampler(data.train, seed=config.seed).sample_epoch(config.negatives, epoch=1)
    method = Own({1: drawn}) if own else None
    if own:
        method.name = "own"
    size, seeds = config.batch_size, Seeds(config.seed)
    with EpochNegatives(data.train, method, config, by_user=True) as epochs:
        wanted = batches(data.train, negatives=drawn, batch_size=size, seeds=seeds, epoch=1, by_user=True)
        same(epochs.batches(1), wanted)


def crowded(data):
    """The same data, but user 5 took everything."""
    users = np.concatenate([data.train.entry_users(), np.full(ITEMS, 5)])
    items = np.concatenate([data.train.indices, np.arange(ITEMS)])
    train = Interactions.from_pairs(users, items, num_users=USERS, num_items=ITEMS, duplicates="merge")
    return dataclasses.replace(data, train=train, sequences=shuffled(train))


MODELS = ("bpr_mf", "lightgcn", "simplex", "neumf", "deepfm", "cdae", "sasrec")


@pytest.mark.parametrize(("name", "method"), [*((name, None) for name in MODELS), ("bpr_mf", "de"), ("bpr_mf", "rrd")])
def test_a_user_who_took_everything_stops_nobody(name, method):
    data = crowded(tiny_data())
    options = {"simplex": {"drawn": 20}, "deepfm": {"hidden": [8]}}.get(name, {})
    student = build_model(
        ModelConfig(name=name, dim=6, options=options), data.train, Seeds(0), sequences=data.sequences
    )
    teacher = EmbeddingTeacher(torch.randn(USERS, 8), torch.randn(ITEMS, 8)) if method else None
    config = tiny_config(epochs=2, lr=0.01)
    trainer = Trainer(
        student, data, build_method(method, {}, Seeds(0)) if method else None, config, teacher=teacher,
        evaluation=EVALUATION,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 30 users took all 41 items in training, the first of them in row 5"):
        trainer.fit()
    assert all(p.isfinite().all() for p in student.parameters())
    with EpochNegatives(data.train, None, config) as negatives, pytest.warns(UserWarning, match="took all"):
        drawn = list(negatives.batches(0))
    users, ids = torch.cat([b.users for b in drawn]), torch.cat([b.negatives for b in drawn])
    assert (ids[users == 5] == -1).all()
    assert (ids[users != 5] >= 0).all()
