"""Pairwise losses from vectors: gather, inner products, loss and the user's gradient in one pass.

Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback" (UAI'09); see ``pairwise``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fastkd.kernels.reference import pairwise_from_embeddings as reference
from fastkd.ops._checks import check_constant, check_number, check_range
from fastkd.ops._dispatch import choose
from fastkd.ops._listwise import check_tables, define_listwise
from fastkd.ops._refuse import WEIGHT, list_reads, refuse_empty, refuse_nan, refuse_outside
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.pairwise import check_kind, pairwise

_native = define_listwise(
    "pairwise_from_embeddings",
    "Tensor positive_ids, Tensor negative_ids, Tensor? weights, str loss, float margin",
    lists=2,
)


def pairwise_from_embeddings(
    users: Tensor,
    items: Tensor,
    positive_ids: Tensor,
    negative_ids: Tensor,
    *,
    loss: Literal["bpr", "margin"] = "bpr",
    margin: float = 1.0,
    weights: Tensor | None = None,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return :func:`fastkd.ops.pairwise` of the inner products of users with their listed items.

    ``users``: Float[B, D]. ``items``: Float[N, D], the whole table. ``positive_ids``: Int64[B] (or int32).
    ``negative_ids``: Int64[B, n] (or int32). -1 is padding, repeated ids are allowed.
    ``weights``: Float[B, n]. The rest as in :func:`fastkd.ops.pairwise`.
    ``validate``: refuse n = 0 and ids outside [-1, N), see :func:`fastkd.ops.gather_dot`; on the CPU also negative
    weights, and a loss that comes out NaN, naming the NaN or infinity that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.

    Returns Float[B]. Raises what :func:`fastkd.ops.pairwise` and :func:`fastkd.ops.gather_dot` raise.
    """
    check_tables(users, items, ("positive_ids", positive_ids, "B"), ("negative_ids", negative_ids, "B n"))
    check_constant("weights", weights, "negative_ids", negative_ids)
    check_kind(loss)
    margin = check_number("margin", margin)
    chosen = choose("pairwise_from_embeddings", backend, users.device.type)
    if validate:
        refuse_empty("negative_ids", negative_ids)
        refuse_outside("weights", weights, WEIGHT, lambda: (positive_ids >= 0).unsqueeze(1) & (negative_ids >= 0))
    first = positive_ids.unsqueeze(1)
    if chosen == "reference":
        rows = _reference(
            users, items, first, negative_ids, weights, loss, margin, validate=validate, sparse_grad=sparse_grad
        )
    else:
        rows = _native(
            users, items, first, negative_ids, weights, loss, margin, validate, chosen, sparse_grad=sparse_grad
        )
    if validate:
        lists = (("positive_ids", first), ("negative_ids", negative_ids))
        refuse_nan(rows, lambda b: list_reads(b, users, items, lists, [("weights", weights, negative_ids)]))
    return rows


def _reference(
    users: Tensor, items: Tensor, positive_ids: Tensor, negative_ids: Tensor, weights: Tensor | None, loss: str,
    margin: float, *, validate: bool, sparse_grad: bool,
) -> Tensor:  # fmt: skip
    if validate:
        check_range("positive_ids", positive_ids, items.shape[0])
        check_range("negative_ids", negative_ids, items.shape[0])
    if not sparse_grad:
        return reference.pairwise_from_embeddings(
            users, items, positive_ids, negative_ids, weights, loss=loss, margin=margin
        )
    ids = torch.cat([positive_ids.long(), negative_ids.long()], 1)
    scores = gather_dot(users, items, ids, validate=False, sparse_grad=True, backend="reference")
    positive, negative = torch.split_with_sizes(scores, [1, negative_ids.shape[1]], 1)
    kind: Literal["bpr", "margin"] = "bpr" if loss == "bpr" else "margin"
    return pairwise(positive.squeeze(1), negative, loss=kind, margin=margin, weights=weights, backend="reference")
