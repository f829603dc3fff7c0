"""Exact top K, ranks of given items, ranks within lists."""

from __future__ import annotations

from typing import Any

import torch

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import history, ids, scores, tables
from fastkd.bench.same import exactly, same_ranking, same_ranks, same_scores


def _make(point: Point, seed: int, device: str) -> Inputs:
    users, items = tables(point, seed, device)
    seen = history(point["B"], point["N"], point["seen"], seed) if point["seen"] else None
    return {"users": users, "items": items, "k": point["K"], "seen": seen}


def _rank_topk(inputs: Inputs, backend: str) -> Any:
    return ops.rank_topk(inputs["users"], inputs["items"], inputs["k"], exclude=inputs["seen"], backend=backend)


def _work(point: Point) -> Work:
    """One read of both tables and of the masks, ids and scores written; each score is D multiply-adds."""
    scores = point["B"] * point["N"]
    moved = (point["B"] + point["N"]) * point["D"] * point.element
    return Work(2.0 * scores * point["D"], moved + point["B"] * (12 * point["K"] + 4 * point["seen"]), scores)


def _predicted(point: Point) -> float:
    sizes = point["B"], point["N"], point["D"], point["K"]
    return 1e3 * ops.explain_rank_topk(*sizes, exclude=point["seen"]).seconds


CHUNK = 16_384
"""Items that a model scores at a time."""


def _scored(point: Point, seed: int, device: str) -> Inputs:
    seen = history(point["B"], point["N"], point["seen"], seed) if point["seen"] else None
    return {"scores": scores(point, seed, device, point["N"]), "k": point["K"], "seen": seen}


def _chunked(i: Inputs, backend: str) -> Any:
    """Rank scores that are there already: the model's part costs nothing."""
    parts = iter(torch.split(i["scores"], CHUNK, dim=1))
    count, (rows, items) = i["k"], i["scores"].shape
    return ops.score_topk_chunked(
        lambda _: next(parts), items, count, batch=rows, exclude=i["seen"], chunk=CHUNK, backend=backend,
        device=i["scores"].device,
    )  # fmt: skip


def _chunked_work(point: Point) -> Work:
    """One read of all scores and of the masks, one comparison each; ids and scores written."""
    read = point["N"] * point.element + 4 * point["seen"]
    return Work(float(point["B"] * point["N"]), point["B"] * (read + 12.0 * point["K"]), point["B"] * point["N"])


def _ranked(point: Point, seed: int, device: str) -> Inputs:
    users, items = tables(point, seed, device)
    return {"users": users, "items": items, "ids": ids(point, seed, device, point["C"])}


def _rank_work(point: Point) -> Work:
    scores = point["B"] * point["N"]
    moved = (point["B"] + point["N"]) * point["D"] * point.element + 16 * point["B"] * point["C"]
    return Work(2.0 * scores * point["D"], moved, scores)


def _lists(point: Point, seed: int, device: str) -> Inputs:
    random = torch.Generator().manual_seed(seed)
    drawn = [torch.rand(point["B"], 4 * point["M"], generator=random).argsort(1)[:, : point["M"]] for _ in range(2)]
    return {"a": drawn[0].contiguous().to(device), "b": drawn[1].contiguous().to(device)}


RANKING = (
    Case(
        name="rank_topk",
        summary="the K best items of each user, exact, seen items left out",
        make=_make,
        call=_rank_topk,
        work=_work,
        predict=_predicted,
        check=at(B=37, N=1009, D=17, K=13, seen=5),
        same=same_ranking,
        tests=("tests/ops/test_rank_topk.py",),
        points=(
            at("quick sweep-centre", B=128, N=50_000, D=32, K=20),
            at("quick", B=128, N=50_000, D=32, K=20, seen=50),
            at("quick", B=128, N=200_000, D=32, K=20),
            at("cpu", B=256, N=1_000_000, D=64, K=100),
            at("cpu", B=256, N=1_000_000, D=64, K=100, seen=100),
            at("cpu", B=256, N=1_000_000, D=64, K=100, table="trained"),
            at("cpu", B=256, N=1_000_000, D=64, K=100, table="sorted"),
            at("cpu", B=256, N=200_000, D=64, K=100, table="equal"),
            at("cpu", B=256, N=1_000_000, D=128, K=1000),
            at("cpu", B=1024, N=100_000, D=64, K=100),
            at("cpu", B=1024, N=25_181, D=20, K=100),
            at("cpu", B=8, N=1_000_000, D=64, K=100),
            at("cpu", B=1, N=1_000_000, D=64, K=100),
            at("cuda cuda-quick", dtype="bfloat16", B=4096, N=1_000_000, D=64, K=100, seen=100),
            at("cuda cuda-quick", dtype="bfloat16", B=4096, N=1_000_000, D=64, K=100),
            at("cuda", dtype="bfloat16", B=1024, N=10_000_000, D=64, K=100, seen=100),
            at("cuda", dtype="bfloat16", table="trained", B=4096, N=1_000_000, D=64, K=100, seen=100),
            at("cuda", B=4096, N=1_000_000, D=64, K=100, seen=100),
            at("cuda", dtype="bfloat16", B=4096, N=1_000_000, D=64, K=1000),
            at("cuda", dtype="bfloat16", B=1, N=10_000_000, D=128, K=100),
            at("cuda", dtype="bfloat16", B=1024, N=10_000_000, D=64, K=1000),
            at("cuda", dtype="bfloat16", B=4096, N=1_000_000, D=128, K=100),
            at("cuda", dtype="bfloat16", B=1024, N=1_000_000, D=128, K=100),
            at("cuda", dtype="bfloat16", B=4096, N=100_000, D=64, K=50),
            at("cuda", dtype="bfloat16", B=256, N=10_000_000, D=64, K=100),
            at("cuda", dtype="bfloat16", table="sorted", B=4096, N=1_000_000, D=64, K=100),
            at("cuda", dtype="bfloat16", B=64, N=10_000_000, D=128, K=100),
        ),
        sweeps={
            "N": (12_500, 50_000, 200_000, 800_000),
            "B": (1, 8, 32, 128, 512),
            "K": (1, 5, 20, 100, 400),
            "D": (8, 16, 32, 64, 128),
        },
    ),
    Case(
        name="score_topk_chunked",
        summary="the K best items by scores that a model makes chunk by chunk; here they are there already",
        make=_scored,
        call=_chunked,
        work=_chunked_work,
        check=at(B=9, N=20_011, K=13, seen=5),
        same=same_scores,
        tests=("tests/ops/test_score_topk_chunked.py",),
        points=(
            at("cpu", B=64, N=200_000, K=100),
            at("cpu", B=64, N=200_000, K=100, seen=100),
            at("cuda", B=1024, N=1_000_000, K=100),
        ),
    ),
    Case(
        name="rank_of",
        summary="the exact rank of each given item among all",
        make=_ranked,
        call=lambda i, backend: ops.rank_of(i["users"], i["items"], i["ids"], validate=False, backend=backend),
        work=_rank_work,
        check=at(B=23, N=1009, D=17, C=7),
        same=same_ranks,
        tests=("tests/ops/test_rank_of.py",),
        points=(
            at("quick", B=32, N=100_000, D=64, C=10),
            at("cpu", B=64, N=1_000_000, D=64, C=10),
            at("cpu", B=64, N=1_000_000, D=64, C=100),
            at("cpu", B=64, N=1_000_000, D=64, C=1000),
            at("cpu", B=64, N=1_000_000, D=64, C=100, table="trained"),
            at("cuda cuda-quick", B=1024, N=1_000_000, D=64, C=10),
            at("cuda", B=1024, N=10_000_000, D=64, C=10),
        ),
        sweeps={"N": (25_000, 100_000, 400_000), "C": (1, 10, 100)},
    ),
    Case(
        name="ranks_within",
        summary="the rank of each item of one list in another",
        make=_lists,
        call=lambda i, backend: ops.ranks_within(i["a"], i["b"], backend=backend),
        work=lambda p: Work(0.0, 24.0 * p["B"] * p["M"], p["B"] * p["M"]),
        check=at(B=19, M=37),
        same=exactly,
        tests=("tests/ops/test_ranks_within.py",),
        unit="places",
        points=(at("cpu", B=4096, M=100), at("cpu", B=1024, M=1000), at("cuda", B=4096, M=1000)),
    ),
)
