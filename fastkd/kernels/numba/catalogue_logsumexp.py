"""Log-sum-exp of the scores of a whole catalogue, on the CPU: the softmax's sweep without targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastkd.kernels.numba._arrays import compute_dtype, new
from fastkd.kernels.numba._catalogue_sweep import softmax_item_gradient, softmax_sums
from fastkd.kernels.numba.catalogue_softmax import bias_of, exclusion_of, rows_of


def catalogue_logsumexp(
    users: Tensor,
    items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    *,
    scale: float,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (log-sum-exp [B], its gradient to users [B, D] or [0, 0], top [B], share [B])."""
    dtype = compute_dtype(users, items)
    scaled, table = rows_of(users, dtype, scale), rows_of(items, dtype)
    exclusion = exclusion_of(bounds, indices, len(users))
    top, mass, mean = softmax_sums(scaled, table, exclusion, bias_of(bias, dtype), mean=gradient)
    value, unit, share = (new(shape, dtype=dtype) for shape in (top.shape, mean.shape, top.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        value[:] = np.where(mass == 0, -np.inf, top + np.log(mass))
        share[:] = np.where(mass == 0, 0, 1 / mass)
    unit[:] = scale * mean
    return torch.from_numpy(value), torch.from_numpy(unit), torch.from_numpy(top), torch.from_numpy(share)


def catalogue_logsumexp_backward(
    upstream: Tensor,
    users: Tensor,
    items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    top: Tensor,
    share: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Return the gradient of ``sum_b upstream_b lse_b`` to items, Float[N, D] in their dtype."""
    dtype = compute_dtype(users, items)
    scaled, table = rows_of(users, dtype, scale), rows_of(items, dtype)
    out = torch.from_numpy(new(items.shape, dtype=dtype))
    out[:] = 0
    weight = torch.where(share == 0, 0, upstream.detach().to(dtype) * share)
    exclusion = exclusion_of(bounds, indices, len(users))
    softmax_item_gradient(scaled, table, exclusion, bias_of(bias, dtype), top.numpy(), weight.numpy(), out)
    return out.to(items.dtype)
