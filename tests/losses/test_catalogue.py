from __future__ import annotations

import pytest
import torch

from fastkd import ops
from fastkd.losses.catalogue import CatalogueDivergenceLoss, CatalogueSoftmaxLoss, SampledSoftmaxLoss
from tests.contracts.closeness import wave

USERS, ITEMS = wave(3, 4, 0.3), wave(20, 4, 0.8)
IDS, PROBS = torch.tensor([[1, 5], [0, -1], [2, 3]]), torch.tensor([[0.2, 0.6], [0.8, 0.0], [0.4, 0.4]])
TEACHER = wave(3, 7, 0.5), wave(20, 7, 0.2)


def test_each_is_the_face_of_its_op():
    exclude, bias = torch.tensor([[7], [8], [-1]]), wave(1, 20, 0.4)[0]
    sparse = CatalogueSoftmaxLoss(tail_mass=0.2, temperature=2.0, reduction="none")
    expected = ops.catalogue_softmax(
        USERS, ITEMS, IDS, PROBS, tail_mass=0.2, temperature=2.0, exclude=exclude, item_bias=bias
    )
    assert torch.equal(sparse(USERS, ITEMS, IDS, PROBS, exclude, bias), expected)
    dense = CatalogueDivergenceLoss("jensen_shannon", temperature=2.0)
    expected = ops.catalogue_divergence(
        (USERS, ITEMS), TEACHER, kind="jensen_shannon", temperature=2.0, exclude=exclude
    )
    assert torch.equal(dense((USERS, ITEMS), TEACHER, exclude), expected.sum())
    negatives, log_q = torch.tensor([[4], [9], [11]]), torch.full((3, 1), 0.5)
    drawn = SampledSoftmaxLoss(reduction="mean")
    expected = ops.sampled_softmax(USERS, ITEMS, IDS, negatives, target_probs=PROBS / 0.8, log_q=log_q)
    assert torch.equal(drawn(USERS, ITEMS, IDS, negatives, PROBS / 0.8, log_q), expected.mean())


def test_options_are_passed_on_and_shown():
    with pytest.raises(ValueError, match=r"row 0 sum to 0\.8"):
        CatalogueSoftmaxLoss()(USERS, ITEMS, IDS, PROBS)
    assert CatalogueSoftmaxLoss(validate=False)(USERS, ITEMS, IDS, PROBS).isfinite()
    with pytest.raises(ValueError, match="reduction must be one of"):
        CatalogueDivergenceLoss("reverse_kl", reduction="max")
    with pytest.raises(
        ValueError, match=r"unknown kind 'forward_k'\. Did you mean 'forward_kl'\? Known: cross_entropy"
    ):
        CatalogueDivergenceLoss("forward_k")
    with pytest.raises(ValueError, match="unknown kind 'kl'"):
        CatalogueDivergenceLoss("kl")
    assert "kind='reverse_kl', temperature=2.0, reduction='sum'" in repr(
        CatalogueDivergenceLoss("reverse_kl", temperature=2.0)
    )
