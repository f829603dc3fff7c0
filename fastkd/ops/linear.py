"""A linear map of rows. Matrix products: torch's, large ones on the CPU ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.reference import linear as reference
from fastkd.ops._checks import check_device, check_float
from fastkd.ops._dispatch import choose, kernel
from fastkd.ops._library import unwatched

_SMALL = 1 << 22
"""Multiplications below which torch's product is called: ours gains less than a call costs."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str = "auto") -> Tensor:
    """Return ``y_n = W x_n + b``, as ``torch.nn.functional.linear`` does for a matrix.

    ``x`` Float[n, S]; ``weight`` W Float[T, S]; ``bias`` b Float[T] or None. Returns Float[n, T]; differentiable in
    all. From 2^22 multiplications on, in float32 on a CPU with 512-bit registers, the three products are
    fastkd's own (``fastkd bench linear``). ``backend``: ``"auto"``, or ``"reference"`` for torch's own everywhere.

    Raises ``TypeError``, ``ValueError`` for tensors that do not fit or an unknown backend.
    """
    _check(x, weight, bias)
    choose("linear", backend, x.device.type)
    if backend == "reference" or not _is_ours(x, weight, bias):
        return reference.linear(x, weight, bias)
    mapped: Tensor = _Linear.apply(x.contiguous(), weight.contiguous(), bias)  # type: ignore[no-untyped-call]
    return mapped


def _is_ours(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    # First, so that an exported program may have any number of rows. Whoever watches torch's operators (a dispatch
    # mode, a tensor subclass, ``torch.func``) or wants tangents sees them.
    if torch.compiler.is_compiling() or not unwatched(x, weight, bias):
        return False
    return (
        x.device.type == "cpu"
        and len(x) * weight.numel() >= _SMALL
        and (bias is None or bias.dtype == x.dtype)
        and not torch.is_autocast_enabled("cpu")
        and bool(kernel("_matmul", "numba").makes(x, weight))
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        y = x.new_empty(len(x), len(weight))
        if bias is not None:
            y.copy_(bias)
        # The weights turned: products with rows that lie in memory as they are read are the faster ones.
        kernel("_matmul", "numba").rows_by_columns(x, weight.T.contiguous(), y, add=bias is not None)
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (x, weight), gradient = ctx.saved_tensors, upstream[0]
        need_x, need_weight, need_bias = ctx.needs_input_grad
        d_bias = gradient.sum(0) if need_bias else None
        if torch.is_grad_enabled():
            # A second derivative is wanted: products that autograd knows.
            return gradient @ weight if need_x else None, gradient.T @ x if need_weight else None, d_bias
        products, gradient, d_x, d_weight = kernel("_matmul", "numba"), gradient.contiguous(), None, None
        if need_x:
            d_x = gradient.new_empty(len(gradient), weight.shape[1])
            products.rows_by_columns(gradient, weight, d_x, add=False)
        if need_weight:
            d_weight = gradient.new_zeros(gradient.shape[1], x.shape[1])
            products.add_columns_by_columns(gradient, x, d_weight)
        return d_x, d_weight, d_bias


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_float("x", x, "n S")
    check_float("weight", weight, "T S")
    check_device("x", x, "weight", weight)
    if bias is not None:
        check_float("bias", bias, "T")
        check_device("x", x, "bias", bias)
    if x.shape[1] != weight.shape[1] or (bias is not None and len(bias) != len(weight)):
        shapes = [None if t is None else list(t.shape) for t in (x, weight, bias)]
        raise ValueError(f"expected x [n, S], weight [T, S], bias [T] or None; got {shapes}")
