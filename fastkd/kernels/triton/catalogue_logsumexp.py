"""Log-sum-exp of the scores of a whole catalogue, on the GPU: the softmax's sweeps without targets."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.triton import catalogue_softmax as softmax
from fastkd.kernels.triton._launch import new

__all__ = ["catalogue_logsumexp", "catalogue_logsumexp_backward", "new"]


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
    """Return (log-sum-exp [B], its gradient to users [B, D] or [0, 0], top [B] in units of log 2, share [B])."""
    return softmax.softmax_forward(users, items, (bounds, indices), bias, None, scale=scale, gradient=gradient)


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
    weight = upstream.detach().to(top.dtype) * share
    gradient = softmax.softmax_item_gradient(users, items, (bounds, indices), bias, (top, weight, None), scale=scale)
    return gradient.to(items.dtype)
