"""Losses over the softmax of a whole catalogue, no users x items array."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import ids, tables
from fastkd.bench.same import close
from fastkd.core import Seeds


def _make(point: Point, seed: int, device: str) -> Inputs:
    users, items = (t.requires_grad_() for t in tables(point, seed, device))
    listed = ids(point, seed, device, max(point["K"], 1))
    random = Seeds(seed).torch("probs")
    probs = torch.softmax(torch.randn(listed.shape, generator=random), 1).to(device)
    made = {"users": users, "items": items, "ids": listed, "probs": probs}
    if point["T"]:
        made["teacher_users"], made["teacher_items"] = tables(point, seed + 1, device, width="T")
    return made


def _softmax(i: Inputs, backend: str) -> Tensor:
    return ops.catalogue_softmax(i["users"], i["items"], i["ids"], i["probs"], validate=False, backend=backend)


def _logsumexp(i: Inputs, backend: str) -> Tensor:
    return ops.catalogue_logsumexp(i["users"], i["items"], validate=False, backend=backend)


def _divergence(i: Inputs, backend: str) -> Tensor:
    teacher = i["teacher_users"], i["teacher_items"]
    return ops.catalogue_divergence(
        (i["users"], i["items"]), teacher, kind="reverse_kl", validate=False, backend=backend
    )


def _forward(point: Point) -> Work:
    """One product for the log-sum-exp (two tables: two), tables read once, sparse targets read."""
    pairs = point["B"] * point["N"]
    width = point["D"] + point["T"]
    moved = (point["B"] + point["N"]) * width * point.element + 12 * point["B"] * point["K"]
    return Work(2.0 * pairs * width, moved, pairs)


def _backward(point: Point) -> Work:
    """Scores made again, and a product for each gradient; both gradients written."""
    pairs = point["B"] * point["N"]
    moved = 2 * (point["B"] + point["N"]) * point["D"] * point.element
    return Work(pairs * (6.0 * point["D"] + 2.0 * point["T"]), moved, pairs)


CATALOGUE = (
    Case(
        name="catalogue_softmax",
        summary="cross entropy of K soft targets with the softmax over all items",
        make=_make, call=_softmax, work=_forward, backward=_backward, same=close, leaves=("users", "items"),
        check=at(B=19, N=307, D=11, K=5),
        tests=("tests/ops/test_catalogue_softmax.py",),
        points=(
            at("quick", B=64, N=25_181, D=32, K=50),
            at("cpu", B=256, N=100_000, D=64, K=50),
            at("cuda cuda-quick", dtype="bfloat16", B=4096, N=1_000_000, D=64, K=100),
            at("cuda", dtype="bfloat16", B=4096, N=100_000, D=64, K=100),
        ),
        sweeps={"N": (6_000, 25_181, 100_000), "B": (16, 64, 256), "D": (16, 32, 64)},
    ),
    Case(
        name="catalogue_logsumexp",
        summary="the log-sum-exp of all scores of each user",
        make=_make, call=_logsumexp, work=_forward, backward=_backward, same=close, leaves=("users", "items"),
        check=at(B=19, N=307, D=11),
        tests=("tests/ops/test_catalogue_logsumexp.py",),
        points=(at("cpu", B=256, N=100_000, D=64), at("cuda", dtype="bfloat16", B=4096, N=1_000_000, D=64)),
    ),
    Case(
        name="catalogue_divergence",
        summary="reverse KL between a student and a teacher T wide, over all items",
        make=_make, call=_divergence, work=_forward, backward=_backward, same=close, leaves=("users", "items"),
        check=at(B=11, N=211, D=7, T=13),
        tests=("tests/ops/test_catalogue_divergence.py",),
        points=(at("cpu", B=256, N=100_000, D=64, T=128), at("cuda", dtype="bfloat16", B=4096, N=100_000, D=64, T=128)),
    ),
)  # fmt: skip
