"""Cut-cross-entropy on a GPU: one hard label a row, where ours takes K soft ones, so values are not compared."""

from __future__ import annotations

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, loaded


def softmax(point: Point, i: Inputs) -> Call:
    """Return the loss of each row's first target as its only label."""
    loss = loaded("cut_cross_entropy").linear_cross_entropy
    labels = i["ids"][:, 0].contiguous()
    i["not compared"] = {*i.get("not compared", ()), "cce"}
    return lambda: loss(i["users"], i["items"], labels, reduction="sum")


PEER = Peer(
    "cce", "cut_cross_entropy", "git+https://github.com/apple/ml-cross-entropy",
    {"catalogue_softmax": {"one hard label": softmax}}, devices=("cuda",),
)  # fmt: skip
