"""Scores of listed items, the base of every loss from embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.reference import gather_dot as reference
from fastkd.ops._checks import check_device, check_float, check_ids, check_one_dtype, check_range, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import compute_dtype, define, launch, needs_gradient, once, quick, record, shortcut
from fastkd.ops.row_gradient import row_gradient, sparse_gradient


def gather_dot(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    *,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return ``s_bc = sum_d users[b, d] * items[ids[b, c], d]``.

    ``users``: Float[B, D], one vector per row.
    ``items``: Float[N, D], the whole table.
    ``ids``: Int64[B, C] (or int32), rows of ``items``; -1 is padding: score -inf, no gradient.
    ``validate``: refuse ids outside [-1, N). The CPU kernels check as they go; on a GPU it waits for the device, so
    turn it off in a training loop whose ids are known to be right. Wrong ids then have undefined scores.
    The reference checks nothing under ``torch.compile``.
    ``sparse_grad``: give ``items``, which must be a leaf (a parameter), a row-sparse gradient: a sparse COO tensor of
    the listed rows (:func:`fastkd.ops.row_gradient`), for :mod:`fastkd.training.row_optimisers` or
    ``torch.optim.SparseAdam``. Then nothing of the table's size is written. ``torch.compile`` leaves such a call to
    Python; with ``fullgraph=True`` it refuses.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Tables have one dtype; under autocast they may differ, and the wider one counts.

    Returns Float[B, C] in the dtype of the tables, float32 at least. The gradient of ``items`` is dense by default, and
    has the same bits for any number of threads; no [B, C, D] is made, save by the reference. NaN in a vector makes its
    scores NaN.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    """
    if sparse_grad and torch.compiler.is_compiling():
        from fastkd.ops._uncompiled import uncompiled

        eager: Tensor = uncompiled(gather_dot, users, items, ids, validate=validate, sparse_grad=True, backend=backend)
        return eager
    check_float("users", users, "B D")
    check_float("items", items, "N D")
    check_ids("ids", ids, "B C")
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"users and items must have the same width D, got {list(users.shape)} and {list(items.shape)}")
    check_rows("users", users, "ids", ids)
    check_device("users", users, "items", items)
    check_one_dtype("users", users, "items", items)
    chosen = choose("gather_dot", backend, users.device.type)
    if chosen == "reference" and validate:
        check_range("ids", ids, items.shape[0])
    if sparse_grad and wants_rows(items):
        rows: Tensor = record(_GatherDotRows, users, items, ids, validate, chosen)
        return rows
    if chosen == "reference":
        return reference.gather_dot(users, items, ids)
    scores: Tensor = _call(users, items, ids, validate, chosen)
    return scores


class _GatherDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, ids: Tensor, validate: bool, backend: str) -> Any:
        scores = _direct(users, items, ids, validate, backend)
        ctx.save_for_backward(users, items, ids)
        ctx.backend = backend
        return scores

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        need_users, need_items = ctx.needs_input_grad[:2]
        users, items = _native_backward(upstream, *ctx.saved_tensors, need_users, need_items, ctx.backend)
        return users if need_users else None, items if need_items else None, None, None, None


class _GatherDotRows(torch.autograd.Function):
    """The same with a row-sparse gradient of the table."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, ids: Tensor, validate: bool, backend: str) -> Any:
        ctx.save_for_backward(users, items, ids)
        ctx.backend = backend
        if backend == "reference":
            return reference.gather_dot(users, items, ids)
        return _direct(users, items, ids, validate, backend)

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        users, items, ids = ctx.saved_tensors
        user_grad = _user_gradient(upstream, users, items, ids, ctx.backend) if ctx.needs_input_grad[0] else None
        known = ids.masked_fill(ids >= items.shape[0], -1)
        return user_grad, rows_of_table(users, items, known, upstream, ctx.backend), None, None, None


def _user_gradient(upstream: Tensor, users: Tensor, items: Tensor, ids: Tensor, backend: str) -> Any:
    if backend != "reference":
        return _native_backward(upstream, users, items, ids, True, False, backend)[0]
    with torch.enable_grad():
        leaf = users.detach().requires_grad_()
        scores = reference.gather_dot(leaf, items.detach(), ids)
    return torch.autograd.grad(scores, leaf, upstream)[0]


def wants_rows(items: Tensor) -> bool:
    """Return whether autograd records a row-sparse gradient of ``items``; refuse where there can be none."""
    if not needs_gradient(items):
        return False
    if not items.is_leaf:
        raise ValueError(
            "sparse_grad=True needs items to be a leaf (a parameter); these are computed from something else"
        )
    return True


def rows_of_table(users: Tensor, items: Tensor, ids: Tensor, coefficients: Tensor, backend: str) -> Tensor:
    """Return the row-sparse gradient of ``items`` as a sparse tensor in its dtype."""
    rows, values = row_gradient(users, ids, coefficients, backend=backend)
    return sparse_gradient(rows, values.to(items.dtype), items.shape[0])


def _autograd(users: Tensor, items: Tensor, *others: Any) -> Any:
    if needs_gradient(users, items):
        return record(_GatherDot, users, items, *others)
    return _direct(users, items, *others)


def _launch(users: Tensor, items: Tensor, ids: Tensor, validate: bool, backend: str) -> Any:
    return launch("gather_dot", backend, users.device)(users, items, ids, validate=validate)


def _launch_backward(
    upstream: Tensor, users: Tensor, items: Tensor, ids: Tensor, need_users: bool, need_items: bool, backend: str
) -> Any:
    launcher = launch("gather_dot", backend, users.device, "gather_dot_backward")
    return launcher(upstream, users, items, ids, need_users=need_users, need_items=need_items)


def _fake(users: Tensor, items: Tensor, ids: Tensor, validate: bool, backend: str) -> Any:
    return users.new_empty(ids.shape, dtype=compute_dtype(users, items))


def _fake_backward(
    upstream: Tensor, users: Tensor, items: Tensor, ids: Tensor, need_users: bool, need_items: bool, backend: str
) -> Any:
    return users.new_empty(users.shape if need_users else 0), items.new_empty(items.shape if need_items else 0)


_native = define(
    "gather_dot(Tensor users, Tensor items, Tensor ids, bool validate, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
    autograd=_autograd,
)
_call = shortcut(_native, _autograd)
_direct = quick(_native, _launch)
_native_backward = define(
    "gather_dot_backward(Tensor upstream, Tensor users, Tensor items, Tensor ids, bool need_users, bool need_items,"
    " str backend) -> (Tensor, Tensor)",
    implementation=_launch_backward,
    fake=_fake_backward,
)
