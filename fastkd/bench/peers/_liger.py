"""Liger's fused linear cross entropy on a GPU: one hard label a row, so values are not compared."""

from __future__ import annotations

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, loaded


def softmax(point: Point, i: Inputs) -> Call:
    """Return the loss of each row's first target as its only label."""
    loss = loaded("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss(reduction="sum")
    labels = i["ids"][:, 0].contiguous()
    i["not compared"] = {*i.get("not compared", ()), "liger"}
    return lambda: loss(i["items"], i["users"], labels)


PEER = Peer(
    "liger", "liger_kernel", "liger-kernel", {"catalogue_softmax": {"one hard label": softmax}}, devices=("cuda",)
)
