"""What the losses over a whole catalogue share: exclusions, checks, and one pattern of native op.

A native op returns (value [B], unit gradient of users [B, D], and what makes a softmax again from a score:
``top`` [B], ``share`` [B] with ``p_bi = share_b exp(z_bi - top_b)``). Its backward returns the gradient of items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.ops._checks import (
    check_device,
    check_float,
    check_ids,
    check_number,
    check_one_dtype,
    check_range,
    check_rows,
    readable,
)
from fastkd.ops._library import (
    below_autograd,
    compute_dtype,
    define,
    launch,
    needs_gradient,
    once,
    record,
    scale_rows,
    shortcut,
)
from fastkd.ops._refuse import TOLERANCE
from fastkd.ops.rank_topk import check_exclude

Exclude = Interactions | tuple[Interactions, Tensor] | Tensor | None
Op = Callable[..., Any]


def check_tables(users: Tensor, items: Tensor, names: tuple[str, str] = ("users", "items")) -> None:
    """Refuse tables that are no matrices of one width on one device."""
    check_float(names[0], users, "B D")
    check_float(names[1], items, "N D")
    check_device(names[0], users, names[1], items)
    check_one_dtype(names[0], users, names[1], items)
    if users.shape[1] != items.shape[1]:
        shapes = f"{list(users.shape)} and {list(items.shape)}"
        raise ValueError(f"{names[0]} and {names[1]} must have the same width D, got {shapes}")


def scale_of(temperature: float) -> float:
    """Return 1 / temperature; refuse what is not a positive finite number."""
    return 1.0 / check_number("temperature", temperature, positive=True)


def check_bias(item_bias: Tensor | None, items: Tensor) -> None:
    """Refuse a bias that is not one constant for each item."""
    if item_bias is None:
        return
    check_float("item_bias", item_bias, "N")
    check_device("items", items, "item_bias", item_bias)
    if item_bias.shape[0] != items.shape[0]:
        raise ValueError(f"item_bias must have one value for each of {items.shape[0]} items, got {len(item_bias)}")
    if needs_gradient(item_bias):
        raise ValueError("item_bias is a constant of this loss and gets no gradient; pass item_bias.detach()")


def exclusion(
    exclude: Exclude, users: Tensor, num_items: int, *, validate: bool
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return (bounds Int64[B, 2], indices): ``indices[bounds[b, 0] : bounds[b, 1]]`` are left out, ascending.

    Padding is an id past the catalogue.
    """
    if exclude is None:
        return None, None
    if isinstance(exclude, tuple):
        return _rows_of(*exclude, users, num_items, validate=validate)
    if isinstance(exclude, Interactions):
        check_exclude(exclude, users.shape[0], num_items)
        indptr, indices = exclude.to_torch(users.device)
        return _row_ends(indptr).contiguous(), indices
    if not isinstance(exclude, Tensor):
        raise TypeError(
            "exclude must be Interactions, (Interactions, rows Int64[B]) or ids Int64[B E], "
            f"got {type(exclude).__name__}"
        )
    check_ids("exclude", exclude, "B E")
    check_rows("users", users, "exclude", exclude)
    if validate:
        check_range("exclude", exclude, num_items)
    rows, width = exclude.shape
    ids = torch.where(exclude < 0, num_items, exclude.long()).sort(dim=1).values
    if width == 0:
        return torch.zeros(rows, 2, dtype=torch.int64, device=ids.device), ids.reshape(-1)
    return _row_ends(torch.arange(0, rows * width + 1, width, device=ids.device)).contiguous(), ids.reshape(-1)


def _row_ends(indptr: Tensor) -> Tensor:
    """Return a view Int64[B, 2] of indptr Int64[B + 1]: where each row begins and ends."""
    return indptr.as_strided((indptr.shape[0] - 1, 2), (1, 1))


def _rows_of(
    interactions: Interactions, rows: Tensor, users: Tensor, num_items: int, *, validate: bool
) -> tuple[Tensor, Tensor]:
    """Return the exclusion that points into ``interactions``: nothing is gathered, whatever the rows' lengths."""
    check_exclude(interactions, interactions.num_users, num_items)
    check_ids("rows of exclude", rows, "B")
    check_rows("users", users, "rows of exclude", rows)
    if validate and rows.numel() and readable(rows):
        low, high = (int(row) for row in rows.aminmax())
        if low < 0 or high >= interactions.num_users:
            wrong = low if low < 0 else high
            raise ValueError(f"rows of exclude hold {wrong}, outside [0, {interactions.num_users})")
    indptr, indices = interactions.to_torch(users.device)
    return _row_ends(indptr)[rows], indices


def check_probabilities(ids: Tensor, probs: Tensor, tail_mass: float = 0.0) -> None:
    """Refuse probabilities outside [0, 1] and rows that do not sum to ``1 - tail_mass``; reads them."""
    if ids.numel() == 0 or not readable(ids, probs):
        return
    listed = ids >= 0
    probs = torch.where(listed, probs, 0).double()
    bad = ~((probs >= 0) & (probs <= 1 + TOLERANCE))
    if bad.any():
        row, column = (int(i) for i in bad.nonzero()[0])
        raise ValueError(f"target_probs[{row}, {column}] is {float(probs[row, column])}, not in [0, 1]")
    sums, wanted = probs.sum(1), 1 - tail_mass
    wrong = ((sums - wanted).abs() > TOLERANCE) & listed.any(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"target_probs of row {row} sum to {float(sums[row]):.6g}, expected 1 - tail_mass = {wanted:.6g}; "
            "normalise them, or pass validate=False to take them as they are"
        )


def define_catalogue(name: str, constants: str) -> Op:
    """Define ``fastkd::<name>`` and ``fastkd::<name>_backward`` and return a call that gives the value alone.

    ``constants``: schema of what comes between the tables and the exclusion, e.g. ``"Tensor ids, "``. Call it with
    (users, items, *constants, bounds, indices, bias, scale, backend).
    """
    middle = f"Tensor users, Tensor items, {constants}Tensor? bounds, Tensor? indices, Tensor? bias, "

    def implementation(*args: Any) -> Any:
        *tensors, scale, gradient, backend = args
        return launch(name, backend, args[0].device)(*tensors, scale=scale, gradient=gradient)

    def implementation_backward(*args: Any) -> Any:
        *tensors, scale, backend = args
        return launch(name, backend, args[1].device, f"{name}_backward")(*tensors, scale=scale)

    def fake(users: Tensor, items: Tensor, *others: Any) -> Any:
        def make(shape: Any) -> Tensor:
            return users.new_empty(shape, dtype=compute_dtype(users, items))

        gradient = others[-2]
        rows = users.shape[:1]
        return make(rows), make(users.shape if gradient else [0, 0]), make(rows), make(rows)

    def autograd(users: Tensor, items: Tensor, *others: Any) -> Any:
        if not needs_gradient(users, items):
            with below_autograd():
                return op(users, items, *others)
        *constants, scale, _, backend = others
        value = value_of(users, items, *constants, scale, backend)
        empty = value.new_empty
        return value, empty([0, 0]), empty([0]), empty([0])

    def value_of(users: Tensor, items: Tensor, *others: Any) -> Any:
        if needs_gradient(users, items):
            return record(_Catalogue, op, backward, others, users, items)
        with below_autograd():
            return op(users, items, *others[:-1], False, others[-1])[0]

    op = define(
        f"{name}({middle}float scale, bool gradient, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
        implementation=implementation,
        fake=fake,
        autograd=autograd,
    )
    backward = define(
        f"{name}_backward(Tensor upstream, {middle}Tensor top, Tensor share, float scale, str backend) -> Tensor",
        implementation=implementation_backward,
        fake=lambda upstream, users, items, *_: items.new_empty(items.shape),
    )
    return shortcut(lambda *args: op(*args[:-1], False, args[-1])[0], value_of)


class _Catalogue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: Op, backward: Op, others: tuple[Any, ...], users: Tensor, items: Tensor) -> Any:
        *constants, scale, backend = others
        with below_autograd():
            value, unit, top, share = op(users, items, *constants, scale, users.requires_grad, backend)
        ctx.save_for_backward(users, items, unit, top, share, *constants)
        ctx.native, ctx.scale, ctx.backend = backward, scale, backend
        return value

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        users, items, unit, top, share, *constants = ctx.saved_tensors
        user_grad = scale_rows(unit, upstream, users.dtype) if ctx.needs_input_grad[3] else None
        item_grad = None
        if ctx.needs_input_grad[4]:
            item_grad = ctx.native(upstream, users, items, *constants, top, share, ctx.scale, ctx.backend)
        return None, None, None, user_grad, item_grad
