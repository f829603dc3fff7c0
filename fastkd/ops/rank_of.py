"""Exact ranks of given items among the whole catalogue, without a sort."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.kernels.reference import rank_of as reference
from fastkd.ops._checks import check_device, check_float, check_ids, check_range, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.rank_topk import check_exclude


def rank_of(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    *,
    exclude: Interactions | None = None,
    item_bias: Tensor | None = None,
    validate: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return ``1 + #{i allowed : i ranks before ids[b, c]}``, the rank of each given item; 1 is the best.

    The order is that of :func:`fastkd.ops.rank_topk`: by score (inner product in float64 in order of d, rounded to
    float32; plus bias in float32), then lower id; NaN last. So ``rank_topk(users, items, k).ids[b, r]`` has rank
    ``r + 1``, to the last tie, on every backend. An item that is itself excluded gets the rank it would have if it
    alone were allowed again.

    Args:
        users: Float[B, D]; float32, float64, bfloat16 or float16, any strides.
        items: Float[N, D].
        ids: Int64[B, C] (or int32), rows of ``items``, in any order; they may repeat. -1 is padding, with rank 0.
        exclude: items left out of the count, row b for ``users[b]`` (``interactions.rows(ids)`` picks rows).
        item_bias: Float[N], added to every user's scores.
        validate: refuse ids outside [-1, N). On a GPU it waits for the device; without it such ids have rank 0. The
            reference checks nothing under ``torch.compile``.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns:
        Int64[B, C]; not differentiable. One sweep over the catalogue counts; nothing is sorted but the C given items,
        and memory beyond the tables is O(B C) and a tile.

    Raises:
        TypeError, ValueError: arguments that do not fit, ids out of range. BackendError: a backend that cannot run.
    """
    _check(users, items, ids, exclude, item_bias)
    dtype = torch.promote_types(users.dtype, items.dtype)
    users, items = users.detach().to(dtype), items.detach().to(dtype)
    bias = None if item_bias is None else item_bias.detach()
    indptr, indices = (None, None) if exclude is None else exclude.to_torch(users.device)
    chosen = choose("rank_of", backend, users.device.type)
    if chosen == "reference":
        if validate:
            check_range("ids", ids, len(items))
        ids = ids.where((ids >= 0) & (ids < len(items)), -1)
        return reference.rank_of(users, items, ids, indptr, indices, bias)
    ranks: Tensor = _native(users, items, ids, indptr, indices, bias, validate, chosen)
    return ranks


def _check(users: Tensor, items: Tensor, ids: Tensor, exclude: Interactions | None, item_bias: Tensor | None) -> None:
    check_float("users", users, "B D")
    check_float("items", items, "N D")
    check_ids("ids", ids, "B C")
    check_rows("users", users, "ids", ids)
    check_device("users", users, "items", items)
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"users and items must have the same width D, got {list(users.shape)} and {list(items.shape)}")
    check_exclude(exclude, users.shape[0], items.shape[0])
    if item_bias is not None:
        check_float("item_bias", item_bias, "N")
        check_device("items", items, "item_bias", item_bias)
        if item_bias.shape[0] != items.shape[0]:
            raise ValueError(f"item_bias must have one value for each of {items.shape[0]} items, got {len(item_bias)}")


def _launch(
    users: Tensor, items: Tensor, ids: Tensor, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    validate: bool, backend: str,
) -> Any:  # fmt: skip
    if validate:
        check_range("ids", ids, len(items))
    return launch("rank_of", backend, users.device)(users, items, ids, indptr, indices, bias)


def _fake(
    users: Tensor, items: Tensor, ids: Tensor, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    validate: bool, backend: str,
) -> Any:  # fmt: skip
    return users.new_empty(ids.shape, dtype=torch.int64)


_native = define(
    "rank_of(Tensor users, Tensor items, Tensor ids, Tensor? indptr, Tensor? indices, Tensor? bias, bool validate,"
    " str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
