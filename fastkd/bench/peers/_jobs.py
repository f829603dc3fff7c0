"""Whole jobs in plain torch, and the way published code does them; a part where the whole would take hours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, logsigmoid

from fastkd.bench.case import Call, Inputs, Part, Point
from fastkd.bench.cases._jobs import process
from fastkd.bench.peers._torch import plackett_luce

CELLS = 1 << 26
"""Scores or mask entries held at once."""

Lists = tuple[Tensor, Tensor]


def drawn(point: Point, i: Inputs, users: int) -> Lists:
    """Draw ranked items by exp(-rank / 10) and unranked ones by rejection: no users x items array."""
    weights = torch.exp(-torch.arange(1, point["top"] + 1) / 10.0).expand(users, -1)
    places = torch.multinomial(weights, point["K"]).sort(1).values
    return i["top"][:users].gather(1, places), torch.randint(point["N"], (users, point["L"]))


def drawn_from_masks(point: Point, i: Inputs, users: int) -> Lists:
    """Draw unranked items by torch.multinomial over a users x items mask, in chunks where it would not fit."""
    ranked, _ = drawn(point, i, users)
    rows, found = max(1, CELLS // point["N"]), []
    for start in range(0, users, rows):
        stop = min(start + rows, users)
        mask = torch.ones(stop - start, point["N"])
        seen = i["train"].rows(np.arange(start, stop))
        mask[torch.from_numpy(seen.entry_users()), torch.from_numpy(seen.indices.astype(np.int64))] = 0
        mask.scatter_(1, i["top"][start:stop], 0)
        found.append(torch.multinomial(mask, point["L"]))
    return ranked, torch.cat(found)


def clamped(ranked: Tensor, unranked: Tensor) -> Tensor:
    """Return the loss as published: exponentials of scores clamped at 80, running sums, logs."""
    above, below = torch.clamp(ranked, max=80).exp(), torch.clamp(unranked, max=80).exp().sum(1, keepdim=True)
    tail = above.flip(1).cumsum(1).flip(1) + below
    losses: Tensor = (tail.log() - ranked).sum(1)
    return losses


def epoch(point: Point, i: Inputs, *, published: bool, sparse: bool) -> Call:
    """Return an epoch, or a part of one, of BPR + RRD; dense Adam, or SparseAdam on sparse gradients."""
    share = _share(point, published=published, sparse=sparse)
    entries = point["U"] * point["seen"]
    steps, users = max(1, round(share * entries / point["B"])), max(1, round(share * point["U"]))
    share = steps * point["B"] / entries
    made: list[Any] = []

    def run() -> Tensor:
        if not made:
            made.append(_Model(point, i, sparse=sparse))
        lists = (drawn_from_masks if published else drawn)(point, i, users)
        order = torch.randperm(entries)
        first = torch.zeros(())
        for step in range(steps):
            batch = order[step * point["B"] : (step + 1) * point["B"]]
            loss = made[0].step(batch, lists, clamped if published else plackett_luce)
            first = first if step else loss / len(batch)
        return first

    said = []
    if published and point["U"] * point["N"] > CELLS:
        said.append(f"mask in chunks of {max(1, CELLS // point['N'])} users")
    if share < 0.99:
        said.append(f"{steps} of {math.ceil(entries / point['B'])} steps, {users} of {point['U']} users, scaled")
    return Part(run, 1.0 / min(share, 1.0), "; ".join(said))


def _share(point: Point, *, published: bool, sparse: bool) -> float:
    """Return how much of an epoch is run: what takes about ten seconds on two cores."""
    if published:
        return min(1.0, 1e9 / (point["U"] * point["N"]))
    return min(1.0, 0.5 if sparse else 5e4 / point["N"])


class _Model:
    """Tables and optimisers of the peers."""

    def __init__(self, point: Point, i: Inputs, *, sparse: bool) -> None:
        self.sparse, self.point, train = sparse, point, i["train"]
        self.users = nn.Parameter(torch.empty(point["U"], point["D"]).normal_(0, 0.01))
        self.items = nn.Parameter(torch.empty(point["N"], point["D"]).normal_(0, 0.01))
        tables = [self.users, self.items]
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SparseAdam(tables, lr=1e-3) if sparse else torch.optim.Adam(tables, lr=1e-3, fused=True)
        )
        self.owner = torch.from_numpy(train.entry_users().astype(np.int64))
        self.item = torch.from_numpy(train.indices.astype(np.int64))

    def step(self, entries: Tensor, lists: Lists, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """BPR on the batch, RRD on its distinct users that have lists."""
        users, positives = self.owner[entries], self.item[entries]
        negatives = torch.randint(self.point["N"], positives.shape)
        vectors = embedding(users, self.users, sparse=self.sparse)
        pair = embedding(torch.stack([positives, negatives], 1), self.items, sparse=self.sparse)
        scores = torch.einsum("bd,bcd->bc", vectors, pair)
        total: Tensor = -logsigmoid(scores[:, 0] - scores[:, 1]).sum()
        rows = torch.unique(users) % len(lists[0])
        listed = torch.cat([lists[0][rows], lists[1][rows]], 1)
        own = embedding(rows, self.users, sparse=self.sparse)
        scores = torch.einsum("bd,bcd->bc", own, embedding(listed, self.items, sparse=self.sparse))
        total = total + 0.01 * loss(scores[:, : self.point["K"]], scores[:, self.point["K"] :]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total.detach()


def _best(point: Point, i: Inputs, users: int) -> list[Tensor]:
    """Return the K best of the first users, 256 at a time, training items masked."""
    seen, found = i["data"].train if "data" in i else i["seen"], []
    rows = max(1, min(256, CELLS // point["N"]))
    for start in range(0, users, rows):
        stop = min(start + rows, users)
        scores = i["users"][start:stop] @ i["items"].T
        held = seen.rows(np.arange(start, stop))
        scores[torch.from_numpy(held.entry_users()), torch.from_numpy(held.indices.astype(np.int64))] = -torch.inf
        found.append(scores.topk(i["k"]).indices)
    return found


def lists(point: Point, i: Inputs) -> Call:
    """Return matmul, mask, topk over a part of the users."""
    users = min(point["U"], max(256, 1_000_000_000 // point["N"]))
    return _part(lambda: torch.cat(_best(point, i, users)), users, point)


def ndcg(point: Point, i: Inputs) -> Call:
    """Return the mean NDCG of a part of the users from their lists."""
    users = min(point["U"], max(256, 1_000_000_000 // point["N"]))
    test = i["data"].test

    def run() -> Tensor:
        best = torch.cat(_best(point, i, users)).numpy()
        owner = np.repeat(np.arange(users), best.shape[1])
        hits = test.contains(owner, best.reshape(-1)).reshape(best.shape)
        gains = 1 / np.log2(np.arange(2, 2 + best.shape[1]))
        wanted = test.degrees()[:users]
        ideal = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(wanted, best.shape[1])]
        return torch.tensor(((hits * gains).sum(1)[wanted > 0] / ideal[wanted > 0]).mean())

    return _part(run, users, point)


def _part(run: Call, users: int, point: Point) -> Call:
    note = "" if users == point["U"] else f"{users} of {point['U']} users, scaled"
    return Part(run, point["U"] / users, note)


PLAIN = """
import torch
users, items = torch.randn(64, 32, requires_grad=True), torch.randn(1000, 32, requires_grad=True)
ids = torch.randint(1000, (64, 40))

def loss(users, items, ids):
    scores = torch.einsum("bd,bcd->bc", users, torch.nn.functional.embedding(ids, items))
    rest = scores[:, 20:].logsumexp(1, keepdim=True)
    tail = torch.cat([scores[:, :20], rest], 1).flip(1).logcumsumexp(1).flip(1)
    return (tail[:, :20] - scores[:, :20]).sum()

(users @ items.T).topk(10)
"""


def eager_step(point: Point, i: Inputs) -> Call:
    """Import torch, rank, one step."""
    return lambda: process(PLAIN + "loss(users, items, ids).backward()")


def compiled_step(point: Point, i: Inputs) -> Call:
    """Import torch, rank, one compiled step; cold: inductor's cache is empty."""
    import tempfile

    def run() -> None:
        with tempfile.TemporaryDirectory() as cache:
            where = {"TORCHINDUCTOR_CACHE_DIR": cache} if i["cold"] else {}
            process(PLAIN + "torch.compile(loss)(users, items, ids).backward()", **where)

    return run
