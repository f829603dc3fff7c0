from __future__ import annotations

import pytest
import torch

from fastkd import ops
from fastkd.losses import BPRLoss, RelaxedRankingLoss, WeightedBCELoss
from tests.contracts.op_contract import backends_of, wave

BACKENDS = backends_of("relaxed_ranking")

LOSSES = [RelaxedRankingLoss, BPRLoss, WeightedBCELoss]


def arguments(loss):
    if loss is RelaxedRankingLoss:
        return wave(3, 4, 0.7), wave(3, 5, 1.3)
    return (wave(1, 3, 0.7)[0], wave(3, 5, 1.3)) if loss is BPRLoss else (wave(3, 4, 0.7), wave(3, 4, 0.2).abs())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_reductions(loss, backend):
    rows = loss(reduction="none", backend=backend)(*arguments(loss))
    assert rows.shape == (3,)
    torch.testing.assert_close(loss(backend=backend)(*arguments(loss)), rows.sum())
    torch.testing.assert_close(loss(reduction="mean", backend=backend)(*arguments(loss)), rows.mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_of_no_rows_is_zero(loss):
    assert loss(reduction="mean")(*(t[:0] for t in arguments(loss))) == 0


def test_each_is_the_face_of_its_op():
    ranked, unranked = arguments(RelaxedRankingLoss)
    weights = torch.rand(3, 4)
    torch.testing.assert_close(
        RelaxedRankingLoss(reduction="none")(ranked, unranked, weights),
        ops.relaxed_ranking(ranked, unranked, weights=weights),
    )
    positive, negative = arguments(BPRLoss)
    torch.testing.assert_close(BPRLoss(reduction="none")(positive, negative), ops.pairwise(positive, negative))
    weighted = BPRLoss(reduction="none")(positive, negative, torch.full_like(negative, 2))
    torch.testing.assert_close(weighted, 2 * ops.pairwise(positive, negative))
    scores, targets = arguments(WeightedBCELoss)
    torch.testing.assert_close(
        WeightedBCELoss(reduction="none")(scores, targets, scores.abs()),
        ops.weighted_bce(scores, targets, weights=scores.abs()),
    )


def test_from_embeddings():
    users, items = wave(3, 4, 0.3), wave(20, 4, 0.8)
    ranked, unranked = torch.tensor([[1, 5], [0, 19], [2, -1]]), torch.tensor([[3], [3], [-1]])
    found = RelaxedRankingLoss(backend="numba").from_embeddings(users, items, ranked, unranked)
    rows = ops.relaxed_ranking_from_embeddings(users, items, ranked, unranked, backend="reference")
    torch.testing.assert_close(found, rows.sum())
    with pytest.raises(ValueError, match="ids holds 20"):
        RelaxedRankingLoss().from_embeddings(users, items, ranked, unranked + 17)


def test_bad_reduction_is_named():
    with pytest.raises(ValueError, match="reduction must be one of sum, mean, none, got 'avg'"):
        BPRLoss(reduction="avg")


def test_a_loss_says_what_it_does():
    assert repr(WeightedBCELoss(reduction="mean")) == "WeightedBCELoss(reduction='mean', backend='auto')"
