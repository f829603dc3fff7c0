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
