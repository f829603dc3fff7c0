"""The distinct users or items of a batch, with the weight of each in a sum or a mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


class Entities(NamedTuple):
    """``ids`` Int64[n], ascending and distinct; ``weights`` Float32[n].

    On the CPU ``n`` is their number. Elsewhere reading that number would stall the device, so ``n`` is the number
    of ids that came in and the slots past the last distinct one hold id 0 with weight 0.
    """

    ids: Tensor
    weights: Tensor


def weighted_entities(
    groups: Sequence[Tensor], *, factors: Sequence[float] = (1.0,), reduction: Reduction = "sum"
) -> Entities:
    """Return the distinct ids of all ``groups``, each once, ascending.

    weight(e) = sum over the groups g that hold e of factor_g, with ``reduction="mean"`` of factor_g / (number of
    distinct ids in g). So an id that two groups hold is computed once and counted twice. ``groups``: Int64 tensors
    of any shape. Nothing depends on the order of ids within a group, and no host sync happens off the CPU. Among
    several groups a negative id is padding: it has weight 0, id 0, and is not counted.
    """
    if len(groups) == 1 and groups[0].device.type == "cpu":
        ids = _distinct(groups[0])
        share = factors[0] / max(len(ids), 1) if reduction == "mean" else factors[0]
        return Entities(ids, torch.full((len(ids),), share, dtype=torch.float32))
    entities, count = padded_entities(groups, factors=factors, reduction=reduction)
    if entities.ids.device.type == "cpu":
        return Entities(entities.ids[: int(count)], entities.weights[: int(count)])
    return entities


def _distinct(ids: Tensor) -> Tensor:
    """Return the distinct ids of a tensor on the CPU, ascending.

    Where there are about as many as their range is wide, as in the lists of a batch, marking each is far cheaper than
    sorting them.
    """
    if ids.numel() == 0:
        return ids.reshape(-1)
    low, high = (int(end) for end in ids.aminmax())
    if high - low >= 4 * ids.numel():
        distinct: Tensor = torch.unique(ids)
        return distinct
    there = torch.zeros(high - low + 1, dtype=torch.bool)
    there[ids - low] = True
    return there.nonzero().squeeze(1).add_(low)


def padded_entities(
    groups: Sequence[Tensor], *, factors: Sequence[float], reduction: Reduction
) -> tuple[Entities, Tensor]:
    """Return :func:`weighted_entities` in as many slots as ids came in, and the number of slots in use Int64[]."""
    flat = [group.reshape(-1) for group in groups]
    tags = torch.cat([torch.full_like(ids, g) for g, ids in enumerate(flat)])
    ordered, order = torch.cat(flat).sort(stable=True)
    if len(ordered) == 0:
        return Entities(ordered, torch.zeros(0, device=ordered.device)), ordered.new_zeros(())
    starts = torch.ones_like(ordered)
    starts[1:] = ordered[1:] != ordered[:-1]
    slots = starts.cumsum(0) - 1
    # Equal slots receive equal values, so the order of writes does not matter.
    ids = torch.zeros_like(ordered).scatter_(0, slots, ordered.clamp(min=0))
    weights = torch.zeros(len(ordered), device=ordered.device)
    for g, factor in enumerate(factors):
        member = ((tags[order] == g) & (ordered >= 0)).to(torch.float32)
        present = torch.zeros_like(weights).scatter_reduce_(0, slots, member, "amax")
        weights += present * factor / (present.sum().clamp(min=1.0) if reduction == "mean" else 1.0)
    return Entities(ids, weights), slots[-1] + 1


def counted_rows(users: Tensor, *, reduction: Reduction = "sum") -> Entities:
    """Return the distinct users of the rows Int64[B], each weighted by its number of rows (``mean``: over B).

    For losses over the rows of a batch that depend on the row's user alone: a user who comes three times is computed
    once. Order and padding as in :func:`weighted_entities`.
    """
    ordered = users.reshape(-1).sort().values
    if len(ordered) == 0:
        return Entities(ordered, torch.zeros(0, device=ordered.device))
    starts = torch.ones_like(ordered)
    starts[1:] = ordered[1:] != ordered[:-1]
    slots = starts.cumsum(0) - 1
    ids = torch.zeros_like(ordered).scatter_(0, slots, ordered)
    weights = torch.zeros(len(ordered), device=ordered.device).scatter_add_(0, slots, torch.ones_like(slots).float())
    if reduction == "mean":
        weights /= len(ordered)
    if ordered.device.type == "cpu":
        used = int(slots[-1]) + 1
        return Entities(ids[:used], weights[:used])
    return Entities(ids, weights)
