"""FlashLib's fused nearest neighbours on a GPU: L2 only, so items are put to one length; another ranking, same work."""

from __future__ import annotations

import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Unable, loaded


def topk(point: Point, i: Inputs) -> Call:
    """Rank by distance to unit items, which ranks as their inner product does."""
    if i["seen"] is not None or i["k"] > 128:
        raise Unable("no masks, K <= 128")
    knn = loaded("flashlib").flash_knn
    unit = torch.nn.functional.normalize(i["items"].float(), dim=1).to(i["items"].dtype)
    i["not compared"] = {*i.get("not compared", ()), "flashlib"}
    return lambda: knn(i["users"], unit, i["k"])


PEER = Peer("flashlib", "flashlib", "flashlib", {"rank_topk": {"": topk}}, devices=("cuda",))
