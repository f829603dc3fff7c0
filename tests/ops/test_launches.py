"""Kernels that small batches start on a GPU, forward and backward: Triton's, and those of the torch ops around them."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from tests.contracts.backends import interpreted

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(not interpreted("triton"), reason="counts launches that the interpreter stands in for")

FREE = {"empty", "empty_strided", "empty_like", "new_empty", "view", "reshape", "_reshape_alias", "as_strided",
        "detach", "detach_", "unsqueeze", "squeeze", "expand", "split_with_sizes", "slice", "select", "alias",
        "contiguous", "to", "_to_copy", "zero_", "result_type", "item", "_local_scalar_dense", "narrow", "resize_",
        "view_as", "lift_fresh", "expand_as", "resolve_conj", "resolve_neg", "set_", "clone"}  # fmt: skip
"""Ops of torch that start nothing, or only others that are counted. ``item`` is of a number that lives on the CPU."""


def launches(call, *leaves, shape=(4,)):
    """Return the kernels of one forward and backward pass. Triton's are counted and not run: launchers never look."""
    from triton.runtime.interpreter import InterpretedFunction

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "run", lambda self, *_, **__: found.append(self.fn.__name__))
        upstream = torch.ones(shape)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            torch.autograd.grad(call(*leaves), leaves, upstream)
    names = [e.name.removeprefix("aten::") for e in profile.events() if e.name.startswith("aten::")]
    return found + [name for name in names if name not in FREE]


@pytest.fixture
def leaves():
    return [torch.randn(n, 8).requires_grad_() for n in (4, 50)]


IDS, MORE, FLOATS = torch.randint(50, (4, 5)), torch.randint(50, (4, 6)), torch.rand(4, 5)
FIRST = IDS[:, 0].clone()
OPTIONS = {"validate": False, "backend": "triton"}


@pytest.mark.parametrize(
    "call",
    [
        lambda u, v: ops.relaxed_ranking_from_embeddings(u, v, IDS, MORE, **OPTIONS),
        lambda u, v: ops.listnet_from_embeddings(u, v, IDS, FLOATS, **OPTIONS),
        lambda u, v: ops.weighted_bce_from_embeddings(u, v, IDS, FLOATS, **OPTIONS),
        lambda u, v: ops.soft_bce_from_embeddings(u, v, IDS, FLOATS, weights=FLOATS, **OPTIONS),
        lambda u, v: ops.pairwise_from_embeddings(u, v, FIRST, MORE, **OPTIONS),
        lambda u, v: ops.pairwise_from_embeddings(u, v, FIRST, MORE, loss="margin", **OPTIONS),
        lambda u, v: ops.lambda_pairs_from_embeddings(u, v, IDS, **OPTIONS),
        lambda u, v: ops.lambda_pairs_from_embeddings(u, v, IDS, FLOATS, weights="lambdaloss", **OPTIONS),
    ],
    ids=["relaxed_ranking", "listnet", "weighted_bce", "soft_bce", "bpr", "margin", "lambdarank", "lambdaloss"],
)
def test_a_list_loss_starts_three(call, leaves):
    assert sorted(launches(call, *leaves)) == ["_first", "_fused", "zeros"]


def test_gather_dot_starts_three(leaves):
    found = launches(lambda u, v: ops.gather_dot(u, v, IDS, **OPTIONS), *leaves, shape=IDS.shape)
    assert sorted(found) == ["_first", "_scores", "zeros"]


PROBS, TEACHER = FLOATS / FLOATS.sum(1, keepdim=True), (torch.randn(4, 8), torch.randn(50, 8))


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda u, v: ops.catalogue_logsumexp(u, v, **OPTIONS), 7),
        (lambda u, v: ops.catalogue_logsumexp(u, v, IDS, **OPTIONS), 19),
        (lambda u, v: ops.catalogue_softmax(u, v, IDS, PROBS, **OPTIONS), 13),
        (lambda u, v: ops.catalogue_softmax(u, v, IDS, PROBS, exclude=MORE, **OPTIONS), 25),
        (lambda u, v: ops.catalogue_divergence((u, v), TEACHER, **OPTIONS), 81),
        (lambda u, v: ops.sampled_softmax(u, v, IDS, MORE, **OPTIONS), 124),
    ],
    ids=["logsumexp", "logsumexp-exclude", "softmax", "softmax-exclude", "divergence", "sampled"],
)
def test_those_over_the_catalogue_start_no_more_than_the_page_says(call, most, leaves):
    assert len(launches(call, *leaves)) <= most
