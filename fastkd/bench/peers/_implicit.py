"""implicit: its CPU top-K with its own filter of seen items; on a GPU its KnnQuery; its BPR's way to draw."""

from __future__ import annotations

import numpy as np
import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Unable, loaded


def topk(point: Point, i: Inputs) -> Call:
    """Rank by ``implicit.cpu.topk``, or ``implicit.gpu.KnnQuery`` (no masks compared)."""
    if i["users"].is_cuda:
        return _gpu(i)
    import scipy.sparse

    call = loaded("implicit.cpu.topk").topk
    if i["users"].dtype != torch.float32:
        raise Unable("float32 only on the CPU")
    items, users, k, mask = i["items"].numpy(), i["users"].numpy(), i["k"], None
    if i["seen"] is not None:
        indptr, indices = i["seen"].indptr, i["seen"].indices
        values = np.ones(len(indices), dtype=np.float32)
        mask = scipy.sparse.csr_matrix((values, indices, indptr), shape=(point["B"], point["N"]))
    threads = torch.get_num_threads()
    return lambda: call(items, users, k, filter_query_items=mask, num_threads=threads)[0]


def _gpu(i: Inputs) -> Call:
    if i["seen"] is not None:
        raise Unable("compared without masks only on a GPU")
    gpu = loaded("implicit.gpu")
    items, users = (gpu.Matrix(i[name].float().cpu().numpy()) for name in ("items", "users"))
    query, k = gpu.KnnQuery(), i["k"]
    return lambda: query.topk(items, users, k)[0]


PEER = Peer("implicit", "implicit", "implicit", {"rank_topk": {"": topk}})
