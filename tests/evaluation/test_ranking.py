import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastkd.core.errors import ConfigError, DataError, TeacherError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import Dataset, IdMap
from fastkd.evaluation.metrics import METRICS
from fastkd.evaluation.ranking import EvalConfig, evaluate, mean_evaluation
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher, TopKLists


def random_dataset(seed, users=12, items=15):
    """Disjoint train, valid and test; some users have no valid or test items."""
    rng = np.random.default_rng(seed)
    parts = {"train": [], "valid": [], "test": []}
    for user in range(users):
        order = rng.permutation(items)
        train, valid = rng.integers(1, items // 2), rng.integers(0, 4)
        test = rng.integers(0, 4)
        parts["train"] += [(user, i) for i in order[:train]]
        parts["valid"] += [(user, i) for i in order[train : train + valid]]
        parts["test"] += [(user, i) for i in order[train + valid : train + valid + test]]
    made = {
        name: Interactions.from_pairs(
            np.array([p[0] for p in pairs], dtype=np.int64),
            np.array([p[1] for p in pairs], dtype=np.int64),
            num_users=users,
            num_items=items,
        )
        for name, pairs in parts.items()
    }
    return Dataset(**made, users=IdMap.identity(users), items=IdMap.identity(items))


def random_tables(seed, users=12, items=15, dim=4):
    """Small whole numbers: scores are exact and tie often."""
    rng = np.random.default_rng(seed + 1000)
    return Tables(*(torch.from_numpy(rng.integers(-2, 3, (n, dim)).astype(np.float32)) for n in (users, items)))


def slow_evaluate(tables, data, split, k, mask):
    """recall, ndcg, hr, mrr of each user with targets, one user at a time."""
    values = {}
    for user in range(data.num_users):
        wanted = set(getattr(data, split).row(user))
        if not wanted:
            continue
        hidden = set(data.train.row(user))
        if split == "test" and mask == "train+valid":
            hidden |= set(data.valid.row(user))
        scores = (tables.items.double() @ tables.users[user].double()).tolist()
        ranked = sorted(set(range(data.num_items)) - hidden, key=lambda i: (-scores[i], i))[:k]
        ranks = [r for r, item in enumerate(ranked, start=1) if item in wanted]
        ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(wanted)) + 1))
        values[user] = {
            "recall": len(ranks) / len(wanted),
            "ndcg": sum(1 / math.log2(r + 1) for r in ranks) / ideal,
            "hr": float(bool(ranks)),
            "mrr": 1 / ranks[0] if ranks else 0.0,
        }
    return values


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 15),
    st.sampled_from(["valid", "test"]),
    st.sampled_from(["train", "train+valid"]),
)
def test_equals_a_slow_evaluation(seed, k, split, mask):
    data, tables = random_dataset(seed), random_tables(seed)
    found = evaluate(tables, data, split, config=EvalConfig(ks=(k,), mask=mask))
    slow = slow_evaluate(tables, data, split, k, mask)
    assert found.users.tolist() == sorted(slow)
    for name in ("recall", "ndcg", "hr", "mrr"):
        expected = [slow[u][name] for u in sorted(slow)]
        np.testing.assert_allclose(found.per_user[f"{name}@{k}"], expected, rtol=0, atol=1e-12)
        if slow:
            assert found.metrics[f"{name}@{k}"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.excluded_users == found.users_without_targets == data.num_users - len(slow)
    assert found.num_users_evaluated == len(slow)


def test_a_perfect_ranker_scores_one():
    data = random_dataset(5)
    oracle = torch.zeros(data.num_users, data.num_items)
    for user, row in enumerate(data.test):
        oracle[user, torch.from_numpy(row).long()] = 1.0
    tables = Tables(oracle, torch.eye(data.num_items))
    found = evaluate(tables, data, "test", config=EvalConfig(ks=(4,)))
    for name in ("recall", "ndcg", "hr", "mrr", "map"):
        assert found.metrics[f"{name}@4"] == 1.0


def test_a_seen_item_takes_no_rank_and_never_counts():
    # The model loves item 0, which user 0 has seen in train; item 1 is a validation item, item 2 the target.
    row = lambda *items: Interactions.from_pairs([0] * len(items), list(items), num_users=1, num_items=4)  # noqa: E731
    data = Dataset(row(0), row(1), row(2), IdMap.identity(1), IdMap.identity(4))
    tables = Tables(torch.ones(1, 1), torch.tensor([[9.0], [8.0], [7.0], [6.0]]))
    first = evaluate(tables, data, "test", config=EvalConfig(ks=(1, 2), mask="train"))
    assert (first.metrics["hr@1"], first.metrics["hr@2"]) == (0.0, 1.0)
    both = evaluate(tables, data, "test", config=EvalConfig(ks=(1, 2), mask="train+valid"))
    assert (both.metrics["hr@1"], both.metrics["mrr@2"]) == (1.0, 1.0)
    # On the validation split its own items are the targets, so they stay.
    valid = evaluate(tables, data, "valid", config=EvalConfig(ks=(1,), mask="train+valid"))
    assert valid.metrics["hr@1"] == 1.0
    # A target that was also seen in train cannot be recommended.
    seen = Dataset(row(0, 2), row(1), row(2), IdMap.identity(1), IdMap.identity(4))
    assert evaluate(tables, seen, "test", config=EvalConfig(ks=(2,))).metrics["recall@2"] == 0.0


def test_equal_scores_go_to_the_lower_item_id():
    row = lambda *items: Interactions.from_pairs([0] * len(items), list(items), num_users=1, num_items=5)  # noqa: E731
    data = Dataset(row(1), row(), row(2, 4), IdMap.identity(1), IdMap.identity(5))
    found = evaluate(Tables(torch.zeros(1, 2), torch.zeros(5, 2)), data, "test", config=EvalConfig(ks=(2, 4)))
    assert found.metrics["recall@2"] == 0.5  # order: 0, 2, 3, 4
    assert found.metrics["mrr@2"] == 0.5
    assert found.metrics["recall@4"] == 1.0


def test_scores_that_are_not_numbers_rank_last():
    row = lambda *items: Interactions.from_pairs([0] * len(items), list(items), num_users=1, num_items=3)  # noqa: E731
    data = Dataset(row(1), row(), row(0), IdMap.identity(1), IdMap.identity(3))
    tables = Tables(torch.ones(1, 1), torch.tensor([[float("nan")], [5.0], [-1.0]]))
    assert evaluate(tables, data, "test", config=EvalConfig(ks=(1,))).metrics["hr@1"] == 0.0


def test_the_memory_budget_changes_nothing(monkeypatch):
    data, tables = random_dataset(8, users=40), random_tables(8, users=40)
    config = EvalConfig(ks=(3, 5))
    whole = evaluate(tables, data, "test", config=config)
    for rows, path in ((1, "topk"), (7, "ranks"), (39, "topk"), (1, "ranks")):
        monkeypatch.setattr("fastkd.evaluation.streaming.chunk_rows", lambda *a, rows=rows, **k: rows)
        part = evaluate(tables, data, "test", config=EvalConfig(ks=(3, 5), path=path))
        assert part.metrics == whole.metrics
        for name, values in whole.per_user.items():
            assert np.array_equal(part.per_user[name], values)


def test_every_user_counts_under_the_other_convention():
    data, tables = random_dataset(9), random_tables(9)
    usual = evaluate(tables, data, "test", config=EvalConfig(ks=(5,)))
    everyone = evaluate(tables, data, "test", config=EvalConfig(ks=(5,), denominator="all_users"))
    assert usual.excluded_users > 0
    assert everyone.excluded_users == 0
    assert everyone.users_without_targets == usual.excluded_users
    assert everyone.num_users_evaluated == data.num_users
    for name, value in usual.metrics.items():
        assert everyone.metrics[name] == pytest.approx(value * usual.num_users_evaluated / data.num_users)
        assert np.array_equal(everyone.per_user[name][usual.users], usual.per_user[name])


def test_an_empty_split_gives_no_number_rather_than_zero():
    data = random_dataset(1)
    bare = Dataset(data.train, Interactions.empty(12, 15), data.test, data.users, data.items)
    found = evaluate(random_tables(1), bare, "valid", config=EvalConfig(ks=(2,)))
    assert math.isnan(found.metrics["ndcg@2"])
    assert (found.num_users_evaluated, found.excluded_users) == (0, 12)


class Small(Recommender):
    def __init__(self, tables):
        super().__init__()
        self.num_users, self.num_items = len(tables.users), len(tables.items)
        self.users, self.items = nn.Parameter(tables.users.clone()), nn.Parameter(tables.items.clone())
        self.dropout = nn.Dropout(0.5)

    def tables(self):
        return Tables(self.dropout(self.users), self.items)


class Lists(Teacher):
    def __init__(self, tables):
        self.inner, self.num_users, self.num_items = tables, len(tables.users), len(tables.items)

    def lists(self, k, exclude):
        scores = self.inner.users @ self.inner.items.T
        for user, row in enumerate(exclude):
            scores[user, torch.from_numpy(row).long()] = -torch.inf
        top = torch.sort(scores, dim=1, descending=True, stable=True)
        ids = top.indices[:, :k].masked_fill(top.values[:, :k] == -torch.inf, -1)
        return TopKLists(ids, top.values[:, :k])

    def fingerprint(self):
        return "lists"


class Embeddings(Lists):
    def tables(self):
        return self.inner

    def lists(self, k, exclude):
        raise AssertionError("a teacher with vectors is ranked in chunks")


@pytest.mark.parametrize("make", [Small, Lists, Embeddings])
@pytest.mark.parametrize("mask", ["train", "train+valid"])
def test_models_and_teachers_evaluate_as_their_tables_do(make, mask):
    data, tables = random_dataset(3), random_tables(3)
    config = EvalConfig(ks=(2, 5), mask=mask)
    assert (
        evaluate(make(tables), data, "test", config=config).metrics
        == evaluate(tables, data, "test", config=config).metrics
    )


def test_the_list_teacher_of_the_house_is_understood():
    models = pytest.importorskip("fastkd.models")
    data, tables = random_dataset(3), random_tables(3)
    lists = Lists(tables).lists(15, Interactions.empty(12, 15))
    teacher = models.ListTeacher(lists.ids, lists.scores, 15)
    config = EvalConfig(ks=(5, 7))
    assert (
        evaluate(teacher, data, "test", config=config).metrics == evaluate(tables, data, "test", config=config).metrics
    )
    short = models.ListTeacher(lists.ids[:, :4], lists.scores[:, :4], 15)
    with pytest.raises(TeacherError):
        evaluate(short, data, "test", config=config)


def test_a_model_stays_in_its_mode():
    model = Small(random_tables(3)).train()
    evaluate(model, random_dataset(3), "valid", config=EvalConfig(ks=(2,)))
    assert model.training


def test_seeds_are_averaged_user_by_user():
    data, config = random_dataset(4), EvalConfig(ks=(5,))
    runs = [evaluate(random_tables(seed), data, "test", config=config) for seed in (1, 2, 3)]
    mean = mean_evaluation(runs)
    assert mean.metrics["recall@5"] == pytest.approx(np.mean([r.metrics["recall@5"] for r in runs]))
    np.testing.assert_allclose(mean.per_user["ndcg@5"], np.mean([r.per_user["ndcg@5"] for r in runs], axis=0))
    with pytest.raises(DataError, match="differ in split: 'test' and 'valid'"):
        mean_evaluation([runs[0], evaluate(random_tables(1), data, "valid", config=config)])
    with pytest.raises(DataError, match="metrics differ"):
        mean_evaluation([runs[0], evaluate(random_tables(1), data, "test", config=EvalConfig(ks=(4,)))])
    with pytest.raises(DataError, match="no evaluations"):
        mean_evaluation([])


def test_metrics_come_in_the_order_asked_for():
    found = evaluate(random_tables(1), random_dataset(1), "test", config=EvalConfig(ks=(2, 1), metrics=("ndcg", "hr")))
    assert list(found.metrics) == ["ndcg@2", "ndcg@1", "hr@2", "hr@1"]
    assert list(EvalConfig().metrics) == list(METRICS)


def test_throughput_counts_the_users_that_were_ranked():
    for denominator in ("users_with_targets", "all_users"):
        config = EvalConfig(ks=(5,), denominator=denominator)
        found = evaluate(random_tables(1), random_dataset(1), "test", config=config)
        ranked = 12 - found.users_without_targets
        assert found.users_per_second == pytest.approx(ranked / found.rank_seconds)


def test_bad_questions_are_named():
    data, tables = random_dataset(1), random_tables(1)
    with pytest.raises(ConfigError, match="K = 16 is larger than the catalogue of 15 items"):
        evaluate(tables, data, "test", config=EvalConfig(ks=(10, 16)))
    with pytest.raises(ConfigError, match="'dev'"):
        evaluate(tables, data, "dev")
    with pytest.raises(DataError, match="ranks 11 users x 15 items, the data hold 12 users x 15 items"):
        evaluate(random_tables(1, users=11), data, "test", config=EvalConfig(ks=(5,)))
    with pytest.raises(TypeError, match="dict"):
        evaluate({}, data, "test", config=EvalConfig(ks=(5,)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "foo"}, "backend must be one of auto, triton, numba, reference, got 'foo'"),
        ({"mask": "seen"}, "mask must be one of train, train.valid, got 'seen'"),
        ({"denominator": "everyone"}, "'everyone'"),
        ({"memory_budget_mb": 0}, "got 0"),
        ({"ks": (0,)}, "cut-off 0"),
        ({"path": "list"}, "path must be one of auto, topk, ranks, got 'list'"),
        ({"metrics": ("auc",)}, "'auc'"),
    ],
)
def test_bad_configurations_are_named(options, says):
    with pytest.raises(ConfigError, match=says):
        EvalConfig(**options)
