"""Losses from embeddings: users, an item table, lists of ids; forward and backward to both tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastkd import ops
from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import ids, scores, tables
from fastkd.bench.same import close


def _make(point: Point, seed: int, device: str) -> Inputs:
    users, items = (t.requires_grad_() for t in tables(point, seed, device))
    columns = point["K"] + point["L"]
    listed = ids(point, seed, device, columns)
    return {
        "users": users,
        "items": items,
        "ids": listed,
        "ranked": listed[:, : point["K"]].contiguous(),
        "unranked": listed[:, point["K"] :].contiguous(),
        "teacher": torch.sigmoid(scores(point, seed, device, columns, "teacher")),
    }


def _forward(point: Point) -> Work:
    """Each listed row and each user read once, its id, a loss per user written; D multiply-adds a listed item."""
    listed = point["B"] * (point["K"] + point["L"])
    moved = listed * (point["D"] * point.element + 8) + point["B"] * (point["D"] * point.element + 4)
    return Work(2.0 * listed * point["D"], moved, listed)


def _backward(point: Point) -> Work:
    """Each listed gradient row read and written, the dense gradient of the table and that of the users written once."""
    listed = point["B"] * (point["K"] + point["L"])
    rows = 2 * listed * point["D"] * point.element
    return Work(4.0 * listed * point["D"], rows + (point["N"] + point["B"]) * point["D"] * point.element, listed)


def _relaxed(i: Inputs, backend: str) -> Tensor:
    return ops.relaxed_ranking_from_embeddings(
        i["users"], i["items"], i["ranked"], i["unranked"], validate=False, backend=backend
    )


def _table_loss(op: Callable[..., Tensor], *extra: str) -> Callable[[Inputs, str], Any]:
    """Return the call of an op that takes users, items, ids and more."""

    def call(i: Inputs, backend: str) -> Tensor:
        return op(i["users"], i["items"], i["ids"], *(i[name] for name in extra), validate=False, backend=backend)

    return call


def _pairwise(i: Inputs, backend: str) -> Tensor:
    lists = i["ranked"][:, 0], i["unranked"]
    return ops.pairwise_from_embeddings(i["users"], i["items"], *lists, validate=False, backend=backend)


def _case(name: str, summary: str, call: Callable[[Inputs, str], Any], tests: str, **more: Any) -> Case:
    """Return a case with the points that these losses share unless told otherwise."""
    options: dict[str, Any] = {
        "points": (at("cpu", B=1500, N=25_181, D=64, K=40, L=40), at("cuda", B=8192, N=1_000_000, D=64, K=40, L=200)),
        "check": at(B=31, N=211, D=13, K=5, L=9),
        **more,
    }
    return Case(
        name=name, summary=summary, make=_make, call=call, work=_forward, backward=_backward, same=close,
        leaves=("users", "items"), tests=(f"tests/ops/{tests}.py",), **options,
    )  # fmt: skip


LISTWISE = (
    _case(
        "relaxed_ranking_from_embeddings",
        "RRD's loss from vectors: K ranked, L unranked items a user",
        _relaxed,
        "test_relaxed_ranking_from_embeddings",
        points=(
            at("quick", B=512, N=25_181, D=32, K=40, L=40),
            at("cpu", B=1500, N=25_181, D=20, K=100, L=200),
            at("cpu", B=1500, N=25_181, D=64, K=40, L=40),
            at("cpu", B=2048, N=1_000_000, D=64, K=40, L=200),
            at("cuda cuda-quick", B=8192, N=1_000_000, D=64, K=40, L=200),
            at("cuda", B=32768, N=1_000_000, D=64, K=40, L=80),
            at("cuda", B=8192, N=1_000_000, D=128, K=100, L=150),
            at("cuda", B=1024, N=100_000, D=64, K=40, L=60),
            at("cuda", B=16, N=100_000, D=64, K=40, L=200),
        ),
        sweeps={
            "N": (6_000, 25_181, 100_000, 400_000),
            "B": (128, 512, 2048),
            "K": (10, 40, 160),
            "D": (16, 32, 64, 128),
        },
    ),
    _case(
        "listnet_from_embeddings",
        "ListNet from vectors against a teacher's scores, one pass",
        _table_loss(ops.listnet_from_embeddings, "teacher"),
        "test_listnet_from_embeddings",
    ),
    _case("gather_dot", "inner products of listed items", _table_loss(ops.gather_dot), "test_gather_dot"),
    _case(
        "soft_bce_from_embeddings",
        "binary cross entropy with a teacher's scores, from vectors",
        _table_loss(ops.soft_bce_from_embeddings, "teacher"),
        "test_soft_bce_from_embeddings",
    ),
    _case(
        "weighted_bce_from_embeddings",
        "binary cross entropy with given targets, from vectors",
        _table_loss(ops.weighted_bce_from_embeddings, "teacher"),
        "test_weighted_bce_from_embeddings",
    ),
    _case(
        "pairwise_from_embeddings",
        "BPR of K positives and L negatives a user, from vectors",
        _pairwise,
        "test_embedding_losses",
        points=(at("cpu", B=2048, N=25_181, D=64, K=1, L=20), at("cuda", B=8192, N=1_000_000, D=64, K=1, L=200)),
        check=at(B=31, N=211, D=13, K=1, L=9),
    ),
    _case(
        "lambda_pairs_from_embeddings",
        "LambdaRank over a list, from vectors",
        _table_loss(ops.lambda_pairs_from_embeddings),
        "test_lambda_pairs",
        points=(at("cpu", B=512, N=25_181, D=64, K=20, L=20), at("cuda", B=8192, N=1_000_000, D=64, K=50, L=50)),
    ),
)  # fmt: skip
