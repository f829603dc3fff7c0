"""Small things in plain torch: the best of scores that come in chunks, places drawn by rank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.cases._ranking import CHUNK


def whole(point: Point, i: Inputs) -> Call:
    """Scatter of -inf into a copy where something was seen, one topk over the whole catalogue."""
    return lambda: _masked(i["scores"], 0, i["seen"]).topk(i["k"]).indices


def running(point: Point, i: Inputs) -> Call:
    """Topk of each chunk with the best so far."""

    def run() -> Tensor:
        best, ids = torch.empty(0), torch.empty(0)
        for first in range(0, point["N"], CHUNK):
            found = _masked(i["scores"][:, first : first + CHUNK], first, i["seen"])
            values, places = found.topk(min(i["k"], found.shape[1]))
            both = (torch.cat([best, values], 1), torch.cat([ids, places + first], 1)) if first else (values, places)
            best, order = both[0].topk(min(i["k"], both[0].shape[1]))
            ids = both[1].gather(1, order)
        return ids

    return run


def _masked(scores: Tensor, first: int, seen: Any) -> Tensor:
    if seen is None:
        return scores
    indptr, indices = seen.to_torch(scores.device)
    owner = torch.repeat_interleave(torch.arange(len(scores), device=scores.device), indptr.diff())
    here = (indices >= first) & (indices < first + scores.shape[1])
    return scores.index_put((owner[here], indices[here].long() - first), scores.new_tensor(-torch.inf))


def positions(point: Point, i: Inputs) -> Call:
    """Return the smaller of two uniform draws."""
    shape, device = (point["B"], point["n"]), i["user_rows"].device
    return lambda: torch.minimum(*(torch.randint(point["M"], shape, device=device) for _ in range(2)))
