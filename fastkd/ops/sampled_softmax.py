"""Softmax cross entropy over targets and drawn negatives: the whole catalogue's, estimated."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference import sampled_softmax as reference
from fastkd.ops._catalogue import check_probabilities, check_tables, scale_of
from fastkd.ops._checks import check_constant, check_device, check_ids, check_rows
from fastkd.ops._refuse import FINITE, list_reads, refuse_nan, refuse_outside
from fastkd.ops.gather_dot import gather_dot


def sampled_softmax(
    users: Tensor,
    items: Tensor,
    target_ids: Tensor,
    negative_ids: Tensor,
    *,
    target_probs: Tensor | None = None,
    log_q: Tensor | None = None,
    temperature: float = 1.0,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return ``-sum_j q_bj log( e^{z_bj} / (sum_{i in targets} e^{z_bi} + sum_l e^{z_bl - log_q_bl}) )``.

    ``z = <users_b, items_i> / temperature``. With ``log_q`` the log of how often each negative is expected among the L
    draws (L times its probability under the sampler), the denominator is an unbiased estimate of the whole
    catalogue's: :func:`fastkd.ops.catalogue_softmax` is its limit. Without it, negatives count as they are.

    ``users``: Float[B, D]. ``items``: Float[N, D]. ``target_ids``: Int[B, K], ``negative_ids``: Int[B, L]; -1 is
    padding. A repeated target counts once in the denominator; a negative that is a target of its row counts as the
    target only. A repeated negative counts as often as it was drawn.
    ``target_probs``: Float[B, K], a constant; None spreads 1 evenly over a row's listed targets.
    ``log_q``: Float[B, L], a constant, finite. ``temperature``: positive.
    ``validate``: refuse ids out of range and probabilities that do not sum to one, for which a GPU is waited for; on
    the CPU also an infinite ``log_q``, and a loss that comes out NaN, naming the NaN or infinity that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.
    ``backend``: that of :func:`fastkd.ops.gather_dot`, which makes the scores.

    Returns Float[B], float32 at least; 0 for a row without targets. Differentiable to users and items.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    Sources: Jean et al. 2015 (arXiv 1412.2007); Yi et al. 2019 (RecSys, log-Q correction).
    """
    _check(users, items, target_ids, negative_ids, target_probs, log_q)
    scale = scale_of(temperature)
    if validate and target_probs is not None:
        check_probabilities(target_ids, target_probs)
    targets, order = target_ids.long().sort(dim=1)
    if validate:
        refuse_outside("log_q", log_q, FINITE, lambda: _counted(targets, negative_ids.long()))
    known = targets >= 0
    probs = known / known.sum(1, keepdim=True).clamp(min=1) if target_probs is None else target_probs.gather(1, order)
    ids = torch.cat([targets, negative_ids.long()], 1)
    scores = gather_dot(users, items, ids, validate=validate, sparse_grad=sparse_grad, backend=backend) * scale
    fresh = known.clone()
    fresh[:, 1:] &= targets[:, 1:] != targets[:, :-1]
    drawn = _negative_weights(targets, negative_ids.long(), log_q, scores)
    weights = torch.cat([_log_of(fresh, scores.dtype), drawn], 1)
    padded = torch.zeros_like(scores)
    padded[:, : probs.shape[1]] = torch.where(known, probs.to(scores.dtype), 0)
    loss = reference.sampled_softmax(torch.where(ids >= 0, scores, 0), weights, padded)
    if validate:
        constants = [("target_probs", target_probs, target_ids), ("log_q", log_q, negative_ids)]
        refuse_nan(loss, lambda b: list_reads(b, users, items, [("ids", ids)], constants))
    return loss


def _log_of(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where true, -inf where false."""
    return torch.zeros(kept.shape, dtype=dtype, device=kept.device).masked_fill(~kept, -torch.inf)


def _counted(targets: Tensor, negatives: Tensor) -> Tensor:
    """Return which negatives count: no padding, and no target of the row, ascending."""
    at = torch.searchsorted(targets, negatives.contiguous()).clamp(max=targets.shape[1] - 1)
    return (negatives >= 0) & (targets.gather(1, at) != negatives)


def _negative_weights(targets: Tensor, negatives: Tensor, log_q: Tensor | None, scores: Tensor) -> Tensor:
    kept = _counted(targets, negatives)
    weights = _log_of(kept, scores.dtype)
    return weights if log_q is None else torch.where(kept, -log_q.to(scores.dtype), weights)


def _check(
    users: Tensor, items: Tensor, target_ids: Tensor, negative_ids: Tensor, probs: Tensor | None, log_q: Tensor | None
) -> None:
    check_tables(users, items)
    for name, ids in (("target_ids", target_ids), ("negative_ids", negative_ids)):
        check_ids(name, ids, "B K" if name == "target_ids" else "B L")
        check_rows("users", users, name, ids)
        check_device("users", users, name, ids)
    if target_ids.shape[1] == 0:
        raise ValueError(f"target_ids must list an item per user at least (K >= 1), got {list(target_ids.shape)}")
    check_constant("target_probs", probs, "target_ids", target_ids)
    check_constant("log_q", log_q, "negative_ids", negative_ids)
