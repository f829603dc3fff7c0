"""numpy on the host: matmul + argpartition, rejection by binary search."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Unable

CHUNK = 32


def topk(point: Point, i: Inputs) -> Call:
    """Matmul, -inf for what was seen, argpartition, sort; 32 users at a time."""
    if i["users"].dtype != torch.float32:
        raise Unable("float32 only")
    users, items, k, seen = i["users"].numpy(), i["items"].numpy(), i["k"], i["seen"]

    def run() -> Any:
        found = []
        for start in range(0, len(users), CHUNK):
            scores = users[start : start + CHUNK] @ items.T
            if seen is not None:
                rows = seen.rows(np.arange(start, start + len(scores)))
                scores[rows.entry_users(), rows.indices] = -np.inf
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
            found.append(np.take_along_axis(best, order, 1))
        return np.concatenate(found)

    return run


def rejection(point: Point, i: Inputs) -> Call:
    """Draw all, then draw those again that binary search finds in a history."""
    seen, count = i["seen"], i["limit"]
    keys = seen.entry_users().astype(np.int64) * count + seen.indices
    random = np.random.default_rng(0)
    rows = np.repeat(np.asarray(i["user_ids"], dtype=np.int64), i["n"]) * count

    def run() -> Any:
        found, left = random.integers(0, count, len(rows)), np.arange(len(rows))
        while len(left):
            wanted = rows[left] + found[left]
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            left = left[keys[at] == wanted]
            found[left] = random.integers(0, count, len(left))
        return found.reshape(-1, i["n"])

    return run


PEER = Peer(
    "numpy", "numpy", "numpy", {"rank_topk": {"": topk}, "negatives_uniform": {"": rejection}}, devices=("cpu",)
)
