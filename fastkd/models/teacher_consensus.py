"""Several ranked lists made one: items that many lists hold early come first.

Kang et al., "Consensus learning from heterogeneous objectives for one-class collaborative filtering" (WWW'22); the
same importances merge the teachers of Kang et al., "Distillation from heterogeneous models for top-K recommendation"
(WWW'23).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastkd.models.teacher import TopKLists

ROW_BLOCK = 16384
"""Users merged at a time: bounds the memory of the sorts."""


def rank_consensus(
    lists: Sequence[Tensor],
    k: int,
    *,
    weights: Sequence[float] | None = None,
    decay: float = 10.0,
    stds: Sequence[Tensor] | None = None,
    std_decay: float = 100.0,
) -> TopKLists:
    """Return the ``k`` items of highest ``score_u(i) = sum_x w_x (exp(-r_x / decay) + exp(-std_x / std_decay))``.

    ``r_x``: 0-based position of i in list x; a list that does not hold i adds nothing. The second term, for the
    stability of a rank, is there with ``stds`` only. Equal scores: the lower id first; items that hold the same
    positions in another order of lists are equal to the bit.

    ``lists``: X tensors Int[U, K_x], best first, -1 padding, an item at most once in a row. ``weights``: X numbers of
    at least 0, 1 if left out. ``stds``: X tensors Float[U, K_x], the standard deviation of the rank of each listed
    item. Returns ids Int64[U, k] and scores Float32[U, k], padded with -1 and -inf. Work is by blocks of users: nothing
    of size users x items is made.

    Raises ``ValueError`` for lists of different numbers of users, or weights or stds that do not fit them.
    """
    factors = _check(lists, k, weights, stds, decay, std_decay)
    rows = len(lists[0])
    ids = torch.full((rows, k), -1, dtype=torch.int64, device=lists[0].device)
    scores = torch.full((rows, k), -torch.inf, device=lists[0].device)
    for start in range(0, rows, ROW_BLOCK):
        block = slice(start, start + ROW_BLOCK)
        values = []
        for x, (listed, factor) in enumerate(zip(lists, factors, strict=True)):
            value = torch.exp(-torch.arange(listed.shape[1], dtype=torch.float64, device=listed.device) / decay)
            value = value.expand(listed[block].shape)
            if stds is not None:
                value = value + torch.exp(-stds[x][block].double() / std_decay)
            values.append(factor * value)
        best, found = _merge(torch.cat([x[block].long() for x in lists], 1), torch.cat(values, 1), len(lists))
        width = min(k, best.shape[1])
        ids[block, :width], scores[block, :width] = best[:, :width], found[:, :width].float()
    return TopKLists(ids, scores)


def _merge(ids: Tensor, values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the distinct ids of each row by falling sum of their values; an id occurs at most ``most`` times."""
    # The largest first, so that a sum does not depend on which list gave which part.
    values, order = values.sort(dim=1, descending=True, stable=True)
    ids, by_id = ids.gather(1, order).sort(dim=1, stable=True)
    values = values.gather(1, by_id)
    totals = values.clone()
    for step in range(1, min(most, ids.shape[1])):
        totals[:, :-step] += torch.where(ids[:, step:] == ids[:, :-step], values[:, step:], 0.0)
    first = torch.ones_like(ids, dtype=torch.bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    totals.masked_fill_(~first | (ids < 0), -torch.inf)
    totals, order = totals.sort(dim=1, descending=True, stable=True)
    return ids.gather(1, order).masked_fill(totals == -torch.inf, -1), totals


def _check(
    lists: Sequence[Tensor],
    k: int,
    weights: Sequence[float] | None,
    stds: Sequence[Tensor] | None,
    decay: float,
    std_decay: float,
) -> list[float]:
    """Return one weight for each list; refuse what does not fit together."""
    if not lists or any(x.ndim != 2 or x.is_floating_point() or len(x) != len(lists[0]) for x in lists):
        shapes = ", ".join(f"{x.dtype} {list(x.shape)}" for x in lists) or "none"
        raise ValueError(f"lists must be integer matrices [U, K_x] over the same users, got {shapes}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    for name, value in (("decay", decay), ("std_decay", std_decay)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    factors = [1.0] * len(lists) if weights is None else [float(w) for w in weights]
    if len(factors) != len(lists) or any(not (math.isfinite(w) and w >= 0) for w in factors):
        raise ValueError(f"weights must be {len(lists)} numbers of at least 0, got {factors}")
    if stds is not None and [s.shape for s in stds] != [x.shape for x in lists]:
        raise ValueError("stds must have the shapes of the lists")
    return factors
