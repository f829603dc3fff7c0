"""The matrix product alone, nothing selected: what a ranking costs that hides its selection."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Way

CPU_TILE = 8192


def in_tiles(point: Point, i: Inputs) -> Call:
    """Multiply tile by tile, in memory that stays in a cache; on a GPU scores are written, as a matmul does."""
    users, items = i["users"], i["items"]
    tile = torch.empty(min(len(users), 256) * CPU_TILE, dtype=users.dtype, device=users.device)
    i["not compared"] = {*i.get("not compared", ()), "product"}

    def run() -> None:
        for block in torch.split(users, 256):
            for part in torch.split(items, CPU_TILE):
                out = tile[: len(block) * len(part)].view(len(block), len(part))
                torch.mm(block, part.T, out=out)

    return run


def whole(chunk: int) -> Way:
    """Return a way that multiplies ``chunk`` users at a time with all items."""

    def way(point: Point, i: Inputs) -> Call:
        users, items = i["users"], i["items"]
        i["not compared"] = {*i.get("not compared", ()), "product"}

        def run() -> Tensor:
            scores: Tensor = users
            for block in torch.split(users, chunk):
                scores = block @ items.T
            return scores

        return run

    return way


PEER = Peer(
    "product", "torch", "torch",
    {"rank_topk": {"in tiles": in_tiles, "256 users at a time": whole(256), "whole": whole(1 << 30)}},
)  # fmt: skip
