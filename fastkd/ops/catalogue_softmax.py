"""Cross entropy between a sparse teacher distribution and the student's softmax over the whole catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference import catalogue_softmax as reference
from fastkd.kernels.reference._catalogue import entries
from fastkd.ops._catalogue import (
    Exclude,
    check_bias,
    check_probabilities,
    check_tables,
    define_catalogue,
    exclusion,
    scale_of,
)
from fastkd.ops._checks import check_constant, check_ids, check_number, check_range, check_rows, readable
from fastkd.ops._dispatch import choose
from fastkd.ops._refuse import catalogue_reads, refuse_nan


def catalogue_softmax(
    users: Tensor,
    items: Tensor,
    target_ids: Tensor,
    target_probs: Tensor,
    *,
    temperature: float = 1.0,
    exclude: Exclude = None,
    tail_mass: float = 0.0,
    item_bias: Tensor | None = None,
    validate: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return ``-sum_i q_bi log p_bi`` with ``p_b = softmax_i(<users_b, items_i> / temperature + item_bias_i)``.

    The softmax runs over all items of the catalogue that are not excluded. The teacher's q_b gives
    ``target_probs[b, j]`` to item ``target_ids[b, j]`` and spreads ``tail_mass`` evenly over the allowed items that
    are not listed. ``KL(q_b || p_b)`` is this less q's entropy, a constant: the gradients are the same.

    ``users``: Float[B, D]. ``items``: Float[N, D]. ``target_ids``: Int[B, K]; -1 is padding; a repeated item has the
    sum of its probabilities. ``target_probs``: Float[B, K], a constant; a row sums to ``1 - tail_mass``.
    ``temperature``: positive, divides the student's scores; there is no factor T^2.
    ``exclude``: as in :func:`fastkd.ops.catalogue_logsumexp`. ``tail_mass``: in [0, 1).
    ``item_bias``: Float[N], a constant. A row without targets is padding: loss 0, gradient 0, no tail.
    ``validate``: refuse ids out of range, probabilities that are negative or do not sum up (to 1e-3), targets that are
    excluded, a tail with nowhere to go; on a GPU it waits for the device, and under ``torch.compile`` it is left out.
    On the CPU a loss that comes out NaN is refused too, naming the NaN or infinity that made it.
    Without it, sums are taken as they are, and an excluded target is missing from the denominator only.

    Returns Float[B], float32 at least. One sweep gives the loss and the gradient of users, a second one that of items
    (dense, one owner per row, same bits in every run); no [B, N] is made, save by the reference.

    Raises TypeError, ValueError: as above. BackendError: a backend that cannot run.
    Sources: Hinton et al. 2015 (arXiv 1503.02531); the sweeps as in Wijmans et al. 2024 (arXiv 2411.09009).
    """
    _check(users, items, target_ids, target_probs, item_bias)
    scale, rows = scale_of(temperature), items.shape[0]
    tail_mass = check_tail(tail_mass)
    bounds, indices = exclusion(exclude, users, rows, validate=validate)
    if validate and readable(target_ids, target_probs):
        check_range("target_ids", target_ids, rows)
        check_probabilities(target_ids, target_probs, tail_mass)
        _check_allowed(target_ids, target_probs, bounds, indices, rows)
    uniform, ids, coefficients = None, target_ids, target_probs
    if tail_mass:
        uniform, ids, coefficients = _tail(target_ids, target_probs, exclude, tail_mass, rows, validate=validate)
    chosen = choose("catalogue_softmax", backend, users.device.type)
    arguments = (users, items, ids, coefficients, uniform, bounds, indices, item_bias)
    if chosen == "reference":
        loss = reference.catalogue_softmax(*arguments, scale=scale)
    else:
        loss = _call(*arguments, scale, chosen)
    if validate:
        tables = [("users", users, "items", items)]
        refuse_nan(loss, lambda b: catalogue_reads(b, tables, bounds, indices, item_bias))
    return loss


def _check(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor, item_bias: Tensor | None) -> None:
    check_tables(users, items)
    check_ids("target_ids", ids, "B K")
    check_rows("users", users, "target_ids", ids)
    check_constant("target_probs", probs, "target_ids", ids)
    check_bias(item_bias, items)
    if ids.shape[1] == 0:
        raise ValueError(f"target_ids must list at least one item per user (K >= 1), got shape {list(ids.shape)}")


def check_tail(tail_mass: float) -> float:
    """Return the mass of a tail; refuse what is no number in [0, 1)."""
    mass = check_number("tail_mass", tail_mass)
    if not 0 <= mass < 1:
        raise ValueError(f"tail_mass must be in [0, 1), got {tail_mass!r}")
    return mass


def _check_allowed(ids: Tensor, probs: Tensor, bounds: Tensor | None, indices: Tensor | None, count: int) -> None:
    if bounds is None or indices is None:
        return
    rows, at = entries(bounds)
    targets = torch.arange(len(ids), device=ids.device).unsqueeze(1) * (count + 1) + ids
    hit = torch.isin(targets, rows * (count + 1) + indices[at]) & (ids >= 0) & (probs > 0)
    if hit.any():
        row, column = (int(i) for i in hit.nonzero()[0])
        raise ValueError(
            f"target_ids[{row}, {column}] is item {int(ids[row, column])}, which is excluded for that user: its "
            "probability under the student is 0; drop it from the targets or from exclude"
        )


def _tail(
    ids: Tensor, probs: Tensor, exclude: Exclude, tail_mass: float, count: int, *, validate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tail as a number given to every item, and entries that take it from listed and excluded ones."""
    out = _padded(exclude, ids)
    targets, order = ids.long().sort(dim=1)
    first, out_first = _firsts(targets), _firsts(out)
    rest = count - first.sum(1) - out_first.sum(1)
    padding = ~first.any(1)
    if validate and readable(ids) and bool(((rest <= 0) & ~padding).any()):
        row = int(((rest <= 0) & ~padding).nonzero()[0])
        raise ValueError(f"tail_mass {tail_mass} of row {row} has nowhere to go: every allowed item is a target")
    share = tail_mass / rest.clamp(min=1).double()
    share = torch.where((rest <= 0) | padding, 0, share).to(torch.promote_types(probs.dtype, torch.float32))
    taken = share.unsqueeze(1)
    listed = probs.gather(1, order) - torch.where(first, taken, 0)
    return share, torch.cat([targets, out], 1), torch.cat([listed, -torch.where(out_first, taken, 0)], 1)


def _firsts(ascending: Tensor) -> Tensor:
    """Return which ids are the first of their value in a row, padding never."""
    fresh = torch.ones_like(ascending, dtype=torch.bool)
    fresh[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    return fresh & (ascending >= 0)


def _padded(exclude: Exclude, ids: Tensor) -> Tensor:
    """Return the excluded items as ascending ids Int64[B, E], padded with -1."""
    if exclude is None:
        return ids.new_empty((ids.shape[0], 0), dtype=torch.int64)
    if isinstance(exclude, Tensor):
        return exclude.long().sort(dim=1).values
    interactions, rows = exclude if isinstance(exclude, tuple) else (exclude, torch.arange(len(ids), device=ids.device))
    indptr, indices = interactions.to_torch(ids.device)
    width = int(interactions.degrees().max(initial=0))
    at = indptr[rows].unsqueeze(1) + torch.arange(width, device=ids.device)
    inside = at < indptr[rows + 1].unsqueeze(1)
    if width == 0:
        return at
    return torch.where(inside, indices[at.clamp(max=len(indices) - 1)].long(), -1)


_call = define_catalogue("catalogue_softmax", "Tensor ids, Tensor coefficients, Tensor? uniform, ")
