"""IndexFlatIP of faiss on the CPU; its GPU wheels hold no code for sm_90."""

from __future__ import annotations

import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Unable, loaded


def topk(point: Point, i: Inputs) -> Call:
    """Search a flat index, built before the clock starts."""
    faiss = loaded("faiss")
    if i["seen"] is not None:
        raise Unable("has no mask per user")
    if i["users"].dtype != torch.float32:
        raise Unable("float32 only")
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(point["D"])
    index.add(i["items"].numpy())
    users, k = i["users"].numpy(), i["k"]
    return lambda: index.search(users, k)[1]


PEER = Peer("faiss", "faiss", "faiss-cpu", {"rank_topk": {"": topk}}, devices=("cpu",))
