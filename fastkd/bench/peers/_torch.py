"""Plain torch: each op as one writes it, chunked where the whole would not fit; for the rest our own reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, logsigmoid
from torch.utils.checkpoint import checkpoint

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.cases._rows import LR, rotating
from fastkd.bench.peers import Peer, Unable, Way, _chunks, _features, _updates

CELLS = {"cpu": 1 << 28, "cuda": 12 << 30}
"""Scores a peer may hold at once; beyond it a chunk of users is no variant."""


def topk(chunk: int, point: Point, i: Inputs) -> Call:
    """Matmul, scatter of -inf, topk, ``chunk`` users at a time."""
    users, items, k, seen = i["users"], i["items"], i["k"], i["seen"]
    if (chunk > 32 and chunk > len(users)) or chunk * len(items) > CELLS[users.device.type]:
        raise Unable(f"{chunk} users at a time are too many")
    masks: list[Any] = []
    for start in range(0, len(users), chunk) if seen is not None else ():
        indptr, indices = seen.rows(np.arange(start, min(start + chunk, len(users)))).to_torch()
        owner = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
        masks.append((owner.to(users.device), indices.long().to(users.device)))

    def run() -> Tensor:
        found = []
        for number, block in enumerate(torch.split(users, chunk)):
            scores = block @ items.T
            if masks:
                scores[masks[number]] = -torch.inf
            found.append(torch.topk(scores, k).indices)
        return torch.cat(found)

    return run


def _few(i: Inputs) -> int:
    cells = 1 << (27 if i["items"].is_cuda else 22)  # a GPU that sorts four users at a time mostly waits for launches
    return max(1, cells // len(i["items"]))


def two_argsorts(point: Point, i: Inputs) -> Call:
    """Ranks as published code makes them, a few users at a time."""

    def run() -> Tensor:
        found = []
        for users, ids in zip(torch.split(i["users"], _few(i)), torch.split(i["ids"], _few(i)), strict=True):
            order = torch.argsort(users @ i["items"].T, dim=1, descending=True, stable=True)
            found.append(1 + torch.argsort(order, dim=1).gather(1, ids))
        return torch.cat(found)

    return run


def one_sort(point: Point, i: Inputs) -> Call:
    """Ranks by one sort and a search, a few users at a time."""

    def run() -> Tensor:
        found = []
        for users, ids in zip(torch.split(i["users"], _few(i)), torch.split(i["ids"], _few(i)), strict=True):
            scores = users @ i["items"].T
            found.append(1 + torch.searchsorted(torch.sort(-scores, dim=1).values, -scores.gather(1, ids)))
        return torch.cat(found)

    return run


def relaxed(i: Inputs) -> Tensor:
    """RRD's loss, one gather."""
    scores = torch.einsum("bd,bcd->bc", i["users"], embedding(i["ids"], i["items"]))
    ranked = i["ranked"].shape[1]
    return plackett_luce(scores[:, :ranked], scores[:, ranked:]).sum()


def plackett_luce(ranked: Tensor, unranked: Tensor) -> Tensor:
    """Return the relaxed ranking loss Float[B] from scores."""
    tail = torch.cat([ranked, unranked.logsumexp(1, keepdim=True)], 1).flip(1).logcumsumexp(1).flip(1)
    losses: Tensor = (tail[:, : ranked.shape[1]] - ranked).sum(1)
    return losses


def listnet(i: Inputs) -> Tensor:
    """ListNet, one gather."""
    scores = torch.einsum("bd,bcd->bc", i["users"], embedding(i["ids"], i["items"]))
    loss: Tensor = -(i["teacher"].softmax(1) * scores.log_softmax(1)).sum()
    return loss


def softmax(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
    """Cross entropy with the softmax over all items, all scores at once."""
    scores = users @ items.T
    losses: Tensor = scores.float().logsumexp(1) - (probs * scores.gather(1, ids).float()).sum(1)
    return losses.sum()


def whole_softmax(i: Inputs) -> Tensor:
    """All users at once."""
    return softmax(i["users"], i["items"], i["ids"], i["probs"])


def chunked_softmax(point: Point, i: Inputs) -> Call:
    """64 users at a time, scores made again in backward."""
    names = ("users", "ids", "probs")

    def run() -> Tensor:
        parts = zip(*(torch.split(i[name], 64) for name in names), strict=True)
        return torch.stack([checkpoint(softmax, u, i["items"], c, p, use_reentrant=False) for u, c, p in parts]).sum()

    return run


LOSSES = {
    "relaxed_ranking_from_embeddings": relaxed, "listnet_from_embeddings": listnet, "catalogue_softmax": whole_softmax,
    "expert_choice": _features.choice, "graph_filter": _features.graph, "linear": _features.layer,
    "dropout": _features.dropped, "gumbel": _features.noise,
}  # fmt: skip
"""As one function each, which torch.compile takes too."""

MORE: dict[str, Mapping[str, Way]] = {
    "expert_choice": {
        "one-hot gates": lambda point, i: partial(_features.choice, i),
        "each expert on its rows": _features.choice_by_expert,
    },
    "graph_filter": {
        "gather and index_add": lambda point, i: partial(_features.graph, i),
        "sparse matrix": _features.graph_as_matrix,
    },
}
"""Ways of those that have more than one."""


def step_losses(users: Tensor, vectors: Tensor, ranked: int) -> Tensor:
    """Return the losses of ``training_step`` from gathered vectors Float[B, 2 + K + L, D]."""
    scores = torch.einsum("bd,bcd->bc", users, vectors)
    base = -logsigmoid(scores[:, 0] - scores[:, 1]).sum()
    return base + 0.1 * plackett_luce(scores[:, 2 : 2 + ranked], scores[:, 2 + ranked :]).sum()


def sparse_step(point: Point, i: Inputs) -> Call:
    """Sparse embedding gradients and SparseAdam."""

    def make(table: nn.Parameter, users: nn.Parameter) -> Any:
        optimizers = torch.optim.SparseAdam([table], lr=LR), torch.optim.Adam([users], lr=LR, fused=True)

        def step(ids: Tensor) -> Tensor:
            loss = step_losses(users, embedding(ids, table, sparse=True), i["ranked"])
            return stepped(loss, *optimizers)

        return step

    return rotating(i, make)


def dense_step(point: Point, i: Inputs) -> Call:
    """Dense gradients and fused Adam."""
    if point["N"] > 2_000_000:
        raise Unable("dense gradient and moments of over 2M rows")

    def make(table: nn.Parameter, users: nn.Parameter) -> Any:
        optimizer = torch.optim.Adam([table, users], lr=LR, fused=True)
        return lambda ids: stepped(step_losses(users, embedding(ids, table), i["ranked"]), optimizer)

    return rotating(i, make)


def stepped(loss: Tensor, *optimizers: Any) -> Tensor:
    """Go back and step."""
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss


def multinomial(point: Point, i: Inputs) -> Call:
    """Draw without replacement from the dense softmax, a few users at a time."""

    def run() -> Tensor:
        parts = torch.split(i["users"], _few(i))
        return torch.cat([torch.multinomial(torch.softmax(u @ i["items"].T, dim=1), i["n"]) for u in parts])

    return run


def discrepancy(point: Point, i: Inputs) -> Call:
    """Draw from dense weights by two argsorts a model, as the authors' notebooks do, a few users at a time."""

    def ranks(users: Tensor, items: Tensor) -> Tensor:
        return (users @ items.T).argsort(dim=1, descending=True).argsort(dim=1)

    def run() -> Tensor:
        found = []
        for own, other in zip(*(torch.split(i[name], _few(i)) for name in ("users", "teacher_users")), strict=True):
            gap = ranks(own, i["items"]) - ranks(other, i["teacher_items"])
            weights = torch.tanh((gap.double() * i["epsilon"]).clamp(min=0)).float()
            found.append(torch.multinomial(weights, i["n"], replacement=True))
        return torch.cat(found)

    return run


def rejection(point: Point, i: Inputs) -> Call:
    """Draw all negatives, then again those that a binary search finds in a history."""
    seen, count = i["seen"], i["limit"]
    keys = torch.from_numpy(seen.entry_users().astype(np.int64) * count + seen.indices)
    random = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(np.repeat(np.asarray(i["user_ids"], dtype=np.int64), i["n"]) * count)

    def run() -> Tensor:
        found, left = torch.randint(count, (len(rows),), generator=random), torch.arange(len(rows))
        while len(left):
            wanted = rows[left] + found[left]
            at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            left = left[keys[at] == wanted]
            found[left] = torch.randint(count, (len(left),), generator=random)
        return found.reshape(-1, i["n"])

    return run


def _reference(name: str) -> Mapping[str, Way]:
    from fastkd.bench.cases import case_named

    case = case_named(name)
    return {} if case.check is None else {"reference": lambda point, i: partial(case.call, i, "reference")}


def _job(name: str, **options: Any) -> Way:
    """Return a way of ``_jobs.py``, which imports the trainer: not before it is needed."""

    def way(point: Point, i: Inputs) -> Call:
        from fastkd.bench.peers import _jobs

        call: Call = getattr(_jobs, name)(point, i, **options)
        return call

    return way


def _plain(loss: Callable[[Inputs], Tensor], point: Point, i: Inputs) -> Call:
    return partial(loss, i)


PEER = Peer(
    "torch", "torch", "torch",
    {
        "rank_topk": {f"chunk {c}": partial(topk, c) for c in (32, 64, 256, 1024, 4096)},
        "rank_of": {"two argsorts": two_argsorts, "one sort": one_sort},
        "catalogue_softmax": {
            "all scores": lambda point, i: partial(whole_softmax, i), "64 users at a time": chunked_softmax,
        },
        "training_step": {"SparseAdam": sparse_step, "dense Adam": dense_step},
        "rrd_epoch": {"SparseAdam": _job("epoch", published=False, sparse=True),
                      "dense Adam": _job("epoch", published=False, sparse=False)},
        "teacher_lists": {"": _job("lists")},
        "evaluation": {"": _job("ndcg")},
        "first_step": {"eager": _job("eager_step")},
        "sample_softmax": {"dense": multinomial},
        "sample_rank_discrepancy": {"dense": discrepancy},
        "negatives_uniform": {"rejection": rejection},
        "score_topk_chunked": {
            "topk of each chunk and the best": _chunks.running, "topk of all scores": _chunks.whole,
        },
        "sample_positions": {"the better of two uniform draws": _chunks.positions},
        "expert_mixture": {
            "all experts at once": lambda point, i: partial(_features.mixture, i),
            "one expert after the other": _reference("expert_mixture")["reference"],
        },
        **_updates.WAYS,
        "row_gradient": {**_updates.WAYS["row_gradient"], **_reference("row_gradient")},
        **{
            name: {"": partial(_plain, loss)} for name, loss in LOSSES.items()
            if name not in ("catalogue_softmax", *MORE)
        },
        **MORE,
    },
    every=lambda name: {} if name.startswith("negatives_") else _reference(name),
)  # fmt: skip
