"""A training step against the size of the catalogue: BPR + relaxed ranking, gradients of the touched rows alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.core import Seeds

DRAWN = 8
"""Id lists that the steps go through, so that no step finds its rows in a cache."""

LR = 1e-3


class Stepped(NamedTuple):
    """After a step: the sum of its losses, the tables (``items`` None where another rule moves them), steps so far."""

    loss: Tensor
    items: Tensor | None
    users: Tensor
    turn: int


Step = Callable[[], Stepped]


def make_step(point: Point, seed: int, device: str) -> Inputs:
    """Return a table, users, and ``DRAWN`` lists of ids: a positive, a negative, K ranked, L unranked."""
    random = Seeds(seed).torch("step")
    columns = 2 + point["K"] + point["L"]
    table = torch.empty(point["N"], point["D"]).normal_(0, 0.1, generator=random)
    users = torch.empty(point["B"], point["D"]).normal_(0, 0.1, generator=random)
    ids = torch.randint(0, point["N"], (DRAWN, point["B"], columns), generator=random)
    made: Inputs = {"items": table.to(device), "users": users.to(device), "ids": ids.to(device)}
    return {**made, "ranked": point["K"], "steps": {}}


def rotating(
    i: Inputs, make: Callable[[nn.Parameter, nn.Parameter], Callable[[Tensor], Tensor]], *, adam: bool = True
) -> Step:
    """Return a step on copies of the tables that takes the next list of ids at each call.

    ``adam``: the items move by Adam's rule.
    """
    table, users = (nn.Parameter(i[name].clone()) for name in ("items", "users"))
    step, turn = make(table, users), [0]

    def run() -> Stepped:
        ids = i["ids"][turn[0] % DRAWN]
        turn[0] += 1
        return Stepped(step(ids).detach(), table.detach() if adam else None, users.detach(), turn[0])

    return run


def losses(
    users: Tensor, table: Tensor, ids: Tensor, ranked: int, *, sparse_grad: bool, backend: str = "auto"
) -> Tensor:
    """BPR on the first two columns, relaxed ranking on the others, by fastkd's ops."""
    how: dict[str, Any] = {"sparse_grad": sparse_grad, "backend": backend}
    scores = ops.gather_dot(users, table, ids[:, :2], **how)
    base = ops.pairwise(scores[:, 0], scores[:, 1:], loss="bpr", backend=backend).sum()
    lists = ids[:, 2 : 2 + ranked], ids[:, 2 + ranked :]
    return base + 0.1 * ops.relaxed_ranking_from_embeddings(users, table, *lists, **how).sum()


def same_step(ours: Stepped, theirs: Stepped, i: Inputs) -> str | None:
    """Compare first steps with one of plain torch in float64: the loss, and where every touched row has gone.

    In its first step Adam moves a weight by ``lr * g / (|g| + eps)``; float32 leaves a few per cent of that.
    """
    ids: Tensor = i["ids"][0]
    rows, places = torch.unique(ids, return_inverse=True)
    users, touched = (nn.Parameter(table.double()) for table in (i["users"], i["items"][rows]))
    loss = losses(users, touched, places, i["ranked"], sparse_grad=False, backend="reference")
    loss.backward()  # type: ignore[no-untyped-call]
    after = [p.detach() - LR * p.grad / (p.grad.abs() + 1e-8) for p in (users, touched) if p.grad is not None]
    for step in (ours, theirs):
        if step.turn != 1:
            continue
        apart = float((step.loss.double() - loss.detach()).abs() / loss.detach().abs())
        if apart > 1e-4:
            return f"a loss that differs by {apart:.2g}"
        moved = [("users", step.users, after[0]), ("items", None if step.items is None else step.items[rows], after[1])]
        for name, table, wanted in moved:
            off = 0.0 if table is None else float((table.double() - wanted).abs().max()) / LR
            if off > 0.1:
                return f"{name} that are off by {off:.2g} of a step"
    return None


def _fastkd(i: Inputs, backend: str) -> Stepped:
    from fastkd.training.row_optimisers import RowAdam

    def make(table: nn.Parameter, users: nn.Parameter) -> Callable[[Tensor], Tensor]:
        optimizer = RowAdam([table, users], lr=LR, in_backward=True)

        def step(ids: Tensor) -> Tensor:
            loss = losses(users, table, ids, i["ranked"], sparse_grad=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss

        return step

    if backend not in i["steps"]:
        i["steps"][backend] = rotating(i, make)
    return i["steps"][backend]()  # type: ignore[no-any-return]


def _work(point: Point) -> Work:
    """Each listed row read, its gradient and its two moments read and written; unit: listed items."""
    listed = point["B"] * (2 + point["K"] + point["L"])
    return Work(6.0 * listed * point["D"], listed * (8.0 + 9.0 * point["D"] * 4), listed)


ROWS = (
    Case(
        name="training_step",
        summary="BPR + relaxed ranking, backward, Adam: gradients and moments of the touched rows alone",
        make=make_step, call=_fastkd, work=_work, same=same_step, unit="items", check=None,
        tests=("tests/training/test_row_optimisers.py", "tests/ops/test_sparse_grad.py"),
        points=(
            at("quick", B=256, N=100_000, D=32, K=40, L=40),
            at("cpu", B=256, N=1_000_000, D=32, K=40, L=40),
            at("cpu slow", B=256, N=10_000_000, D=32, K=40, L=40),
            at("cpu", B=2048, N=100_000, D=32, K=40, L=40),
            at("cpu", B=2048, N=1_000_000, D=32, K=40, L=40),
            at("cpu slow", B=2048, N=10_000_000, D=32, K=40, L=40),
            at("cuda", B=8192, N=1_000_000, D=64, K=40, L=200),
            at("cuda slow", B=8192, N=10_000_000, D=64, K=40, L=200),
        ),
        sweeps={"N": (25_000, 100_000, 400_000, 1_600_000)},
    ),
)  # fmt: skip
