"""Draws on the device: by rank discrepancy, from a softmax, by rank, by weight, outside a history."""

from __future__ import annotations

from typing import Any

import torch

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import history, scores, tables
from fastkd.bench.same import own_stream
from fastkd.core import Interactions

STREAM: dict[str, Any] = {"seed": 3, "epoch": 1}


def _two_models(point: Point, seed: int, device: str) -> Inputs:
    """Make a teacher T wide and a student that is the same rows, D wide, with noise: they largely agree."""
    teacher = tables(point, seed, device, width="T")
    noise = tables(point, seed + 1, device)
    student = [t[:, : point["D"]] + 0.1 * n for t, n in zip(teacher, noise, strict=True)]
    return {
        "teacher_users": teacher[0],
        "teacher_items": teacher[1],
        "users": student[0].contiguous(),
        "items": student[1].contiguous(),
        "n": point["n"],
        "limit": point["N"],
        "epsilon": 252.0 / point["N"],
        "seen": Interactions.empty(point["B"], point["N"]),
    }


def _discrepancy(i: Inputs, backend: str) -> Any:
    return ops.sample_rank_discrepancy(
        (i["teacher_users"], i["teacher_items"]), (i["users"], i["items"]), i["n"],
        direction="teacher_to_student", epsilon=i["epsilon"], exclude=i["seen"], backend=backend, **STREAM,
    )  # fmt: skip


def _one_model(point: Point, seed: int, device: str) -> Inputs:
    users, items = tables(point, seed, device)
    return {"users": users, "items": items, "n": point["n"], "limit": point["N"]}


def _softmax(i: Inputs, backend: str) -> Any:
    return ops.sample_softmax(i["users"], i["items"], i["n"], temperature=1.0, backend=backend, **STREAM)


def _rows(point: Point, seed: int, device: str) -> Inputs:
    return {
        "user_rows": torch.arange(point["B"], device=device),
        "length": point["M"],
        "limit": point["M"],
        "n": point["n"],
        "log_weights": scores(point, seed, device, point["M"]),
    }


def _unobserved(point: Point, seed: int, device: str) -> Inputs:
    seen = history(point["B"], point["N"], point["seen"], seed)
    users = torch.arange(point["B"], device=device)
    return {"user_rows": users, "user_ids": users.cpu(), "seen": seen, "n": point["n"], "limit": point["N"]}


def _scored(point: Point) -> Work:
    """Score every item with each model once, one read of the tables; unit: draws."""
    width = point["D"] + point["T"]
    pairs = point["B"] * point["N"]
    return Work(2.0 * pairs * width, (point["B"] + point["N"]) * width * point.element, point["B"] * point["n"])


def _listed(point: Point) -> Work:
    drawn = point["B"] * point["n"]
    return Work(0.0, 4.0 * point["B"] * point["M"] + 8.0 * drawn, drawn)


DRAWS = (
    Case(
        name="sample_rank_discrepancy",
        summary="n items a user by how differently two models rank them (teacher T wide, student D)",
        make=_two_models, call=_discrepancy, work=_scored, same=own_stream, unit="draws",
        check=at(B=5, N=307, T=9, D=5, n=6), tests=("tests/ops/test_sample_rank_discrepancy.py",),
        points=(
            at("quick", B=8, N=50_000, T=64, D=16, n=10),
            at("cpu", B=16, N=1_000_000, T=64, D=16, n=10),
            at("cpu", B=16, N=1_000_000, T=64, D=16, n=10, table="trained"),
            at("cuda cuda-quick", B=1024, N=1_000_000, T=64, D=16, n=10),
        ),
    ),
    Case(
        name="sample_softmax",
        summary="n distinct items a user from the softmax over the catalogue",
        make=_one_model, call=_softmax, work=_scored, same=own_stream, unit="draws",
        check=at(B=5, N=307, D=9, n=6), tests=("tests/ops/test_sample_softmax.py",),
        points=(
            at("cpu", B=16, N=1_000_000, D=64, n=10),
            at("cpu", B=16, N=1_000_000, D=64, n=10, table="trained"),
            at("cuda", B=1024, N=1_000_000, D=64, n=10),
        ),
    ),
    Case(
        name="sample_ranked",
        summary="n of M places without replacement, falling off with the rank",
        make=_rows,
        call=lambda i, backend: ops.sample_ranked(
            i["user_rows"], i["length"], i["n"], temperature=10.0, backend=backend, **STREAM
        ),
        work=lambda p: Work(0.0, 8.0 * p["B"] * (p["n"] + 1), p["B"] * p["n"]), same=own_stream, unit="draws",
        check=at(B=7, M=37, n=5), tests=("tests/ops/test_sample_ranked.py",),
        points=(at("cpu", B=5219, M=500, n=100), at("cuda", B=65_536, M=500, n=100)),
    ),
    Case(
        name="sample_positions",
        summary="n of M places with replacement, falling off linearly with the rank",
        make=_rows,
        call=lambda i, backend: ops.sample_positions(
            i["user_rows"], i["length"], i["n"], law="linear", backend=backend, **STREAM
        ),
        work=lambda p: Work(3.0 * p["B"] * p["n"], 8.0 * p["B"] * (p["n"] + 1), p["B"] * p["n"]), same=own_stream,
        unit="draws", check=at(B=7, M=37, n=5), tests=("tests/ops/test_sample_positions.py",),
        points=(at("cpu", B=5219, M=500, n=100), at("cuda", B=65_536, M=500, n=100)),
    ),
    Case(
        name="sample_weighted",
        summary="n of M places without replacement, by given weights",
        make=_rows,
        call=lambda i, backend: ops.sample_weighted(
            i["user_rows"], i["log_weights"], i["n"], backend=backend, **STREAM
        ),
        work=_listed, same=own_stream, unit="draws",
        check=at(B=7, M=37, n=5), tests=("tests/ops/test_sample_weighted.py",),
        points=(at("cpu", B=5219, M=500, n=100), at("cuda", B=65_536, M=500, n=100)),
    ),
    Case(
        name="sample_unobserved",
        summary="n unseen items a user, uniform, on the device",
        make=_unobserved,
        call=lambda i, backend: ops.sample_unobserved(
            i["seen"], i["user_rows"], i["n"], validate=False, backend=backend, **STREAM
        ),
        work=lambda p: Work(0.0, p["B"] * (8.0 * p["n"] + 4.0 * p["seen"]), p["B"] * p["n"]),
        same=own_stream, unit="draws",
        check=at(B=11, N=211, seen=6, n=9), tests=("tests/ops/test_sample_unobserved.py",),
        points=(at("cpu", B=8192, N=1_000_000, seen=100, n=64), at("cuda", B=65_536, N=10_000_000, seen=100, n=64)),
    ),
)  # fmt: skip
