"""Losses of a list of ids, from vectors: scores, loss and gradients of a row in one native pass.

The gradient of the item table is kept as (keys, coefficients), dloss/dscore of every listed item, and summed into rows
in the backward pass alone; so other ways to sum it (row-sparse, fused with an optimiser) start from the same two.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.ops._checks import IDS, check_device, check_float, check_ids, check_one_dtype, check_rows
from fastkd.ops._library import (
    Op,
    below_autograd,
    compute_dtype,
    define,
    launch,
    needs_gradient,
    once,
    quick,
    record,
)
from fastkd.ops.gather_dot import rows_of_table, wants_rows


def check_tables(users: Tensor, items: Tensor, *lists: tuple[str, Tensor, str]) -> None:
    """Refuse tables and lists of ids, each (name, ids, axes), that do not fit together."""
    if _fit(users, items, lists):
        return
    check_float("users", users, "B D")
    check_float("items", items, "N D")
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"users and items must have the same width D, got {list(users.shape)} and {list(items.shape)}")
    check_device("users", users, "items", items)
    check_one_dtype("users", users, "items", items)
    for name, listed, axes in lists:
        check_ids(name, listed, axes)
        check_rows("users", users, name, listed)


def _fit(users: Tensor, items: Tensor, lists: tuple[tuple[str, Tensor, str], ...]) -> bool:
    """Return whether all is as it mostly is, found in half the time that it takes to say what is not."""
    if not (isinstance(users, Tensor) and isinstance(items, Tensor) and users.dim() == 2 and items.dim() == 2):
        return False
    device, (rows, width) = users.device, users.shape
    if not users.is_floating_point() or users.dtype is not items.dtype:
        return False
    if items.shape[1] != width or items.device != device:
        return False
    for _, ids, axes in lists:
        if not isinstance(ids, Tensor) or ids.dtype not in IDS or ids.dim() != axes.count(" ") + 1:
            return False
        if ids.shape[0] != rows or ids.device != device:
            return False
    return True


def key_dtype(items: Tensor) -> torch.dtype:
    """Return the dtype of keys: int32 where it holds the table's ids."""
    return torch.int32 if items.shape[0] < 2**31 else torch.int64


def define_listwise(name: str, arguments: str, *, lists: int) -> Op:
    """Define the loss ``name`` of users, items, ``lists`` tensors of ids, and constants, and return it.

    ``arguments``: what follows users and items, in a torch schema: ``"Tensor ids, Tensor teacher, float temperature"``.
    The op is called with these, then ``validate``, then the backend.
    With ``sparse_grad=True`` the items get a row-sparse gradient.
    Launchers: ``kernels/<backend>/<name>.py: name(users, items, ..., validate=, need_users=, need_items=) -> (loss [B],
    coefficients [B, W], keys [B, W], unit user gradients [B, D])`` and ``<name>_backward(upstream, coefficients, keys,
    unit_users, users, items, need_users=, need_items=)``. A key is an id, or -1 for nobody's.
    """

    def implementation(*args: Any) -> Any:
        *values, validate, need_users, need_items, backend = args
        launcher = launch(name, backend, values[0].device)
        return launcher(*values, validate=validate, need_users=need_users, need_items=need_items)

    def implementation_backward(*args: Any) -> Any:
        *values, need_users, need_items, backend = args
        launcher = launch(name, backend, values[0].device, f"{name}_backward")
        return launcher(*values, need_users=need_users, need_items=need_items)

    def fake(*args: Any) -> Any:
        users, items, need_users, need_items = args[0], args[1], args[-3], args[-2]
        shape = (users.shape[0], sum(t.shape[1] for t in args[2 : 2 + lists]))
        dtype = compute_dtype(users, items)
        return (
            users.new_empty(shape[:1], dtype=dtype),
            users.new_empty(shape if need_users or need_items else (0, 0), dtype=dtype),
            users.new_empty(shape if need_items else (0, 0), dtype=key_dtype(items)),
            users.new_empty(users.shape if need_users else (0, 0), dtype=dtype),
        )

    def fake_backward(
        upstream: Tensor, coefficients: Tensor, keys: Tensor, unit_users: Tensor, users: Tensor, items: Tensor,
        need_users: bool, need_items: bool, backend: str,
    ) -> Any:  # fmt: skip
        return users.new_empty(users.shape if need_users else 0), items.new_empty(items.shape if need_items else 0)

    def autograd(*args: Any) -> Any:
        if not needs_gradient(args[0], args[1]):
            with below_autograd():
                return op(*args)
        users, items = args[:2]
        empty = users.new_empty((0, 0), dtype=compute_dtype(users, items))
        return loss_of(*args), empty, users.new_empty((0, 0), dtype=key_dtype(items)), torch.empty_like(empty)

    def loss_of(*args: Any) -> Any:
        if needs_gradient(args[0], args[1]):
            return record(_Listwise, args[0], args[1], direct, backward, (*args[2:-3], args[-1]))
        return direct(*args)[0]

    flags = "bool validate, bool need_users, bool need_items, str backend"
    op = define(
        f"{name}(Tensor users, Tensor items, {arguments}, {flags}) -> (Tensor, Tensor, Tensor, Tensor)",
        implementation=implementation, fake=fake, autograd=autograd,
    )  # fmt: skip
    direct = quick(op, implementation)
    backward = define(
        f"{name}_backward(Tensor upstream, Tensor coefficients, Tensor keys, Tensor unit_users, Tensor users,"
        " Tensor items, bool need_users, bool need_items, str backend) -> (Tensor, Tensor)",
        implementation=implementation_backward, fake=fake_backward,
    )  # fmt: skip

    def call(*args: Any, sparse_grad: bool = False) -> Any:
        # In eager mode the dispatcher would only call ``autograd``, four microseconds later. The compiler sees the op.
        users, items = args[0], args[1]
        if sparse_grad and torch.compiler.is_compiling():
            from fastkd.ops._uncompiled import uncompiled

            return uncompiled(call, *args, sparse_grad=True)
        if sparse_grad and wants_rows(items):
            return record(_RowListwise, users, items, op, backward, args[2:])
        if not torch.compiler.is_compiling():
            if needs_gradient(users, items):
                return record(_Listwise, users, items, direct, backward, args[2:])
            return direct(*args[:-1], False, False, args[-1])[0]
        return op(*args[:-1], False, False, args[-1])[0]

    return call


class _Listwise(torch.autograd.Function):
    """Forward keeps coefficients, keys and unit user gradients; backward scales, and sums into rows."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, op: Op, backward: Op, others: tuple[Any, ...]) -> Any:
        # What is constant comes as one argument: autograd looks at each.
        *constants, backend = others
        need_users, need_items = ctx.needs_input_grad[:2]
        loss, *kept = op(users, items, *constants, need_users, need_items, backend)
        ctx.save_for_backward(*kept, users, items)
        ctx.op, ctx.backend = backward, backend
        return loss

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        need_users, need_items = ctx.needs_input_grad[:2]
        users, items = ctx.op(upstream, *ctx.saved_tensors, need_users, need_items, ctx.backend)
        return users if need_users else None, items if need_items else None, None, None, None


class _RowListwise(_Listwise):
    """The same with a row-sparse gradient of the table."""

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        need_users = ctx.needs_input_grad[0]
        coefficients, keys, _, users, items = ctx.saved_tensors
        user_grad = ctx.op(upstream, *ctx.saved_tensors, True, False, ctx.backend)[0] if need_users else None
        scaled = coefficients * upstream.unsqueeze(1)
        return user_grad, rows_of_table(users, items, keys, scaled, ctx.backend), None, None, None
