"""Cross entropy of the softmax over the whole catalogue against sparse targets, on the CPU.

Shapes: B users, N items, D dimensions, K targets of a user. Four products of users x items x D in all: scores and
mean item vector in the forward sweep, scores and item gradient in the backward one; no [B, N] is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new
from fastkd.kernels.numba._catalogue_sweep import Exclusion, softmax_item_gradient, softmax_sums
from fastkd.kernels.numba._catalogue_targets import add_target_gradient, add_targets

Floats = NDArray[Any]


def catalogue_softmax(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    uniform: Tensor | None,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    *,
    scale: float,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (loss [B], its gradient to users [B, D] or [0, 0], top [B], share [B]).

    ``loss_b = sum_j c_bj (lse_b - z_bj) + uniform_b sum_i (lse_b - z_bi)``; see ``fastkd.ops._catalogue``.
    ``share_b exp(z_bi - top_b)`` is the softmax times the sum of all coefficients.
    """
    dtype = compute_dtype(users, items)
    scaled, table, biases = rows_of(users, dtype, scale), rows_of(items, dtype), bias_of(bias, dtype)
    exclusion = exclusion_of(bounds, indices, len(users))
    top, mass, mean = softmax_sums(scaled, table, exclusion, biases, mean=gradient)
    loss, total = np.zeros(len(users)), np.zeros(len(users))
    listed = np.zeros(mean.shape)
    if uniform is not None:
        spread = uniform.double().numpy()
        column = table.sum(0, dtype=torch.float64).numpy()
        dense = scaled.double().numpy() @ column + biases.sum(dtype=np.float64)
        with np.errstate(invalid="ignore"):
            # A row of padding spreads nothing, even over a catalogue of which it may take nothing.
            loss += np.where(spread == 0, 0, spread * (len(table) * top.astype(np.float64) - dense))
        total += spread * len(table)
        if gradient:
            listed -= spread[:, None] * column
    add_targets(scaled.numpy(), table.numpy(), biases, array(ids, ids.dtype), array(coefficients, dtype), top,
                (loss, total, listed))  # fmt: skip
    return _results(dtype, scale, (top, mass, mean), loss, total, listed)


def _results(
    dtype: torch.dtype, scale: float, sums: tuple[Floats, Floats, Floats], loss: Floats, total: Floats, listed: Floats
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    top, mass, mean = sums
    value, unit = new(top.shape, dtype=dtype), new(mean.shape, dtype=dtype)
    share = new(top.shape, dtype=dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        value[:] = np.where(total == 0, loss, loss + total * np.log(mass))
        share[:] = np.where(mass == 0, 0, total / mass)
    unit[:] = scale * (total[:, None] * mean + listed) if len(mean) == len(total) else 0
    return torch.from_numpy(value), torch.from_numpy(unit), torch.from_numpy(top), torch.from_numpy(share)


def catalogue_softmax_backward(
    upstream: Tensor,
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    uniform: Tensor | None,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    top: Tensor,
    share: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Return the gradient of ``sum_b upstream_b loss_b`` to items, Float[N, D] in their dtype."""
    dtype = compute_dtype(users, items)
    scaled, table, biases = rows_of(users, dtype, scale), rows_of(items, dtype), bias_of(bias, dtype)
    grad = upstream.detach().to(dtype)
    out = torch.from_numpy(new(items.shape, dtype=dtype))
    start = torch.zeros(items.shape[1], dtype=dtype)
    if uniform is not None:
        start = -(scaled.T @ (grad * uniform.to(dtype)))
    out[:] = start
    weight = torch.where(share == 0, 0, grad * share)
    exclusion = exclusion_of(bounds, indices, len(users))
    softmax_item_gradient(scaled, table, exclusion, biases, top.numpy(), weight.numpy(), out)
    add_target_gradient(
        scaled.numpy(), array(ids, ids.dtype), array(coefficients, dtype), array(grad, dtype), out.numpy()
    )
    return out.to(items.dtype)


def rows_of(table: Tensor, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Return a table, contiguous, in the dtype to compute in, times ``scale``."""
    table = table.detach().to(dtype).contiguous()
    return table if scale == 1 else table * scale


def bias_of(bias: Tensor | None, dtype: torch.dtype) -> Floats:
    """Return the bias as an array, empty if there is none."""
    return array(torch.empty(0) if bias is None else bias, dtype)


def exclusion_of(bounds: Tensor | None, indices: Tensor | None, rows: int) -> Exclusion:
    """Return the exclusion as arrays, of empty rows if there is none."""
    if bounds is None or indices is None:
        return np.zeros((rows, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
    return array(bounds, torch.int64), array(indices, indices.dtype)
