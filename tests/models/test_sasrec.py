from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError, DataError
from fastkd.data import Batch, Dataset, IdMap, build_sequences
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, build_model
from fastkd.models.sasrec import SASRecConfig
from fastkd.training import Trainer, TrainingConfig
from tests.contracts.recommender_contract import RecommenderContract, shuffled

LOSSES = ("bce", "softmax", "sampled")


def norm(x, weight, bias):
    return [(v - np.mean(x)) / math.sqrt(np.var(x) + 1e-8) * w + b for v, w, b in zip(x, weight, bias, strict=True)]


def state_by_hand(model, items):
    """The state after ``items``, one number at a time."""
    p = {name: value.double().numpy() for name, value in model.state_dict().items()}
    dim, length, heads = model.dim, model.config.max_length, model.config.heads
    kept = items[-length:]
    x = [math.sqrt(dim) * p["item_embedding"][i] + p["positions"][length - len(kept) + t] for t, i in enumerate(kept)]
    for b in range(model.config.blocks):
        q = {name.removeprefix(f"blocks.{b}."): v for name, v in p.items() if name.startswith(f"blocks.{b}.")}
        made = [
            q["attention.weight"] @ norm(v, q["norm_attention.weight"], q["norm_attention.bias"]) + q["attention.bias"]
            for v in x
        ]
        for t in reversed(range(len(x))):
            read = []
            for h in range(heads):
                at = slice(h * dim // heads, (h + 1) * dim // heads)
                query, keys = made[t][:dim][at], [made[s][dim : 2 * dim][at] for s in range(t + 1)]
                weights = np.exp([query @ key / math.sqrt(dim // heads) for key in keys])
                read += list(sum(w * made[s][2 * dim :][at] for s, w in enumerate(weights)) / weights.sum())
            x[t] = x[t] + q["mix.weight"] @ read + q["mix.bias"]
            inner = q["inner.weight"] @ norm(x[t], q["norm_ffn.weight"], q["norm_ffn.bias"]) + q["inner.bias"]
            x[t] = x[t] + q["outer.weight"] @ np.maximum(inner, 0) + q["outer.bias"]
    return np.array(norm(x[-1], p["norm.weight"], p["norm.bias"]))


class TestSASRec(RecommenderContract):
    name = "sasrec"
    options = {"dropout": 0.2}  # noqa: RUF012
    constant = tuple(
        f"{name}.{part}"
        for name in ("norm", *(f"blocks.{b}.norm_{n}" for b in (0, 1) for n in ("attention", "ffn")))
        for part in ("weight", "bias")
    )
    beats = 0.15

    @pytest.mark.parametrize("options", [{}, {"heads": 3, "blocks": 1}, {"max_length": 3}, {"blocks": 0}])
    def test_scores_are_the_formula(self, train, options):
        model, order = self.build(train, init_std=0.7, options=options), shuffled(train)
        found = model.frozen_tables()
        for user in (0, 9, 22):
            wanted = state_by_hand(model, order.row(user).tolist())
            np.testing.assert_allclose(found.users[user], wanted, rtol=1e-4, atol=1e-5)
        assert found.items.data_ptr() == model.item_embedding.data_ptr()

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("length", [2, 50])
    def test_each_row_is_the_loss_of_its_place(self, train, loss, length):
        model, order = (
            self.build(train, init_std=0.3, options={"base_loss": loss, "max_length": length}).eval(),
            shuffled(train),
        )
        batch = self.batch(train)
        found = model.row_losses(model.tables(), batch, epoch=1, step=4).detach()
        items = model.item_embedding.detach().double().numpy()
        drawn = torch.randint(37, (40, 256), generator=Seeds(3).torch("sasrec/negatives", 1, 4)).numpy()
        for row, (user, positive) in enumerate(zip(batch.users.tolist(), batch.positives.tolist(), strict=True)):
            sequence = order.row(user).tolist()
            place = sequence.index(positive)
            if place == 0 or place < len(sequence) - length:
                assert found[row] == 0
                continue
            # The state before a place reads what the window of the items but the last holds.
            window = sequence[max(0, len(sequence) - 1 - length) : place]
            scores = items @ self.windowed(model, sequence, window)
            if loss == "bce":
                wanted = np.log1p(np.exp(-scores[positive]))
                wanted += np.log1p(np.exp(scores[batch.negatives[row].numpy()])).sum()
            elif loss == "softmax":
                wanted = np.log(np.exp(scores).sum()) - scores[positive]
            else:
                others = [scores[j] - math.log(256 / 37) for j in drawn[row] if j != positive]
                wanted = np.log(np.exp(others).sum() + np.exp(scores[positive])) - scores[positive]
            assert found[row].item() == pytest.approx(wanted, rel=1e-3, abs=1e-4)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("runs", [23, 40])
    def test_slots_without_a_user_change_nothing(self, train, loss, runs):
        model = self.build(train, init_std=0.3, options={"base_loss": loss}).eval()
        batch, found = self.batch(train), []
        for given in (batch, dataclasses.replace(batch, runs=runs)):
            losses = model.row_losses(model.tables(), given, epoch=1, step=4)
            losses.sum().backward()
            found.append((losses.detach(), *(p.grad for p in model.parameters())))
            model.zero_grad()
        for exact, padded in zip(*found, strict=True):
            torch.testing.assert_close(padded, exact)

    @pytest.mark.gpu
    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_step_on_a_gpu_waits_for_nothing_and_reads_each_user_once(self, train, loss):
        model = self.build(train, init_std=0.3, options={"base_loss": loss}).eval()
        order = self.batch(train).users.argsort()
        batch = self.batch(train)
        batch = Batch(batch.entries[order], batch.users[order], batch.positives[order], batch.negatives[order])
        wanted = model.row_losses(model.tables(), batch).detach() if loss != "sampled" else None
        model.cuda()
        there = batch.to("cuda")
        assert there.runs == len(batch.users.unique())
        model.row_losses(model.tables(), there).sum().backward()  # compiles and allocates
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses = model.row_losses(model.tables(), there)
            losses.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        if wanted is not None:
            torch.testing.assert_close(losses.detach().cpu(), wanted, rtol=1e-3, atol=1e-4)

    def windowed(self, model, sequence, window):
        """The state after ``window``, whose places count from the end of the items but the last."""
        length = model.config.max_length
        whole = min(length, len(sequence) - 1)
        shift = whole - len(window)
        moved = model.positions.detach().roll(shift, 0)
        kept, model.positions.data = model.positions.data, moved
        try:
            return state_by_hand(model, window)
        finally:
            model.positions.data = kept

    @pytest.mark.parametrize("loss", LOSSES)
    def test_it_learns_the_order_of_time(self, loss):
        """Every user walks around a ring of 30 items, so the next item is known exactly."""
        starts = np.random.default_rng(0).integers(0, 30, 200)
        walks = (starts[:, None] + np.arange(8)) % 30
        users = np.repeat(np.arange(200), 6)
        train = Interactions.from_pairs(users, walks[:, :6].ravel(), num_users=200, num_items=30)
        ends = [Interactions.from_pairs(np.arange(200), walks[:, c], num_users=200, num_items=30) for c in (6, 7)]
        order = build_sequences(users, walks[:, :6].ravel(), num_users=200)
        data = Dataset(train, ends[0], ends[1], IdMap.identity(200), IdMap.identity(30), sequences=order)
        config = ModelConfig(name="sasrec", dim=16, options={"dropout": 0.1, "base_loss": loss, "blocks": 1})
        model = build_model(config, data.train, Seeds(0), sequences=data.sequences)
        training = TrainingConfig(epochs=25, batch_size=128, lr=0.01, eval_every=25, monitor="ndcg@1", device="cpu")
        evaluation = EvalConfig(ks=(1,), metrics=("ndcg",))
        Trainer(model, data, None, training, evaluation=evaluation).fit()
        assert evaluate(model, data, "valid", config=evaluation).metrics["ndcg@1"] > 0.9

    def test_a_user_without_items_has_the_vector_0(self):
        train = Interactions.from_pairs([0, 0], [2, 4], num_users=3, num_items=5)
        users = self.build(train).frozen_tables().users
        assert (users[1:] == 0).all()
        assert users[0].abs().sum() > 0

    def test_the_order_of_time_is_needed_and_checked(self, train):
        config = ModelConfig(name="sasrec", dim=6)
        with pytest.raises(DataError, match="sasrec reads each user's items in the order of time"):
            build_model(config, train, Seeds(0))
        order = shuffled(train)
        order.items[3] = 36
        with pytest.raises(DataError, match="the sequences do not hold the items of"):
            build_model(config, train, Seeds(0), sequences=order)
        options = [build_model(config, train, Seeds(0), sequences=shuffled(train, s)).options() for s in (0, 1)]
        assert options[0]["sequences"] != options[1]["sequences"]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("max_length", 0),
            ("heads", 0),
            ("heads", 4),
            ("blocks", -1),
            ("dropout", 1.0),
            ("drawn", 0),
            ("base_loss", "ce"),
        ],
    )
    def test_impossible_options_are_refused(self, train, key, value):
        with pytest.raises(ConfigError, match=key):
            self.build(train, options={key: value})

    def test_an_unknown_loss_is_refused_in_python_too(self):
        with pytest.raises(ConfigError, match=r"'bcee' is not allowed\. Did you mean 'bce'"):
            SASRecConfig(base_loss="bcee")
