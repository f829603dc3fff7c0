"""Truths and inputs that the tests of ``rank_topk`` share."""

from __future__ import annotations

import math

import numpy as np
import torch

from fastkd.core import Interactions
from fastkd.ops import rank_topk
from tests.contracts.backends import device_of

INF = math.inf


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(users, items, k, seen=None, bias=None):
    """The definition, one Python float at a time."""
    rows = []
    for b, u in enumerate(users.tolist()):
        ranked = []
        for i, v in enumerate(items.tolist()):
            total = 0.0
            for x, y in zip(u, v, strict=True):
                total += x * y
            with np.errstate(over="ignore", invalid="ignore"):
                score = np.float32(total) + (np.float32(0) if bias is None else np.float32(bias[i]))
            if seen is None or i not in seen.row(b):
                ranked.append((math.isnan(score), -score if score == score else 0.0, i, float(score)))
        best = [(s, i) for _, _, i, s in sorted(ranked)[:k]]
        rows.append(best + [(-INF, -1)] * (k - len(best)))
    shape = (len(users), k)
    scores = torch.tensor([[s for s, _ in r] for r in rows], dtype=torch.float32).view(shape)
    return scores, torch.tensor([[i for _, i in r] for r in rows], dtype=torch.int64).view(shape)


def assert_same(found, expected):
    assert found[1].dtype == torch.int64
    assert found[0].dtype == torch.float32
    assert torch.equal(found[1], expected[1])
    # Bits, so that NaN equals NaN; adding 0.0 spells -0.0 as 0.0.
    assert torch.equal((found[0]).view(torch.int32), (expected[0] + 0.0).view(torch.int32))


def random_exclusions(rows, num_items, share, seed):
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def ranked(users, items, k, *, backend, item_bias=None, **options):
    """``rank_topk`` where the backend lives, the result on the CPU."""
    place = device_of(backend)
    bias = None if item_bias is None else item_bias.to(place)
    found = rank_topk(users.to(place), items.to(place), k, item_bias=bias, backend=backend, **options)
    return found.scores.cpu(), found.ids.cpu()
