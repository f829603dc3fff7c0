import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.evaluation.metrics import METRICS, hits_in, metrics_from_lists, metrics_from_ranks


def slow_metrics(ids, targets, k):
    """The definitions, spelled out for one user."""
    wanted, top = set(targets), list(ids)[:k]
    hits = [i in wanted for i in top]
    n = len(wanted)
    if n == 0:
        return dict.fromkeys(METRICS, 0.0)
    dcg = sum(1 / math.log2(r + 1) for r, hit in enumerate(hits, start=1) if hit)
    idcg = sum(1 / math.log2(r + 1) for r in range(1, min(k, n) + 1))
    first = next((r for r, hit in enumerate(hits, start=1) if hit), None)
    average = sum(sum(hits[:r]) / r for r, hit in enumerate(hits, start=1) if hit) / min(k, n)
    return {
        "recall": sum(hits) / n,
        "precision": sum(hits) / k,
        "hr": float(any(hits)),
        "mrr": 0.0 if first is None else 1 / first,
        "ndcg": dcg / idcg,
        "map": average,
    }


@st.composite
def ranked_lists(draw):
    users, items = draw(st.integers(1, 9)), draw(st.integers(1, 30))
    length = draw(st.integers(1, items))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.permutation(items)[:length] for _ in range(users)]).astype(np.int64)
    for row in ids:
        row[length - rng.integers(0, length + 1) :] = -1
    rows = [np.sort(rng.permutation(items)[: rng.integers(0, items + 1)]) for _ in range(users)]
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    return ids, Interactions.from_csr(indptr, np.concatenate(rows), items), draw(st.integers(1, length))


@settings(deadline=None, max_examples=150)
@given(ranked_lists())
def test_equals_the_spelled_out_definitions(case):
    ids, targets, k = case
    found = metrics_from_lists(ids, targets, (k, 1))
    for row, wanted in enumerate(targets):
        for name, value in slow_metrics(ids[row], wanted, k).items():
            assert found.values[f"{name}@{k}"][row] == pytest.approx(value, abs=1e-12)
    assert found.has_targets.tolist() == [len(row) > 0 for row in targets]


@settings(deadline=None, max_examples=80)
@given(ranked_lists())
def test_all_values_lie_in_the_unit_interval_and_grow_with_k_where_they_must(case):
    ids, targets, _ = case
    length = ids.shape[1]
    found = metrics_from_lists(ids, targets, tuple(range(1, length + 1)))
    for name, values in found.values.items():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name
    for name in ("recall", "hr", "mrr"):
        steps = np.stack([found.values[f"{name}@{k}"] for k in range(1, length + 1)])
        assert (np.diff(steps, axis=0) >= 0).all()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_a_perfect_ranker_scores_exactly_one(k):
    rng = np.random.default_rng(3)
    rows = [np.sort(rng.permutation(50)[:n]) for n in (1, 2, 10, 30)]
    targets = Interactions.from_csr(np.cumsum([0, 1, 2, 10, 30]), np.concatenate(rows), 50)
    lists = np.stack([np.concatenate([row, np.setdiff1d(np.arange(50), row)])[:k] for row in rows])
    mean = metrics_from_lists(lists, targets, (k,)).mean()
    assert mean[f"ndcg@{k}"] == 1.0
    assert mean[f"map@{k}"] == 1.0
    assert mean[f"hr@{k}"] == 1.0
    assert mean[f"mrr@{k}"] == 1.0
    assert mean[f"recall@{k}"] == pytest.approx(np.mean([min(k, len(r)) / len(r) for r in rows]))


def test_a_hand_computed_case():
    # Hits at ranks 2 and 4, three targets.
    targets = Interactions.from_pairs([0, 0, 0], [5, 7, 9], num_items=10)
    values = metrics_from_lists(np.array([[1, 7, 2, 5]]), targets, (4,)).values
    assert values["recall@4"][0] == pytest.approx(2 / 3)
    assert values["precision@4"][0] == pytest.approx(0.5)
    assert values["mrr@4"][0] == pytest.approx(0.5)
    assert values["map@4"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["ndcg@4"][0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def test_users_without_targets_are_left_out_or_counted_as_zero():
    targets = Interactions.from_pairs([0], [1], num_users=2, num_items=3)
    found = metrics_from_lists(np.array([[1, 0], [1, 0]]), targets, (2,))
    assert found.mean()["recall@2"] == 1.0
    assert found.mean("all_users")["recall@2"] == 0.5


def test_the_mean_over_nobody_is_not_a_number():
    found = metrics_from_lists(np.zeros((0, 2), dtype=np.int64), Interactions.empty(0, 3), (2,))
    assert math.isnan(found.mean()["ndcg@2"])


def test_padding_never_hits_the_last_item_of_the_row_above():
    targets = Interactions.from_pairs([0, 1], [3, 0], num_items=4)
    assert not hits_in(np.array([[-1], [-1]]), targets).any()


def test_ids_past_32_bits_do_not_wrap():
    items = 2**40
    targets = Interactions.from_pairs([0, 1], [items - 1, 5], num_items=items)
    assert hits_in(np.array([[items - 1], [2**32 + 5]]), targets).tolist() == [[True], [False]]


def test_tensors_and_arrays_agree():
    targets = Interactions.from_pairs([0, 1], [2, 0], num_items=4)
    lists = np.array([[2, 1], [3, 0]], dtype=np.int32)
    a, b = metrics_from_lists(lists, targets, (2,)), metrics_from_lists(torch.from_numpy(lists), targets, (2,))
    assert {k: v.tolist() for k, v in a.values.items()} == {k: v.tolist() for k, v in b.values.items()}


TARGETS = Interactions.from_pairs([0, 1], [2, 0], num_items=4)


@pytest.mark.parametrize(
    ("ids", "options", "error", "says"),
    [
        ([[0, 1], [2, 2]], {}, DataError, "list 1 holds item 2 twice"),
        ([[0, 1], [2, 4]], {}, DataError, r"list 1 holds item 4, outside \[0, 4\)"),
        ([[0, -2], [2, 1]], {}, DataError, "list 0 holds item -2"),
        ([[0, 1]], {}, DataError, "1 ranked lists but targets of 2 users"),
        ([0, 1], {}, DataError, r"shape \(2,\)"),
        ([[0.0, 1.0], [2.0, 1.0]], {}, DataError, "float64"),
        ([[0, 1], [2, 1]], {"ks": (3,)}, ConfigError, "cut-off 3 needs lists of that length, these hold 2"),
        ([[0, 1], [2, 1]], {"ks": (0,)}, ConfigError, "cut-off 0"),
        ([[0, 1], [2, 1]], {"ks": ()}, ConfigError, "ks is empty"),
        ([[0, 1], [2, 1]], {"metrics": ("ndgc",)}, ConfigError, "Did you mean 'ndcg'"),
        ([[0, 1], [2, 1]], {"metrics": ()}, ConfigError, "metrics is empty"),
    ],
)
def test_bad_input_is_named(ids, options, error, says):
    with pytest.raises(error, match=says):
        metrics_from_lists(np.array(ids), TARGETS, **{"ks": (2,), **options})


# -- other people's implementations -------------------------------------------------------------------


def random_runs(count, seed):
    """Many small (lists, targets) pairs as one batch: every user has targets, lists are padded at random."""
    rng = np.random.default_rng(seed)
    items, length = 60, 20
    ids = np.stack([rng.permutation(items)[:length] for _ in range(count)])
    rows = [np.sort(rng.permutation(items)[: rng.integers(1, 40)]) for _ in range(count)]
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    return ids, Interactions.from_csr(indptr, np.concatenate(rows), items)


def trec_map(found, targets, k):
    """map@k with the retrieval tools' denominator |T_u| in place of min(k, |T_u|)."""
    degrees = targets.degrees()
    return found.values[f"map@{k}"] * np.minimum(degrees, k) / degrees


RANX = {
    "recall": ("recall", "_recall"),
    "precision": ("precision", "_precision"),
    "hr": ("hit_rate", "_hit_rate"),
    "mrr": ("reciprocal_rank", "_reciprocal_rank"),
    "ndcg": ("ndcg", "_ndcg"),
    "map": ("average_precision", "_average_precision"),
}


@pytest.mark.parametrize("ours", METRICS)
def test_agrees_with_ranx(ours):
    # ranx's functions of one query: evaluate() wraps the same ones in loops that take half a minute to compile.
    pytest.importorskip("ranx")
    module, name = RANX[ours]
    theirs = getattr(importlib.import_module(f"ranx.metrics.{module}"), name)
    ids, targets = random_runs(1000, seed=11)
    found = metrics_from_lists(ids, targets, (1, 7, 20), (ours,))
    falling = np.arange(100.0, 80.0, -1.0)
    options = (False,) if ours == "ndcg" else ()
    for k in (1, 7, 20):
        reference = np.array(
            [
                theirs(np.column_stack([row, np.ones(len(row))]), np.column_stack([ids[u], falling]), k, 1, *options)
                for u, row in enumerate(targets)
            ]
        )
        mine = trec_map(found, targets, k) if ours == "map" else found.values[f"{ours}@{k}"]
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-9)


def test_agrees_with_ir_measures():
    ir = pytest.importorskip("ir_measures")
    ids, targets = random_runs(1000, seed=12)
    qrels = [ir.Qrel(str(u), str(i), 1) for u, row in enumerate(targets) for i in row]
    run = [ir.ScoredDoc(str(u), str(i), float(100 - r)) for u, row in enumerate(ids) for r, i in enumerate(row)]
    found = metrics_from_lists(ids, targets, (5, 20))
    theirs = {"recall": ir.R, "precision": ir.P, "hr": ir.Success, "mrr": ir.RR, "ndcg": ir.nDCG, "map": ir.AP}
    for k in (5, 20):
        for ours, measure in theirs.items():
            reference = np.zeros(len(ids))
            for metric in ir.iter_calc([measure @ k], qrels, run):
                reference[int(metric.query_id)] = metric.value
            mine = trec_map(found, targets, k) if ours == "map" else found.values[f"{ours}@{k}"]
            np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-9, err_msg=f"{ours}@{k}")


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 40))
def test_ranks_give_the_bits_that_lists_give(seed, users, items):
    random = np.random.default_rng(seed)
    ids = np.stack([random.permutation(items) for _ in range(users)])
    pairs = np.nonzero(random.random((users, items)) < random.choice([0.05, 0.3, 0.9]))
    targets = Interactions.from_pairs(*pairs, num_users=users, num_items=items)
    hidden = random.random((users, items)) < random.choice([0.0, 0.3])  # never recommended: no place in a list, rank 0
    ranks = np.zeros((users, int(targets.degrees().max(initial=0)) + 1), dtype=np.int64)
    for user in range(users):
        kept = [i for i in ids[user] if not hidden[user, i]]
        ids[user] = kept + [-1] * (items - len(kept))
        found = [kept.index(i) + 1 for i in targets.row(user) if not hidden[user, i]]
        ranks[user, random.permutation(ranks.shape[1])[: len(found)]] = found
    ks = tuple(int(k) for k in random.integers(1, items + 1, 3))
    from_lists, from_ranks = metrics_from_lists(ids, targets, ks), metrics_from_ranks(ranks, targets, ks)
    assert list(from_ranks.values) == list(from_lists.values)
    assert np.array_equal(from_ranks.has_targets, from_lists.has_targets)
    for name, values in from_lists.values.items():
        assert np.array_equal(from_ranks.values[name], values), name


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        (np.zeros((1, 1)), "ranks must be integers"),
        (np.ones((2, 1), dtype=np.int64), "2 rows of ranks but targets of 1 users"),
        (np.array([[-1]]), "row 0 holds the rank -1"),
        (np.array([[1, 2, 3]]), "row 0 has 3 ranks for 2 targets"),
        (np.array([[4, 4]]), "row 0 holds the rank 4 twice"),
    ],
)
def test_ranks_that_cannot_be_are_named(ranks, says):
    targets = Interactions.from_pairs([0, 0], [1, 2], num_users=1, num_items=5)
    with pytest.raises(DataError, match=says):
        metrics_from_ranks(ranks, targets, (2,))
