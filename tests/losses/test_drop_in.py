"""The losses in place of published ones: the same numbers where the original does not overflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from fastkd.losses import BPRLoss, ListNetLoss, RelaxedRankingLoss, SoftBCELoss
from tests.contracts.closeness import assert_near

README = Path(__file__).parents[2] / "fastkd" / "losses" / "README.md"


def rrd(ranked, unranked):
    """RRD's utility function: exponentials, clamped at 80 (DE-RRD, CIKM'20, in the form of its ports)."""
    ranked, unranked = (s.clamp(max=80.0) for s in (ranked, unranked))
    above = ranked.sum(1, keepdim=True)
    below = ranked.flip(-1).exp().cumsum(1) + unranked.exp().sum(1, keepdim=True)
    return -(above - below.log().sum(1, keepdim=True)).sum()


def listnet(student, teacher, eps=1e-10):
    """ListNet as learning-to-rank libraries write it: two softmaxes and a guarded logarithm."""
    return torch.mean(-torch.sum(functional.softmax(teacher, 1) * torch.log(functional.softmax(student, 1) + eps), 1))


def sampled_softmax(positive, negative, temperature):
    """Cross entropy of one positive among sampled negatives."""
    logits = torch.cat([positive.unsqueeze(1), negative], 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64), reduction="sum")


def collaborative(student, teacher, t1, t2):
    """CD: binary cross entropy with q = sigma((t + T2) / T1), by its definition (ICDM'19)."""
    p, q = torch.sigmoid(student), torch.sigmoid((teacher + t2) / t1)
    return -(q * torch.log(p + 1e-10) + (1 - q) * torch.log(1 - p + 1e-10)).sum()


def agree(found, expected, *leaves, tolerance=1e-6):
    """Values and gradients agree to ``tolerance``, relative to the largest."""
    for a, b in zip(
        (found.detach(), *torch.autograd.grad(found, leaves)),
        (expected.detach(), *torch.autograd.grad(expected, leaves)),
        strict=True,
    ):
        assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max())


@pytest.fixture
def lists():
    random = torch.Generator().manual_seed(4)
    return [torch.randn(8, n, generator=random, dtype=torch.float64).mul(3).requires_grad_() for n in (10, 30)]


def test_rrd(lists):
    agree(RelaxedRankingLoss()(*lists), rrd(*lists), *lists)


def test_rrd_beyond_the_clamp_still_has_a_gradient(lists):
    far = [(s.detach() + 100).requires_grad_() for s in lists]
    assert not torch.autograd.grad(rrd(*far), far[0])[0].any()
    loss = RelaxedRankingLoss()(*far)
    # A shift of all scores changes nothing but their rounding, of numbers near 100.
    assert_near(loss, RelaxedRankingLoss()(*lists), hair=1, scale=100.0 * lists[0].numel())
    assert torch.autograd.grad(loss, far[0])[0].any()


def test_listnet(lists):
    student, teacher = lists[0], lists[1].detach()[:, :10]
    agree(ListNetLoss(reduction="mean")(student, teacher), listnet(student, teacher), student)


def test_listnet_where_the_guard_bites():
    student, teacher = torch.tensor([[50.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 50.0]])
    assert torch.autograd.grad(listnet(student, teacher), student)[0].abs().max() < 1e-6
    gradient = torch.autograd.grad(ListNetLoss()(student, teacher), student)[0]
    assert gradient.tolist() == [[1, -1]]


def test_sampled_softmax(lists):
    positive, negative = lists[0][:, 0], lists[1]
    certain = torch.full((8, 31), -1e4, dtype=torch.float64)  # -inf would take the negatives out
    certain[:, 0] = 0.0
    scores = torch.cat([positive.unsqueeze(1), negative], 1)
    agree(ListNetLoss(0.5)(scores, certain), sampled_softmax(positive, negative, 0.5), *lists)


def test_collaborative_distillation(lists):
    student, teacher = lists[0], lists[1].detach()[:, :10]
    agree(SoftBCELoss(2.0, 0.5)(student, teacher), collaborative(student, teacher, 2.0, 0.5), student)


def test_bpr(lists):
    """BPR as its ports write it: the logarithm of a sigmoid, here in double precision."""
    positive, negative = lists[0][:, 0], lists[1][:, :1]
    expected = -torch.log(1 / (1 + torch.exp(-(positive - negative[:, 0])))).sum()
    agree(BPRLoss()(positive, negative), expected, *lists)


def test_the_page_shows_every_module():
    import fastkd.losses

    text = README.read_text(encoding="utf-8")
    assert not [name for name in fastkd.losses.__all__ if f"`{name}" not in text]
