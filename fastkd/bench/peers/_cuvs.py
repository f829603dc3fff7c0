"""cuVS brute force on a GPU, inner product, float16 where we take bfloat16."""

from __future__ import annotations

from typing import Any

import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Unable, loaded


def topk(point: Point, i: Inputs) -> Call:
    """Search an index built before the clock starts."""
    if i["seen"] is not None:
        raise Unable("its mask per user is a bitmap of B x N bits: not compared")
    brute = loaded("cuvs.neighbors.brute_force")
    kind = torch.float32 if i["items"].dtype == torch.float32 else torch.float16
    index, queries, k = brute.build(i["items"].to(kind), metric="inner_product"), i["users"].to(kind), i["k"]

    def run() -> Any:
        return torch.as_tensor(brute.search(index, queries, k)[1], device="cuda")

    return run


PEER = Peer("cuvs", "cuvs", "cuvs-cu13", {"rank_topk": {"": topk}}, devices=("cuda",))
