"""Exact top-K of the whole catalogue for each user, seen items left out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.kernels.reference import rank_topk as reference
from fastkd.ops._checks import check_device, check_float, check_integer
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch, quick


class TopK(NamedTuple):
    """Ranked lists: ``scores`` Float32[B, K] and ``ids`` Int64[B, K], best first; padding -inf and -1 at the end."""

    scores: Tensor
    ids: Tensor


def rank_topk(
    users: Tensor,
    items: Tensor,
    k: int,
    *,
    exclude: Interactions | None = None,
    item_bias: Tensor | None = None,
    precision: Literal["exact", "fast"] = "exact",
    check: bool = False,
    backend: str = "auto",
) -> TopK:
    """Return each user's ``k`` best items by ``s_ui = <users[u], items[i]> + item_bias[i]``.

    The score is the inner product accumulated in float64 (in order of d), rounded to float32; plus bias, in float32.
    Items rank by higher score, then lower id. So a user's ids and the bits of his scores are the same for every batch
    he comes in, number of threads and backend. NaN ranks after -inf and before padding, by id: an item whose vector
    holds NaN comes last for everybody, a user whose vector does gets NaN scores and the lowest ids, and the others
    lose nothing by either. ``inf - inf`` and ``0 * inf`` are NaN too.

    Args:
        users: Float[B, D]; float32, float64, bfloat16 or float16, any strides.
        items: Float[N, D], of the same dtype: to widen a catalogue silently would copy it.
        k: results per user, 0 <= k <= N.
        exclude: items left out, row b for ``users[b]`` (``interactions.rows(ids)`` picks rows); never returned.
        item_bias: Float[N], added to every user's scores; an item at -inf is allowed and ranks behind all finite ones.
        precision: ``"exact"`` ranks the vectors given. ``"fast"`` ranks float32 and float64 vectors rounded to bfloat16
            (float64 by way of float32), exactly and alike on every backend. Each factor is off by at most 1/257 of
            itself, so a score by at most ``2**-7 * sum_d |u_d v_d|`` (and a rounding of the bias, ``2**-23 |bias|``),
            for values whose size is 0 or in [2^-126, 3.38e38]. Half-precision vectors: the same as ``"exact"``.
        check: refuse NaN and infinities in ``users`` and ``items`` and NaN in ``item_bias``, naming the first. Reads
            both tables once, and on a GPU waits for the answer; without it nothing is read twice and nothing waits.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns:
        :class:`TopK`; not differentiable. A row with fewer than ``k`` allowed items ends in id -1, score -inf. Memory
        beyond the tables is O(B k) and a tile per thread; no table is copied. What a call will do, and what its filter
        proves: :func:`fastkd.ops.explain_rank_topk`.

    Raises:
        TypeError: tables of different dtypes or not of floats, a ``k`` or ``exclude`` of another type.
        ValueError: shapes and devices that do not fit, or values that ``check`` refuses, with the first user or item.
        BackendError: a backend that cannot run here.
    """
    k = _check(users, items, k, exclude, item_bias)
    check_precision(precision)
    if check and not users.is_meta:
        _check_values(users, items, item_bias)
    dtype = users.dtype
    users, items = users.detach(), items.detach()
    if users.shape[1] == 0:  # the empty sum is 0, and kernels need not know
        users, items = users.new_zeros((len(users), 1)), items.new_zeros((len(items), 1))
    fast = precision == "fast" and dtype in (torch.float32, torch.float64)
    bias = None if item_bias is None else item_bias.detach()
    indptr, indices = (None, None) if exclude is None else exclude.to_torch(users.device)
    chosen = choose("rank_topk", backend, users.device.type)
    if chosen == "reference":
        return TopK(*reference.rank_topk(users, items, k, indptr, indices, bias, fast))
    # A server asks for one short list at a time: the dispatcher would be a seventh of it.
    run = _native if torch.compiler.is_compiling() else _direct
    return TopK(*run(users, items, k, indptr, indices, bias, fast, chosen))


def _check(users: Tensor, items: Tensor, k: int, exclude: Interactions | None, item_bias: Tensor | None) -> int:
    check_float("users", users, "B D")
    check_float("items", items, "N D")
    check_device("users", users, "items", items)
    if users.dtype != items.dtype:
        raise TypeError(
            f"users and items must have one dtype, got users {users.dtype} and items {items.dtype}; "
            f"convert one of them, for example users.to({items.dtype})"
        )
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"users and items must have the same width D, got {list(users.shape)} and {list(items.shape)}")
    k = check_k(k, items.shape[0])
    check_exclude(exclude, users.shape[0], items.shape[0])
    if item_bias is not None:
        check_float("item_bias", item_bias, "N")
        check_device("items", items, "item_bias", item_bias)
        if item_bias.shape[0] != items.shape[0]:
            raise ValueError(f"item_bias must have one value for each of {items.shape[0]} items, got {len(item_bias)}")
    return k


def check_k(k: int, num_items: int) -> int:
    """Return a list length as an int; refuse what is no integer in [0, num_items]."""
    k = check_integer("k", k)
    if not 0 <= k <= num_items:
        raise ValueError(f"k must be in [0, {num_items}] for a catalogue of {num_items} items, got {k}")
    return k


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not."""
    if precision not in ("exact", "fast"):
        raise ValueError(f"precision must be 'exact' or 'fast', got {precision!r}")


def check_exclude(exclude: Interactions | None, rows: int, num_items: int) -> None:
    """Refuse exclusions that are not one row per user over the same catalogue."""
    if exclude is None:
        return
    if not isinstance(exclude, Interactions):
        raise TypeError(f"exclude must be Interactions, got {type(exclude).__name__}")
    if exclude.num_items != num_items:
        raise ValueError(f"exclude covers {exclude.num_items} items, the catalogue has {num_items}")
    if exclude.num_users != rows:
        raise ValueError(
            f"exclude has {exclude.num_users} rows for {rows} users; row b belongs to users[b]: "
            "pass exclude.rows(user_ids)"
        )


def _check_values(users: Tensor, items: Tensor, item_bias: Tensor | None) -> None:
    for name, table in (("user", users), ("item", items)):
        bad = (~table.isfinite()).any(dim=1)
        if bad.any():
            row = int(bad.int().argmax())
            values = table[row][~table[row].isfinite()]
            raise ValueError(f"{name} {row} has a vector that is not finite: it holds {values[0].item()}")
    if item_bias is not None and item_bias.isnan().any():
        raise ValueError(f"item_bias of item {int(item_bias.isnan().int().argmax())} is nan")


def _launch(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    fast: bool, backend: str,
) -> Any:  # fmt: skip
    return launch("rank_topk", backend, users.device)(users, items, k, indptr, indices, bias, fast)


def _fake(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    fast: bool, backend: str,
) -> Any:  # fmt: skip
    shape = (users.shape[0], k)
    return users.new_empty(shape, dtype=torch.float32), users.new_empty(shape, dtype=torch.int64)


_native = define(
    "rank_topk(Tensor users, Tensor items, SymInt k, Tensor? indptr, Tensor? indices, Tensor? bias, bool fast,"
    " str backend) -> (Tensor, Tensor)",
    implementation=_launch,
    fake=_fake,
)
_direct = quick(_native, _launch)
