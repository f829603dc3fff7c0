"""A training step against the size of the catalogue: BPR + relaxed ranking, gradients of the touched rows alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.same import close
from fastkd.core import Seeds

DRAWN = 8
"""Id lists that the steps go through, so that no step finds its rows in a cache."""

Step = Callable[[], Tensor]


def make_step(point: Point, seed: int, device: str) -> Inputs:
    """Return a table, users, and ``DRAWN`` lists of ids: a positive, a negative, K ranked, L unranked."""
    random = Seeds(seed).torch("step")
    columns = 2 + point["K"] + point["L"]
    table = torch.empty(point["N"], point["D"]).normal_(0, 0.1, generator=random)
    users = torch.empty(point["B"], point["D"]).normal_(0, 0.1, generator=random)
    ids = torch.randint(0, point["N"], (DRAWN, point["B"], columns), generator=random)
    made: Inputs = {"items": table.to(device), "users": users.to(device), "ids": ids.to(device)}
    return {**made, "ranked": point["K"], "steps": {}}


def rotating(i: Inputs, make: Callable[[nn.Parameter, nn.Parameter], Callable[[Tensor], Tensor]]) -> Step:
    """Return a step on copies of the tables that takes the next list of ids at each call."""
    table, users = (nn.Parameter(i[name].clone()) for name in ("items", "users"))
    step, turn = make(table, users), [0]

    def run() -> Tensor:
        ids = i["ids"][turn[0] % DRAWN]
        turn[0] += 1
        return step(ids).detach()

    return run


def losses(users: Tensor, table: Tensor, ids: Tensor, ranked: int, *, sparse_grad: bool) -> Tensor:
    """BPR on the first two columns, relaxed ranking on the others, by fastkd's ops."""
    scores = ops.gather_dot(users, table, ids[:, :2], sparse_grad=sparse_grad)
    base = ops.pairwise(scores[:, 0], scores[:, 1:], loss="bpr").sum()
    lists = ids[:, 2 : 2 + ranked], ids[:, 2 + ranked :]
    return base + 0.1 * ops.relaxed_ranking_from_embeddings(users, table, *lists, sparse_grad=sparse_grad).sum()


def _fastkd(i: Inputs, backend: str) -> Tensor:
    from fastkd.training.row_optimisers import RowAdam

    def make(table: nn.Parameter, users: nn.Parameter) -> Callable[[Tensor], Tensor]:
        optimizer = RowAdam([table, users], lr=1e-3, in_backward=True)

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
        make=make_step, call=_fastkd, work=_work, same=close, unit="items", check=None,
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
