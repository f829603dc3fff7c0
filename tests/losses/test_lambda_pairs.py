"""LambdaLoss is the face of its op: the same numbers, reduced as asked, bad settings refused with a hint."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from fastkd.losses import LambdaLoss
from tests.contracts.closeness import assert_near

SCORES = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
GAINS = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)).sort(dim=1, descending=True).values


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
@pytest.mark.parametrize("weights", ["lambdarank", "uniform"])
def test_scores(weights, reduction):
    rows = ops.lambda_pairs(SCORES, GAINS, weights=weights, sigma=2.0)
    expected = {"sum": rows.sum(), "mean": rows.mean(), "none": rows}[reduction]
    assert torch.equal(LambdaLoss(weights, 2.0, reduction=reduction)(SCORES, GAINS), expected)


def test_embeddings():
    users, items = torch.randn(5, 4), torch.randn(30, 4)
    ids = torch.randint(30, (5, 7))
    loss = LambdaLoss(reduction="none")
    scores = torch.einsum("bd,bcd->bc", users, items[ids])
    assert_near(loss.from_embeddings(users, items, ids, GAINS), loss(scores, GAINS), hair=8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "lambdarnk"}, "got 'lambdarnk'.*lambdarank"),
        ({"sigma": 0.0}, r"sigma must be a positive finite number, got 0\.0"),
        ({"sigma": float("inf")}, "got inf"),
        ({"reduction": "max"}, "max"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LambdaLoss(**settings)
