"""Bad values are named by every loss from vectors, and let through where nobody looks."""

from __future__ import annotations

import pytest
import torch

from fastkd import losses, ops
from tests.ops.test_embedding_losses import CASES, IDS, MORE, PROBS, tables

LISTS = {
    "relaxed_ranking": ("ranked_ids", lambda ids, **o: ops.relaxed_ranking_from_embeddings(*tables(), ids, MORE, **o)),
    "listnet": ("ids", lambda ids, **o: ops.listnet_from_embeddings(*tables(), ids, PROBS[:, :0], **o)),
    "pairwise": ("negative_ids", lambda ids, **o: ops.pairwise_from_embeddings(*tables(), IDS[:, 0], ids, **o)),
    "weighted_bce": ("ids", lambda ids, **o: ops.weighted_bce_from_embeddings(*tables(), ids, PROBS[:, :0], **o)),
    "soft_bce": ("ids", lambda ids, **o: ops.soft_bce_from_embeddings(*tables(), ids, PROBS[:, :0], **o)),
    "lambda_pairs": ("ids", lambda ids, **o: ops.lambda_pairs_from_embeddings(*tables(), ids, **o)),
}
LOSSES = [name for name in CASES if name != "gather_dot"]
both = pytest.mark.parametrize("backend", ["reference", "numba"])


@both
@pytest.mark.parametrize("name", LISTS)
def test_a_list_without_a_place(name, backend):
    argument, call = LISTS[name]
    with pytest.raises(
        ValueError, match=rf"{argument} must list at least one item per user \(K >= 1\), got .*\[3, 0\]"
    ):
        call(IDS[:, :0], backend=backend)
    assert call(IDS[:, :0], validate=False, backend=backend).tolist() == [0, 0, 0]


@both
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_vector(name, bad, backend):
    for which, at in ((0, [1, 2]), (1, [7, 3])):
        pair = tables()
        pair[which][tuple(at)] = bad
        listed = IDS.sort(dim=1).values if name == "catalogue_logsumexp" else IDS
        if name == "catalogue_logsumexp" and which:
            at, pair = [1, 3], tables()
            pair[1][1, 3] = bad  # an item that nobody excludes
        found = CASES[name](*pair, listed, validate=False, backend=backend)
        if not found.isnan().any():
            assert bad == float("inf")  # a score that is infinite need not spoil the loss
            assert CASES[name](*pair, listed, backend=backend).equal(found)
            continue
        argument, row = ("users", "items")[which], int(found.isnan().nonzero()[0])
        message = rf"{argument}\[{at[0]}, {at[1]}\] is {bad}, which makes the loss of row {row} nan"
        with pytest.raises(ValueError, match=message):
            CASES[name](*pair, listed, backend=backend)


def one_bad(like, value=float("nan")):
    values = torch.ones(like.shape) / like[0].numel()
    values[2, 1] = value
    return values


CONSTANTS = {
    "weights": lambda u, v, **o: ops.relaxed_ranking_from_embeddings(u, v, IDS, MORE, weights=one_bad(IDS), **o),
    "teacher": lambda u, v, **o: ops.listnet_from_embeddings(u, v, IDS, one_bad(IDS), **o),
    "weights ": lambda u, v, **o: ops.pairwise_from_embeddings(u, v, IDS[:, 0], MORE, weights=one_bad(MORE), **o),
    "targets": lambda u, v, **o: ops.weighted_bce_from_embeddings(u, v, IDS, one_bad(IDS), **o),
    "weights  ": lambda u, v, **o: ops.weighted_bce_from_embeddings(u, v, IDS, PROBS, weights=one_bad(IDS), **o),
    "teacher ": lambda u, v, **o: ops.soft_bce_from_embeddings(u, v, IDS, one_bad(IDS), **o),
    "gains": lambda u, v, **o: ops.lambda_pairs_from_embeddings(u, v, IDS, one_bad(IDS), **o),
    "log_q": lambda u, v, **o: ops.sampled_softmax(u, v, IDS, MORE, log_q=one_bad(MORE), **o),
}


@both
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_bad_constant(name, backend):
    with pytest.raises(ValueError, match=rf"{name.strip()}\[2, 1\] is nan, which makes the loss of row 2 nan"):
        CONSTANTS[name](*tables(), backend=backend)
    found = CONSTANTS[name](*tables(), validate=False, backend=backend)
    assert found.isnan().tolist() == [False, False, True]


def given(value, at, like=IDS):
    values = torch.full(like.shape, 0.5, dtype=torch.float64)
    values[at] = value
    return values


RANGES = {
    "relaxed_ranking": (
        "weights",
        lambda c, **o: ops.relaxed_ranking_from_embeddings(*tables(), IDS, MORE, weights=c, **o),
    ),
    "pairwise": (
        "weights",
        lambda c, **o: ops.pairwise_from_embeddings(*tables(), IDS[:, 0], IDS, weights=c, **o),
    ),
    "weighted_bce, weights": (
        "weights",
        lambda c, **o: ops.weighted_bce_from_embeddings(*tables(), IDS, PROBS, weights=c, **o),
    ),
    "weighted_bce, targets": (
        "targets",
        lambda c, **o: ops.weighted_bce_from_embeddings(*tables(), IDS, c, **o),
    ),
    "soft_bce": (
        "weights",
        lambda c, **o: ops.soft_bce_from_embeddings(*tables(), IDS, PROBS, weights=c, **o),
    ),
    "lambda_pairs": ("gains", lambda c, **o: ops.lambda_pairs_from_embeddings(*tables(), IDS, c, **o)),
    "sampled_softmax": ("log_q", lambda c, **o: ops.sampled_softmax(*tables(), IDS[:, :1], IDS, log_q=c, **o)),
}
WORDS = {"weights": "at least 0", "gains": "at least 0", "targets": r"in \[0, 1\]", "log_q": "finite"}
OUTSIDE = {"weights": (-0.25,), "gains": (-0.25,), "targets": (-0.25, 2.0), "log_q": (-torch.inf, torch.inf)}


@both
@pytest.mark.parametrize("name", RANGES)
def test_a_constant_outside_its_range(name, backend):
    what, call = RANGES[name]
    for value in OUTSIDE[what]:
        message = rf"{what}\[2, 1\] is {value}, but must be {WORDS[what]}; validate=False lets it pass"
        with pytest.raises(ValueError, match=message):
            call(given(value, (2, 1)), backend=backend)
        assert call(given(value, (2, 1)), validate=False, backend=backend).shape == (3,)
        # beside padding, and in log_q at a target, nobody reads it
        free = [(1, 1)] if what != "log_q" else [(1, 1), (0, 0)]
        for at in free:
            assert torch.equal(call(given(value, at), backend=backend), call(given(0.5, at), backend=backend))


def test_a_constant_at_its_ends_is_inside():
    for dtype in (torch.float32, torch.bfloat16):
        ends = torch.tensor([[0.0, 1.0, 1.0 + 1e-4]] * 3).to(dtype)
        for name in ("weighted_bce, targets", "relaxed_ranking", "lambda_pairs"):
            assert RANGES[name][1](ends).isfinite().all()
    with pytest.raises(ValueError, match=r"targets\[0, 2\] is 1\.0078125"):
        ops.weighted_bce_from_embeddings(*tables(), IDS, torch.tensor([[0.0, 1.0, 1.0078125]] * 3).bfloat16())


def test_gains_that_mean_nothing_may_be_anything():
    users, items = tables()
    for weights in ("uniform", torch.ones(3, 3)):
        found = ops.lambda_pairs_from_embeddings(users, items, IDS, -PROBS, weights=weights)
        assert torch.equal(found, ops.lambda_pairs_from_embeddings(users, items, IDS, weights=weights))


@both
def test_what_no_row_reads_may_be_anything(backend):
    users, items = tables()
    items[3] = torch.nan  # listed by nobody
    targets = PROBS.clone()
    targets[1, 1] = torch.nan  # beside padding
    assert ops.weighted_bce_from_embeddings(users, items, IDS, targets, backend=backend).isfinite().all()
    items = tables()[1]
    items[3] = torch.nan
    excluded = torch.tensor([[3], [3], [3]])
    assert ops.catalogue_logsumexp(users, items, excluded, backend=backend).isfinite().all()


def test_the_catalogue_names_bias_and_teacher():
    users, items = tables()
    bias = torch.zeros(len(items))
    bias[4] = torch.nan
    with pytest.raises(ValueError, match=r"item_bias\[4\] is nan, which makes the loss of row 0"):
        ops.catalogue_logsumexp(users, items, item_bias=bias)
    other = tables()
    other[1][6, 1] = torch.nan
    with pytest.raises(ValueError, match=r"teacher items\[6, 1\] is nan"):
        ops.catalogue_divergence((users, items), other)
    assert ops.catalogue_divergence((users, items), other, validate=False).isnan().all()


@pytest.mark.parametrize("name", CASES)
def test_tables_of_two_dtypes(name):
    users, items = tables()
    with pytest.raises(
        TypeError, match=r"one dtype, got users torch.float32 and items torch.float64; .*users.to\(torch"
    ):
        CASES[name](users, items.double(), IDS)


@pytest.mark.parametrize(
    ("loss", "arguments", "names"),
    [
        (losses.RelaxedRankingLoss, (PROBS, PROBS, PROBS), ("ranked", "unranked", "weights")),
        (losses.BPRLoss, (PROBS[:, 0], PROBS, PROBS), ("positive", "negative", "weights")),
        (losses.MarginLoss, (PROBS[:, 0], PROBS, PROBS), ("positive", "negative", "weights")),
        (losses.WeightedBCELoss, (PROBS, PROBS, PROBS), ("scores", "targets", "weights")),
        (losses.SoftBCELoss, (PROBS, PROBS, PROBS), ("scores", "teacher", "weights")),
        (losses.ListNetLoss, (PROBS, PROBS), ("scores", "teacher")),
        (losses.LambdaLoss, (PROBS, PROBS), ("scores", "gains")),
    ],
)
def test_modules_name_a_bad_score(loss, arguments, names):
    for k, name in enumerate(names):
        given = [t.clone() for t in arguments]
        given[k][1] = torch.nan
        at = "1" if given[k].dim() == 1 else "1, 0"
        with pytest.raises(ValueError, match=rf"{name}\[{at}\] is nan, which makes the loss of row 1 nan"):
            loss()(*given)
        assert loss(validate=False, reduction="none")(*given).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("loss", "arguments", "name", "wrong"),
    [
        (losses.RelaxedRankingLoss, (PROBS, PROBS), "weights", -0.5),
        (losses.BPRLoss, (PROBS[:, 0], PROBS), "weights", -0.5),
        (losses.MarginLoss, (PROBS[:, 0], PROBS), "weights", -0.5),
        (losses.WeightedBCELoss, (PROBS, PROBS), "weights", -0.5),
        (losses.WeightedBCELoss, (PROBS,), "targets", 2.0),
        (losses.SoftBCELoss, (PROBS, PROBS), "weights", -0.5),
        (losses.LambdaLoss, (PROBS,), "gains", -0.5),
    ],
)
def test_modules_name_a_constant_outside_its_range(loss, arguments, name, wrong):
    constant = torch.full(PROBS.shape, 0.5)
    constant[1, 0] = wrong
    with pytest.raises(ValueError, match=rf"{name}\[1, 0\] is {wrong}, but must be .*; validate=False lets it pass"):
        loss()(*arguments, constant)
    assert loss(validate=False)(*arguments, constant).isfinite()
    padded = arguments[0].clone()
    padded[1] = -torch.inf
    assert loss()(padded, *arguments[1:], constant).isfinite()


def test_gains_of_ranknet_may_be_anything():
    assert torch.equal(losses.LambdaLoss("uniform")(PROBS, -PROBS), losses.LambdaLoss("uniform")(PROBS))


def meta(*tensors):
    return [t.to("meta") for t in tensors]


LISTS_AND_CONSTANTS = {
    "gather_dot": (ops.gather_dot, (IDS,), {}),
    "relaxed_ranking": (ops.relaxed_ranking_from_embeddings, (IDS, MORE), {"weights": PROBS}),
    "listnet": (ops.listnet_from_embeddings, (IDS, PROBS), {}),
    "pairwise": (ops.pairwise_from_embeddings, (IDS[:, 0], MORE), {}),
    "weighted_bce": (ops.weighted_bce_from_embeddings, (IDS, PROBS), {"weights": PROBS}),
    "soft_bce": (ops.soft_bce_from_embeddings, (IDS, PROBS), {"weights": PROBS}),
    "lambda_pairs": (ops.lambda_pairs_from_embeddings, (IDS, PROBS), {}),
    "sampled_softmax": (ops.sampled_softmax, (IDS, MORE), {"target_probs": PROBS, "log_q": MORE.float()}),
    "rank_of": (ops.rank_of, (IDS,), {}),
}


@pytest.mark.parametrize("name", LISTS_AND_CONSTANTS)
def test_tensors_without_values_are_not_looked_at(name):
    op, arguments, options = LISTS_AND_CONSTANTS[name]
    expected = op(*tables(), *arguments, **options)
    found = op(*meta(*tables(), *arguments), **{key: value.to("meta") for key, value in options.items()})
    assert found.is_meta
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_modules_and_rankings_take_tensors_without_values():
    users, items, ids, probs = meta(*tables(), IDS, PROBS)
    assert losses.WeightedBCELoss()(probs, probs, probs).is_meta
    assert losses.WeightedBCELoss().from_embeddings(users, items, ids, probs).is_meta
    assert ops.rank_topk(users, items, 2, check=True).ids.is_meta
