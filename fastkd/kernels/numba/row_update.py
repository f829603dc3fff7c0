"""Optimisers that touch only listed rows, on the CPU, in place: one pass over gradient, state and weight of a row.

Shapes: N rows of a table, D wide, R listed rows (ascending and distinct). Formulas: :mod:`fastkd.ops.row_update`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._prefetch import AHEAD, prefetch_row
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

_KNOWN_STEPS = 4096
"""Step counts whose bias corrections come from a table; a power costs as much as the rest of a row."""


def row_sgd(weight: Tensor, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
    """Step of stochastic gradient descent."""
    table = weight.numpy()
    real = table.dtype.type
    run_rows(
        _sgd, len(rows), _work(weight, 1), table, rows.numpy(), array(gradient, weight.dtype),
        real(lr), real(weight_decay),
    )  # fmt: skip


def row_adagrad(
    weight: Tensor, rows: Tensor, gradient: Tensor, total: Tensor, *, lr: float, eps: float, weight_decay: float
) -> None:
    """Step of Adagrad; ``total`` is [N, D], or [N, 1] for one accumulator a row."""
    table = weight.numpy()
    real = table.dtype.type
    kernel = _adagrad if total.shape == weight.shape else _rowwise_adagrad
    run_rows(
        kernel, len(rows), _work(weight, 3), table, rows.numpy(), array(gradient, weight.dtype), total.numpy(),
        real(lr), real(eps), real(weight_decay),
    )  # fmt: skip


def row_adam(
    weight: Tensor, rows: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor,
    *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Step of lazy Adam; ``step`` Int32[N] counts each row's own steps."""
    coupled, shrink = (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    table = weight.numpy()
    sizes, roots = _corrections(lr, beta1, beta2, table.dtype)
    run_rows(
        _adam, len(rows), _work(weight, 5), table, rows.numpy(), array(gradient, weight.dtype), mean.numpy(),
        square.numpy(), step.numpy(), sizes, roots, lr, beta1, beta2, eps, coupled, shrink,
    )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _corrections(lr: float, beta1: float, beta2: float, dtype: np.dtype[Any]) -> tuple[Floats, Floats]:
    """Return ``lr / (1 - b1^t)`` and ``1 / sqrt(1 - b2^t)`` of t = 0, 1, ...; the first is nobody's."""
    t = np.arange(1, _KNOWN_STEPS)
    sizes, roots = lr / (1.0 - beta1**t), 1.0 / np.sqrt(1.0 - beta2**t)
    return np.concatenate([[0.0], sizes]).astype(dtype), np.concatenate([[0.0], roots]).astype(dtype)


def _work(weight: Tensor, cost: float) -> float:
    return 40 + cost * 0.3 * weight.shape[1]


@jit(fastmath={"contract"})
def _sgd(weight: Floats, rows: Ints, gradient: Floats, lr: Any, decay: Any, start: int, stop: int) -> None:
    for j in range(start, stop):
        if j + AHEAD < stop:
            prefetch_row(weight, rows[j + AHEAD])
        w, g = weight[rows[j]], gradient[j]
        for d in range(w.shape[0]):
            w[d] -= lr * (g[d] + decay * w[d])


@jit(fastmath={"contract"})
def _adagrad(
    weight: Floats, rows: Ints, gradient: Floats, total: Floats, lr: Any, eps: Any, decay: Any, start: int, stop: int
) -> None:
    for j in range(start, stop):
        if j + AHEAD < stop:
            prefetch_row(weight, rows[j + AHEAD])
            prefetch_row(total, rows[j + AHEAD])
        w, g, s = weight[rows[j]], gradient[j], total[rows[j]]
        for d in range(w.shape[0]):
            slope = g[d] + decay * w[d]
            s[d] += slope * slope
            w[d] -= lr * slope / (np.sqrt(s[d]) + eps)


@jit(fastmath={"contract"})
def _rowwise_adagrad(
    weight: Floats, rows: Ints, gradient: Floats, total: Floats, lr: Any, eps: Any, decay: Any, start: int, stop: int
) -> None:
    for j in range(start, stop):
        if j + AHEAD < stop:
            prefetch_row(weight, rows[j + AHEAD])
            prefetch_row(total, rows[j + AHEAD])
        w, g, s = weight[rows[j]], gradient[j], total[rows[j]]
        square = 0.0
        for d in range(w.shape[0]):
            slope = np.float64(g[d] + decay * w[d])
            square += slope * slope
        s[0] += w.dtype.type(square / max(w.shape[0], 1))
        size = lr / (np.sqrt(s[0]) + eps)
        for d in range(w.shape[0]):
            w[d] -= size * (g[d] + decay * w[d])


@jit(fastmath={"contract"})
def _adam(
    weight: Floats, rows: Ints, gradient: Floats, mean: Floats, square: Floats, step: Ints, sizes: Any, roots: Any,
    lr: float, beta1: float, beta2: float, eps: float, decay: float, shrink: float, start: int, stop: int,
) -> None:  # fmt: skip
    real = weight.dtype.type
    b1, c1, b2, c2 = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    tiny, coupled, kept = real(eps), real(decay), real(shrink)
    for j in range(start, stop):
        if j + AHEAD < stop:
            ahead = rows[j + AHEAD]
            prefetch_row(weight, ahead)
            prefetch_row(mean, ahead)
            prefetch_row(square, ahead)
            prefetch_row(step, ahead)
        i = rows[j]
        t = step[i] + 1
        step[i] = t
        if 0 < t < len(sizes):
            size, root = sizes[t], roots[t]
        else:
            size, root = real(lr / (1 - beta1**t)), real(1 / np.sqrt(1 - beta2**t))
        w, g, m, v = weight[i], gradient[j], mean[i], square[i]
        for d in range(w.shape[0]):
            slope = g[d] + coupled * w[d]
            m[d] = b1 * m[d] + c1 * slope
            v[d] = b2 * v[d] + c2 * slope * slope
            w[d] = kept * w[d] - size * m[d] / (np.sqrt(v[d]) * root + tiny)
