"""Pairwise losses of one positive against n negatives.

BPR: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback" (UAI'09).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.kernels.reference import pairwise as reference
from fastkd.ops._checks import check_constant, check_float, check_ids, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss
from fastkd.ops._refuse import list_reads, refuse_empty, refuse_nan
from fastkd.ops.gather_dot import gather_dot

_LOSSES = ("bpr", "margin")
_native = define_row_loss(
    "pairwise(Tensor positive, Tensor negative, Tensor? weights, str loss, float margin, bool gradient, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    differentiable=2,
)


def pairwise(
    positive: Tensor,
    negative: Tensor,
    *,
    loss: Literal["bpr", "margin"] = "bpr",
    margin: float = 1.0,
    weights: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``loss_b = mean_j w_bj l(positive_b - negative_bj)``.

    ``positive``: Float[B], scores of the items that should win.
    ``negative``: Float[B, n], scores of the items that should lose.
    ``loss``: ``"bpr"``: l(x) = -log sigma(x); ``"margin"``: l(x) = max(0, margin - x), slope 0 at x = margin.
    ``margin``: finite; used by ``"margin"`` alone.
    ``weights``: w, Float[B, n], 1 if left out. A constant: it gets no gradient, and does not change the divisor.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    A score of -inf is padding: the mean is over the pairs that have both scores, and a row without any has loss 0 and
    gradient 0. Scores may be of any size; NaN makes the loss of its row NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. Gradients have the dtype of their input.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("positive", positive, "B")
    check_float("negative", negative, "B n")
    check_rows("positive", positive, "negative", negative)
    check_constant("weights", weights, "negative", negative)
    if loss not in _LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {loss!r}.{did_you_mean(str(loss), _LOSSES)}")
    if not -math.inf < margin < math.inf:
        raise ValueError(f"margin must be a finite number, got {margin!r}")
    chosen = choose("pairwise", backend, positive.device.type)
    if chosen == "reference":
        return reference.pairwise(positive, negative, weights, loss=loss, margin=margin)
    return _native(positive, negative, weights, loss, margin, False, chosen)


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
    """Return :func:`pairwise` of the inner products of users with their listed items.

    ``users``: Float[B, D]. ``items``: Float[N, D], the whole table. ``positive_ids``: Int64[B] (or int32).
    ``negative_ids``: Int64[B, n], of the same dtype. -1 is padding.
    ``weights``: Float[B, n]. The rest as in :func:`pairwise`; ``validate`` as in :func:`fastkd.ops.gather_dot`.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.

    Returns Float[B]. Raises what :func:`pairwise` and :func:`fastkd.ops.gather_dot` raise.
    """
    check_ids("positive_ids", positive_ids, "B")
    check_ids("negative_ids", negative_ids, "B n")
    check_rows("positive_ids", positive_ids, "negative_ids", negative_ids)
    if validate:
        refuse_empty("negative_ids", negative_ids)
    ids = torch.cat([positive_ids.unsqueeze(1), negative_ids], 1)
    scores = gather_dot(users, items, ids, validate=validate, sparse_grad=sparse_grad, backend=backend)
    # split, not two slices: their gradients would each fill a tensor with zeros
    positive, negative = torch.split_with_sizes(scores, [1, negative_ids.shape[1]], 1)
    rows = pairwise(positive.squeeze(1), negative, loss=loss, margin=margin, weights=weights, backend=backend)
    if validate:
        refuse_nan(rows, lambda b: list_reads(b, users, items, [("ids", ids)], [("weights", weights, negative_ids)]))
    return rows
