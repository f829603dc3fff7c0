"""Evaluation through lists and through ranks: the same numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import Dataset, IdMap
from fastkd.evaluation import ranking
from fastkd.evaluation.ranking import EvalConfig, cheaper_path, evaluate
from fastkd.models.protocol import Tables
from tests.evaluation.test_ranking import Lists, random_dataset, random_tables


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 15), min_size=1, max_size=3, unique=True),
    st.sampled_from(["valid", "test"]),
    st.sampled_from(["train", "train+valid"]),
    st.sampled_from(["reference", "numba"]),
)
def test_the_path_changes_no_bit(seed, ks, split, mask, backend):
    data, tables = random_dataset(seed), random_tables(seed)
    if seed % 3 == 0:
        tables.items[seed % 15] = float("nan")
    options = {"ks": tuple(ks), "mask": mask, "backend": backend}
    lists = evaluate(tables, data, split, config=EvalConfig(path="topk", **options))
    ranks = evaluate(tables, data, split, config=EvalConfig(path="ranks", **options))
    assert ranks.users.tolist() == lists.users.tolist()
    assert list(ranks.per_user) == list(lists.per_user)
    for name, values in lists.per_user.items():
        assert np.array_equal(ranks.per_user[name], values), name


def test_a_target_that_is_masked_counts_on_no_path():
    row = lambda *items: Interactions.from_pairs([0] * len(items), list(items), num_users=1, num_items=4)  # noqa: E731
    data = Dataset(row(0, 2), row(1), row(2, 3), IdMap.identity(1), IdMap.identity(4))
    tables = Tables(torch.ones(1, 1), torch.tensor([[9.0], [8.0], [7.0], [6.0]]))
    for path in ("topk", "ranks"):
        found = evaluate(tables, data, "test", config=EvalConfig(ks=(2, 4), path=path))
        assert (found.metrics["recall@2"], found.metrics["mrr@4"]) == (0.5, 0.5)


def test_the_cheaper_path_is_taken_and_ranks_need_tables(monkeypatch):
    assert cheaper_path(100_000, 20, 5.0) == "topk"
    assert cheaper_path(100_000, 100_000, 5.0) == "ranks"
    assert cheaper_path(20_000, 1000, 3.0) == "ranks"
    data, tables = random_dataset(3), random_tables(3)
    taken = []
    for name in ("iter_topk", "iter_ranks"):
        plain = getattr(ranking, name)
        monkeypatch.setattr(ranking, name, lambda *a, name=name, plain=plain, **k: taken.append(name) or plain(*a, **k))
    monkeypatch.setattr(ranking, "cheaper_path", lambda *a: "ranks")
    evaluate(tables, data, "test", config=EvalConfig(ks=(2,)))
    evaluate(tables, data, "test", config=EvalConfig(ks=(2,), path="topk"))
    evaluate(Lists(tables), data, "test", config=EvalConfig(ks=(2,)))
    assert taken == ["iter_ranks", "iter_topk"]
    with pytest.raises(ConfigError, match="path='ranks' needs tables, and this teacher has lists only"):
        evaluate(Lists(tables), data, "test", config=EvalConfig(ks=(2,), path="ranks"))
