"""Losses from vectors at the edges: equal scores, scores of 1e4, lists of one item, nothing but padding."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from tests.contracts.backends import NATIVE, device_of
from tests.contracts.closeness import assert_earned

ROWS, ITEMS = 3, 12
OTHERS = torch.tensor([[5, 1], [6, 3], [0, 10]])
CONSTANT = torch.tensor([[0.5, 0.25, 0.75], [0.5, 0.0, 0.5], [0.2, 0.3, 1.0]])


def constant(ids, like):
    return CONSTANT[:, : ids.shape[1]].to(like)


CASES = {
    "relaxed_ranking": lambda u, v, i, **o: ops.relaxed_ranking_from_embeddings(u, v, i, OTHERS.to(i.device), **o),
    "listnet": lambda u, v, i, **o: ops.listnet_from_embeddings(u, v, i, constant(i, u), **o),
    "bpr": lambda u, v, i, **o: ops.pairwise_from_embeddings(u, v, OTHERS[:, 0].to(i.device), i, **o),
    "margin": lambda u, v, i, **o: ops.pairwise_from_embeddings(u, v, OTHERS[:, 0].to(i.device), i, loss="margin", **o),
    "weighted_bce": lambda u, v, i, **o: ops.weighted_bce_from_embeddings(u, v, i, constant(i, u), **o),
    "soft_bce": lambda u, v, i, **o: ops.soft_bce_from_embeddings(u, v, i, constant(i, u), **o),
    "lambdarank": lambda u, v, i, **o: ops.lambda_pairs_from_embeddings(u, v, i, **o),
    "ranknet": lambda u, v, i, **o: ops.lambda_pairs_from_embeddings(u, v, i, weights="uniform", **o),
}


def tables(edge):
    """Return vectors whose scores are exact in float32, so that two summations rank them alike."""
    users = torch.arange(1.0, 1 + 4 * ROWS).view(ROWS, 4) % 5 - 2
    items = torch.arange(1.0, 1 + 4 * ITEMS).view(ITEMS, 4) * 7 % 11 - 5
    if edge == "equal":
        items = items[:1].expand(ITEMS, 4).clone()
    return users, items * 2000 if edge == "far" else items


LISTS = {
    "equal": torch.tensor([[0, 4, 11], [2, -1, 2], [7, 8, 9]]),
    "far": torch.tensor([[0, 4, 11], [2, -1, 3], [7, 8, 9]]),
    "one": torch.tensor([[4], [11], [0]]),
    "masked": torch.full((3, 3), -1),
}


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("edge", LISTS)
@pytest.mark.parametrize("name", CASES)
def test_it_strays_no_further_than_plain_torch(name, edge, backend):
    def run(which, dtype):
        device = device_of(which)
        leaves = [t.to(device, dtype).requires_grad_() for t in tables(edge)]
        loss = CASES[name](*leaves, LISTS[edge].to(device), backend=which)
        upstream = torch.linspace(-1, 2, ROWS, dtype=loss.dtype, device=device)
        return [t.detach().cpu() for t in (loss, *torch.autograd.grad(loss, leaves, upstream))]

    truth, plain, found = run("reference", torch.float64), run("reference", torch.float32), run(backend, torch.float32)
    for k, (f, p, t) in enumerate(zip(found, plain, truth, strict=True)):
        if edge == "equal" and k == 1:
            # A user's gradient is terms that cancel to 0: a rounding is one of a term, at most the largest item.
            most = tables(edge)[1].abs().max()
            assert (f - t).abs().max() <= (p - t).abs().max() + 4 * torch.finfo(torch.float32).eps * most
        else:
            assert_earned(f, p, t)
    if edge == "masked" and name != "relaxed_ranking":
        assert not any(f.any() for f in found)
    if edge == "far":
        assert (tables(edge)[0] @ tables(edge)[1].T).abs().max() >= 1e4
