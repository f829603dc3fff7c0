"""Kernels that small batches start on a GPU, forward and backward: Triton's, and those of the torch ops around them."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from tests.contracts.op_contract import interpreted

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
OPTIONS = {"validate": False, "backend": "triton"}


def test_relaxed_ranking_starts_three(leaves):
    found = launches(lambda u, v: ops.relaxed_ranking_from_embeddings(u, v, IDS, MORE, **OPTIONS), *leaves)
    assert sorted(found) == ["_first", "_fused", "zeros"]


def test_listnet_starts_three(leaves):
    found = launches(lambda u, v: ops.listnet_from_embeddings(u, v, IDS, FLOATS, **OPTIONS), *leaves)
    assert sorted(found) == ["_first", "_fused", "zeros"]


@pytest.mark.parametrize("loss", [ops.weighted_bce_from_embeddings, ops.soft_bce_from_embeddings])
def test_binary_cross_entropy_starts_three(leaves, loss):
    found = launches(lambda u, v: loss(u, v, IDS, FLOATS, **OPTIONS), *leaves)
    assert sorted(found) == ["_first", "_fused", "zeros"]


def test_gather_dot_starts_three(leaves):
    found = launches(lambda u, v: ops.gather_dot(u, v, IDS, **OPTIONS), *leaves, shape=IDS.shape)
    assert sorted(found) == ["_first", "_scores", "zeros"]


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda u, v: ops.lambda_pairs_from_embeddings(u, v, IDS, **OPTIONS), 6),
        (lambda u, v: ops.catalogue_logsumexp(u, v, **OPTIONS), 7),
    ],
    ids=["lambda_pairs", "catalogue_logsumexp"],
)
def test_those_made_of_two_ops_start_no_more_than_before(call, most, leaves):
    assert len(launches(call, *leaves)) <= most
