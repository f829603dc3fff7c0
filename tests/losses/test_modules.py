from __future__ import annotations

import pytest
import torch

from fastkd import ops
from fastkd.losses import (
    BPRLoss,
    CatalogueDivergenceLoss,
    CatalogueSoftmaxLoss,
    LambdaLoss,
    ListNetLoss,
    MarginLoss,
    RelaxedRankingLoss,
    SampledSoftmaxLoss,
    SoftBCELoss,
    WeightedBCELoss,
)
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave

BACKENDS = backends_of("relaxed_ranking")

LOSSES = [RelaxedRankingLoss, BPRLoss, MarginLoss, WeightedBCELoss, SoftBCELoss, ListNetLoss]


def arguments(loss):
    if loss is RelaxedRankingLoss:
        return wave(3, 4, 0.7), wave(3, 5, 1.3)
    if loss in (BPRLoss, MarginLoss):
        return wave(1, 3, 0.7)[0], wave(3, 5, 1.3)
    return wave(3, 4, 0.7), wave(3, 4, 0.2).abs()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_reductions(loss, backend):
    rows = loss(reduction="none", backend=backend)(*arguments(loss))
    assert rows.shape == (3,)
    assert torch.equal(loss(backend=backend)(*arguments(loss)), rows.sum())
    assert torch.equal(loss(reduction="mean", backend=backend)(*arguments(loss)), rows.mean())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_of_no_rows_is_zero(loss):
    assert loss(reduction="mean")(*(t[:0] for t in arguments(loss))) == 0


def test_each_is_the_face_of_its_op():
    ranked, unranked = arguments(RelaxedRankingLoss)
    weights = torch.rand(3, 4)
    assert torch.equal(
        RelaxedRankingLoss(reduction="none")(ranked, unranked, weights),
        ops.relaxed_ranking(ranked, unranked, weights=weights),
    )
    positive, negative = arguments(BPRLoss)
    assert torch.equal(BPRLoss(reduction="none")(positive, negative), ops.pairwise(positive, negative))
    weighted = BPRLoss(reduction="none")(positive, negative, torch.full_like(negative, 2))
    assert torch.equal(weighted, 2 * ops.pairwise(positive, negative))
    scores, targets = arguments(WeightedBCELoss)
    assert torch.equal(
        WeightedBCELoss(reduction="none")(scores, targets, scores.abs()),
        ops.weighted_bce(scores, targets, weights=scores.abs()),
    )


TABLES = wave(3, 4, 0.3), wave(20, 4, 0.8)
RANKED, UNRANKED = torch.tensor([[1, 5], [0, 19], [2, -1]]), torch.tensor([[3], [3], [-1]])
TEACHER = wave(3, 2, 0.4)


@pytest.mark.parametrize(
    ("loss", "arguments", "expected"),
    [
        (RelaxedRankingLoss(), (RANKED, UNRANKED), lambda s, z: ops.relaxed_ranking(s, z)),
        (BPRLoss(), (UNRANKED[:, 0], RANKED), lambda s, z: ops.pairwise(z[:, 0], s)),
        (MarginLoss(0.3), (UNRANKED[:, 0], RANKED), lambda s, z: ops.pairwise(z[:, 0], s, loss="margin", margin=0.3)),
        (WeightedBCELoss(), (RANKED, TEACHER.abs()), lambda s, _: ops.weighted_bce(s, TEACHER.abs())),
        (SoftBCELoss(2.0, 0.5), (RANKED, TEACHER), lambda s, _: ops.soft_bce(s, TEACHER, temperature=2.0, shift=0.5)),
        (ListNetLoss(2.0), (RANKED, TEACHER), lambda s, _: ops.listnet(s, TEACHER, temperature=2.0)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_from_embeddings(loss, arguments, expected):
    users, items = (t.clone().requires_grad_() for t in TABLES)
    found = loss.from_embeddings(users, items, *arguments)
    rows = expected(*(ops.gather_dot(users, items, ids, backend="reference") for ids in (RANKED, UNRANKED)))
    assert_near(found, rows.sum(), hair=8)
    for a, b in zip(*(torch.autograd.grad(t, (users, items)) for t in (found, rows.sum())), strict=True):
        assert_near(a, b, hair=8)
    with pytest.raises(ValueError, match=r"ids holds 2[0-9]"):
        loss.from_embeddings(users, items, arguments[0], arguments[1] + 23) if arguments[1].dtype == torch.int64 else (
            loss.from_embeddings(users, items, arguments[0] + 23, arguments[1])
        )


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got 0"):
        ListNetLoss(0)
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got -1"):
        SoftBCELoss(-1)
    with pytest.raises(ValueError, match="margin must be a finite number, got nan"):
        MarginLoss(float("nan"))


@pytest.mark.parametrize(
    "loss", [*LOSSES, LambdaLoss, CatalogueSoftmaxLoss, CatalogueDivergenceLoss, SampledSoftmaxLoss]
)
def test_a_bad_backend_is_named_when_the_loss_is_made(loss):
    with pytest.raises(ValueError, match=r"unknown backend 'numbaa'. Did you mean 'numba'\? Known: auto, triton"):
        loss(backend="numbaa")
    with pytest.raises(ValueError, match="unknown backend None"):
        loss(backend=None)


def test_bad_reduction_is_named():
    with pytest.raises(ValueError, match="reduction must be one of sum, mean, none, got 'avg'"):
        BPRLoss(reduction="avg")


def test_a_loss_says_what_it_does():
    assert repr(WeightedBCELoss(reduction="mean")) == "WeightedBCELoss(reduction='mean', backend='auto')"
    assert repr(MarginLoss(0.5)) == "MarginLoss(margin=0.5, reduction='sum', backend='auto')"
    assert repr(ListNetLoss(2.0)) == "ListNetLoss(temperature=2.0, reduction='sum', backend='auto')"
