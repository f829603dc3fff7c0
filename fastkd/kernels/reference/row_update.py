"""Optimisers that touch only listed rows, in plain torch; in place. Formulas: :mod:`fastkd.ops.row_update`."""

from __future__ import annotations

import torch
from torch import Tensor


def _decayed(
    weight: Tensor, gradient: Tensor, lr: float, weight_decay: float, decoupled: bool
) -> tuple[Tensor, Tensor]:
    if weight_decay and decoupled:
        return weight * (1 - lr * weight_decay), gradient
    return weight, gradient + weight_decay * weight if weight_decay else gradient


@torch.no_grad()
def row_sgd(weight: Tensor, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
    """Step of stochastic gradient descent."""
    old, g = _decayed(weight[rows], gradient.to(weight.dtype), lr, weight_decay, False)
    weight[rows] = old - lr * g


@torch.no_grad()
def row_adagrad(
    weight: Tensor, rows: Tensor, gradient: Tensor, total: Tensor, *, lr: float, eps: float, weight_decay: float
) -> None:
    """Step of Adagrad; ``total`` is [N, D], or [N, 1] for one accumulator a row."""
    old, g = _decayed(weight[rows], gradient.to(weight.dtype), lr, weight_decay, False)
    square = g.square() if total.shape[1] == g.shape[1] else g.square().mean(1, keepdim=True)
    new = total[rows] + square
    total[rows] = new
    weight[rows] = old - lr * g / (new.sqrt() + eps)


@torch.no_grad()
def row_adam(
    weight: Tensor, rows: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor,
    *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Step of lazy Adam; ``step`` Int32[N] counts each row's own steps."""
    old, g = _decayed(weight[rows], gradient.to(weight.dtype), lr, weight_decay, decoupled)
    step[rows] += 1
    t = step[rows].double()[:, None]
    m = beta1 * mean[rows] + (1 - beta1) * g
    v = beta2 * square[rows] + (1 - beta2) * g.square()
    mean[rows], square[rows] = m, v
    size = (lr / (1 - beta1**t)).to(weight.dtype)
    root = (1 - beta2**t).sqrt().to(weight.dtype)
    weight[rows] = old - size * m / (v.sqrt() / root + eps)
