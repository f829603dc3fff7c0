"""Ops outside the contract suite refuse a second derivative on the way to each input; none is found to be 0."""

import itertools

import pytest
import torch

from fastkd.ops import expert_mixture, gather_dot, hyper_projection
from tests.ops.rank_topk_truth import normal

CASES = {
    "expert_mixture": (
        lambda *t: expert_mixture(*t[:5], gates=t[5].exp(), negligible=1e-9),
        [(6, 4), (3, 5, 4), (3, 5), (3, 5, 2), (3, 2), (6, 3)],
    ),
    "hyper_projection": (
        lambda *t: hyper_projection(*t),
        [(6, 4), (6, 5), (7, 5), (7,), (8, 7), (8,)],
    ),
    "row-sparse gather_dot": (
        lambda *t: gather_dot(*t, torch.tensor([[1, 2], [3, 0]]), sparse_grad=True),
        [(2, 4), (5, 4)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_way_is_refused(name):
    call, shapes = CASES[name]
    inputs = [normal(*shape, seed=k).requires_grad_() for k, shape in enumerate(shapes)]
    gradients = torch.autograd.grad(call(*inputs).square().sum(), inputs, create_graph=True)
    for gradient, leaf in itertools.product(gradients, inputs):
        total = gradient.to_dense().square().sum() if gradient.is_sparse else gradient.square().sum()
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(total, leaf, allow_unused=True, retain_graph=True)
