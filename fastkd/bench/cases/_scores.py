"""Losses from scores the caller already has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import ids, scores, tables
from fastkd.bench.same import close


def _make(point: Point, seed: int, device: str) -> Inputs:
    columns = point["K"] + point["L"]
    student = scores(point, seed, device, columns)
    return {
        "scores": student.requires_grad_(),
        "ranked": student[:, : point["K"]].detach().clone().requires_grad_(),
        "unranked": student[:, point["K"] :].detach().clone().requires_grad_(),
        "teacher": torch.sigmoid(scores(point, seed, device, columns, "teacher")),
    }


def _forward(point: Point) -> Work:
    count = point["B"] * (point["K"] + point["L"])
    return Work(0.0, point.element * (2 * count + point["B"]), count)


def _backward(point: Point) -> Work:
    count = point["B"] * (point["K"] + point["L"])
    return Work(0.0, point.element * count, count)


def _case(name: str, summary: str, call: Callable[[Inputs, str], Any], leaves: tuple[str, ...]) -> Case:
    return Case(
        name=name, summary=summary, make=_make, call=call, work=_forward, backward=_backward, same=close, leaves=leaves,
        check=at(B=29, K=6, L=11), tests=(f"tests/ops/test_{name}.py",),
        points=(at("cpu", B=4096, K=40, L=40), at("cuda", B=65_536, K=40, L=200)),
    )  # fmt: skip


def _sampled(point: Point, seed: int, device: str) -> Inputs:
    users, items = (t.requires_grad_() for t in tables(point, seed, device))
    return {
        "users": users, "items": items,
        "targets": ids(point, seed, device, point["K"], "targets"),
        "negatives": ids(point, seed, device, point["L"], "negatives"),
    }  # fmt: skip


def _sampled_work(point: Point) -> Work:
    listed = point["B"] * (point["K"] + point["L"])
    return Work(2.0 * listed * point["D"], listed * (point["D"] * point.element + 8), listed)


def _sampled_back(point: Point) -> Work:
    listed = point["B"] * (point["K"] + point["L"])
    moved = 2 * listed * point["D"] * point.element + point["N"] * point["D"] * point.element
    return Work(4.0 * listed * point["D"], moved, listed)


SCORES = (
    _case(
        "relaxed_ranking",
        "RRD's loss from scores",
        lambda i, backend: ops.relaxed_ranking(i["ranked"], i["unranked"], backend=backend),
        ("ranked", "unranked"),
    ),
    _case(
        "pairwise",
        "BPR from scores",
        lambda i, backend: ops.pairwise(i["ranked"][:, 0], i["unranked"], backend=backend),
        ("ranked", "unranked"),
    ),
    _case(
        "listnet",
        "ListNet from scores",
        lambda i, backend: ops.listnet(i["scores"], i["teacher"], backend=backend),
        ("scores",),
    ),
    _case(
        "soft_bce",
        "binary cross entropy with a teacher's scores",
        lambda i, backend: ops.soft_bce(i["scores"], i["teacher"], backend=backend),
        ("scores",),
    ),
    _case(
        "weighted_bce",
        "binary cross entropy with given targets",
        lambda i, backend: ops.weighted_bce(i["scores"], i["teacher"], backend=backend),
        ("scores",),
    ),
    _case(
        "lambda_pairs",
        "LambdaRank from scores",
        lambda i, backend: ops.lambda_pairs(i["scores"], backend=backend),
        ("scores",),
    ),
    Case(
        name="sampled_softmax",
        summary="softmax cross entropy over K targets and L drawn negatives, from vectors",
        make=_sampled,
        call=lambda i, backend: ops.sampled_softmax(
            i["users"], i["items"], i["targets"], i["negatives"], validate=False, backend=backend
        ),
        work=_sampled_work, backward=_sampled_back, same=close, leaves=("users", "items"),
        check=at(B=17, N=211, D=11, K=1, L=9), tests=("tests/ops/test_sampled_softmax.py",),
        points=(at("cpu", B=1024, N=100_000, D=64, K=1, L=200), at("cuda", B=8192, N=1_000_000, D=64, K=1, L=500)),
    ),
)  # fmt: skip
