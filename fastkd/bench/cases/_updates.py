"""A table's gradient by rows, and optimiser steps on the listed rows alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import ids, scores
from fastkd.bench.same import close
from fastkd.core import Seeds

LISTS = 8
"""Lists of rows that the steps go through, so that no step finds its rows in a cache."""

LR = 0.5
"""Large, so that a step that is wrong shows."""


def rows_of(i: Inputs, turn: int) -> Tensor:
    """Return the rows of a turn, ascending and distinct."""
    found: Tensor = i["rows"][turn % LISTS]
    return found


def _inputs(point: Point, seed: int, device: str) -> Inputs:
    """Make a table, ``LISTS`` lists of R of its rows (one of each of R stretches) and a gradient of such a list."""
    random = Seeds(seed).torch("updates")
    width = point["N"] // point["R"]
    starts = torch.arange(point["R"]) * width
    rows = starts + torch.randint(width, (LISTS, point["R"]), generator=random)
    table = torch.randn(point["N"], point["D"], generator=random)
    gradient = torch.randn(point["R"], point["D"], generator=random)
    made: Inputs = {"table": table.to(device), "rows": rows.to(device), "gradient": gradient.to(device)}
    return {**made, "states": {}}


def _step(name: str, i: Inputs, turn: int, state: dict[str, Any], backend: str) -> None:
    rows, options = rows_of(i, turn), dict[str, Any](lr=LR, backend=backend)
    if name == "row_sgd":
        ops.row_sgd(state["weight"], rows, i["gradient"], **options)
    elif name == "row_adagrad":
        ops.row_adagrad(state["weight"], rows, i["gradient"], state["total"], **options)
    else:
        ops.row_adam(state["weight"], rows, i["gradient"], (state["mean"], state["square"], state["step"]), **options)


def _fresh(name: str, table: Tensor) -> dict[str, Any]:
    """Return the state an optimiser starts with; the table is copied, for steps change it."""
    state = {"weight": table.clone(), "turn": 0}
    if name == "row_adagrad":
        state["total"] = torch.zeros_like(table)
    if name == "row_adam":
        step = torch.zeros(len(table), dtype=torch.int32, device=table.device)
        state |= {"mean": torch.zeros_like(table), "square": torch.zeros_like(table), "step": step}
    return state


def _call(name: str) -> Any:
    def call(i: Inputs, backend: str) -> Tensor:
        if backend not in i["states"]:
            i["states"][backend] = _fresh(name, i["table"])
        state = i["states"][backend]
        _step(name, i, state["turn"], state, backend)
        state["turn"] += 1
        weight: Tensor = state["weight"]
        return weight

    return call


def _first_step(name: str) -> Any:
    """Return a comparison of a peer's first step with the reference's first: ours may have gone on since."""

    def same(ours: Any, theirs: Any, i: Inputs) -> str | None:
        state = _fresh(name, i["table"])
        _step(name, i, 0, state, "reference")
        rows = rows_of(i, 0)
        wrong = close(state["weight"][rows] - i["table"][rows], theirs[rows] - i["table"][rows], i)
        return wrong or close(state["weight"], theirs, i)

    return same


def _work(numbers: int, operations: int, more: int = 0) -> Any:
    """Return the work of a step: ``numbers`` read or written and operations for each number of a row; unit: rows."""

    def work(point: Point) -> Work:
        count = float(point["R"] * point["D"])
        return Work(operations * count, 4.0 * numbers * count + (8.0 + more) * point["R"], float(point["R"]))

    return work


def _optimiser(name: str, summary: str, work: Any) -> Case:
    return Case(
        name=name, summary=summary, make=_inputs, call=_call(name), work=work, same=_first_step(name), unit="rows",
        check=at(N=211, R=37, D=13), tests=("tests/ops/test_row_update.py",),
        points=(
            at("cpu", N=1_000_000, R=20_000, D=64), at("cpu", N=100_000, R=20_000, D=64),
            at("cuda", N=10_000_000, R=500_000, D=64),
        ),
    )  # fmt: skip


def _listed(point: Point, seed: int, device: str) -> Inputs:
    vectors = torch.randn(point["B"], point["D"], generator=Seeds(seed).torch("vectors")).to(device)
    listed = ids(point, seed, device, point["C"])
    return {"vectors": vectors, "ids": listed, "coefficients": scores(point, seed, device, point["C"])}


def _gradient_work(point: Point) -> Work:
    """Count a multiply-add for each listed number; each distinct row written once; unit: listed items."""
    listed = point["B"] * point["C"]
    distinct = point["N"] * (1.0 - (1.0 - 1.0 / point["N"]) ** listed)
    moved = 4.0 * point["B"] * point["D"] + 12.0 * listed + distinct * (8.0 + 4.0 * point["D"])
    return Work(2.0 * listed * point["D"], moved, float(listed))


UPDATES = (
    Case(
        name="row_gradient", summary="the gradient of a table's listed rows, no other row made",
        make=_listed, work=_gradient_work, same=close, unit="items", check=at(B=23, N=101, C=9, D=7),
        call=lambda i, backend: ops.row_gradient(i["vectors"], i["ids"], i["coefficients"], backend=backend)[1],
        tests=("tests/ops/test_row_gradient.py",),
        points=(
            at("cpu", B=2048, N=1_000_000, C=80, D=64), at("cpu", B=2048, N=25_181, C=80, D=64),
            at("cuda", B=8192, N=10_000_000, C=240, D=64),
        ),
    ),
    _optimiser("row_sgd", "a step of SGD on R rows of a table of N", _work(3, 2)),
    _optimiser("row_adagrad", "a step of Adagrad on R rows of a table of N", _work(5, 7)),
    _optimiser("row_adam", "a step of lazy Adam on R rows of a table of N", _work(7, 12, more=8)),
)  # fmt: skip
