"""torch's optimisers on a table: with the dense gradient that a dense embedding makes, and with a sparse one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.cases._updates import LISTS, LR, rows_of
from fastkd.bench.peers import Unable, Way

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def _gradient(i: Inputs, turn: int, *, sparse: bool) -> Tensor:
    rows, table = rows_of(i, turn), i["table"]
    if sparse:
        return torch.sparse_coo_tensor(
            rows[None], i["gradient"], table.shape, is_coalesced=True, check_invariants=False
        )
    return torch.zeros_like(table).index_copy_(0, rows, i["gradient"])


def step(make: Make, sparse: bool, point: Point, i: Inputs) -> Call:
    """Return the step of an optimiser on a copy of the table; gradients are there before the clock starts.

    A dense gradient of a large table is made once, and costs the same whichever rows it is of.
    """
    if not sparse and point["N"] > 2_000_000:
        raise Unable("dense gradient and moments of over 2M rows")
    table = nn.Parameter(i["table"].clone())
    gradients = [_gradient(i, turn, sparse=sparse) for turn in range(LISTS if sparse else 1)]
    optimizer, turn = make([table]), [0]

    def run() -> Tensor:
        table.grad = gradients[turn[0] % len(gradients)]
        turn[0] += 1
        optimizer.step()
        return table.detach()

    return run


_DENSE: Mapping[str, Make] = {
    "row_sgd": partial(torch.optim.SGD, lr=LR, fused=True),
    "row_adagrad": partial(torch.optim.Adagrad, lr=LR, fused=True),
    "row_adam": partial(torch.optim.Adam, lr=LR, fused=True),
}
_SPARSE: Mapping[str, Make] = {
    "row_sgd": partial(torch.optim.SGD, lr=LR, foreach=False),
    "row_adagrad": partial(torch.optim.Adagrad, lr=LR, foreach=False),
    "row_adam": partial(torch.optim.SparseAdam, lr=LR),
}


def ways(name: str) -> Mapping[str, Way]:
    """Return the ways of a row optimiser's case."""
    return {"sparse": partial(step, _SPARSE[name], True), "dense, fused": partial(step, _DENSE[name], False)}


def coalesced(point: Point, i: Inputs) -> Call:
    """Return the gradient of a sparse embedding, its equal rows summed."""

    def run() -> Tensor:
        terms = i["coefficients"][:, :, None] * i["vectors"][:, None, :]
        size = (point["N"], point["D"])
        rows = i["ids"].reshape(1, -1)
        return torch.sparse_coo_tensor(rows, terms.flatten(0, 1), size, check_invariants=False).coalesce().values()

    return run


WAYS: Mapping[str, Mapping[str, Way]] = {
    **{name: ways(name) for name in _DENSE}, "row_gradient": {"sparse, coalesced": coalesced},
}  # fmt: skip
