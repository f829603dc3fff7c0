"""Relaxed Plackett-Luce loss from vectors: gather, inner products, loss and the user's gradient in one pass.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20); see ``relaxed_ranking``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference import relaxed_ranking_from_embeddings as reference
from fastkd.ops._checks import check_constant, check_range
from fastkd.ops._dispatch import choose
from fastkd.ops._listwise import check_tables, define_listwise
from fastkd.ops._refuse import WEIGHT, list_reads, refuse_empty, refuse_nan, refuse_outside
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.relaxed_ranking import relaxed_ranking

_native = define_listwise(
    "relaxed_ranking_from_embeddings", "Tensor ranked_ids, Tensor unranked_ids, Tensor? weights", lists=2
)


def relaxed_ranking_from_embeddings(
    users: Tensor,
    items: Tensor,
    ranked_ids: Tensor,
    unranked_ids: Tensor,
    *,
    weights: Tensor | None = None,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return :func:`fastkd.ops.relaxed_ranking` of the inner products of users with their listed items.

    ``loss_b = sum_k w_bk (log(sum_{j>=k} exp(r_bj) + sum_l exp(u_bl)) - r_bk)``, with ``r_bk = <users_b, items_i>`` for
    ``i = ranked_ids[b, k]``, and u likewise from ``unranked_ids``.

    ``users``: Float[B, D], one vector per row. ``items``: Float[N, D], the whole table.
    ``ranked_ids``: Int64[B, K] (or int32), best first. ``unranked_ids``: Int64[B, L]; L may be 0, which is ListMLE.
    In both, -1 is padding and repeated ids are allowed.
    ``weights``: w >= 0, Float[B, K], 1 if left out. A constant: it gets no gradient.
    ``validate``: refuse K = 0 and ids outside [-1, N), see :func:`fastkd.ops.gather_dot`; on the CPU also
    negative weights, and a loss that comes out NaN, naming the NaN or infinity that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns Float[B] in the dtype of the tables, float32 at least. Nothing of size B x (K + L) x D is made, save by the
    reference. Gradients have the same bits in every run.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    """
    check_tables(users, items, ("ranked_ids", ranked_ids, "B K"), ("unranked_ids", unranked_ids, "B L"))
    check_constant("weights", weights, "ranked_ids", ranked_ids)
    chosen = choose("relaxed_ranking_from_embeddings", backend, users.device.type)
    lists = (("ranked_ids", ranked_ids), ("unranked_ids", unranked_ids))
    if validate:
        refuse_empty("ranked_ids", ranked_ids)
        refuse_outside("weights", weights, WEIGHT, lambda: ranked_ids >= 0)
    if chosen == "reference":
        loss = _reference(users, items, ranked_ids, unranked_ids, weights, validate=validate, sparse_grad=sparse_grad)
    else:
        loss = _native(users, items, ranked_ids, unranked_ids, weights, validate, chosen, sparse_grad=sparse_grad)
    if validate:
        refuse_nan(loss, lambda b: list_reads(b, users, items, lists, [("weights", weights, ranked_ids)]))
    return loss


def _reference(
    users: Tensor, items: Tensor, ranked_ids: Tensor, unranked_ids: Tensor, weights: Tensor | None,
    *, validate: bool, sparse_grad: bool,
) -> Tensor:  # fmt: skip
    if validate:
        check_range("ranked_ids", ranked_ids, items.shape[0])
        check_range("unranked_ids", unranked_ids, items.shape[0])
    if not sparse_grad:
        return reference.relaxed_ranking_from_embeddings(users, items, ranked_ids, unranked_ids, weights)
    ids = torch.cat([ranked_ids, unranked_ids], 1)
    scores = gather_dot(users, items, ids, validate=False, sparse_grad=True, backend="reference")
    ranked, unranked = torch.split_with_sizes(scores, [ranked_ids.shape[1], unranked_ids.shape[1]], 1)
    return relaxed_ranking(ranked, unranked, weights=weights, backend="reference")
