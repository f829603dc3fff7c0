"""Scores of the softmax sampler: the canonical one, and how far a filter score can be from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]
Ints = NDArray[Any]

_SAFE_BOUND = 1e37


def widened(table: Tensor) -> Tensor:
    """Return the values contiguous, outside autograd, in float32 or float64 (half precisions widen exactly)."""
    values = table.detach()
    return (values if values.dtype in (torch.float32, torch.float64) else values.float()).contiguous()


def margins(users: Tensor, items: Tensor, bias: Floats) -> Floats:
    """Return per user how far a filter score can stray from the canonical one; inf where there is no bound.

    Any order of summation, fused or not, errs by at most ``g |u| |v|``, ``g = D e / (1 - D e)``; the roundings of the
    result and of the bias add a few e. A wide margin costs time, not exactness, so it is a plain one.
    """
    dim, unit = users.shape[1], 2.0**-53 if users.dtype == torch.float64 else 2.0**-24
    user_norms, top = _norms(users), float(_norms(items).max(initial=0.0))
    finite = np.abs(bias[np.isfinite(bias)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        bound = user_norms * top
        usable = (bound + finite < _SAFE_BOUND) & (dim * unit < 1e-2)
        relative = 1.05 * (dim + 4) * unit + 2.0**-20 + _narrowing(users.dtype)
        wide = relative * bound + 2.0**-20 * finite + dim * 2.0**-120 * (1.0 + user_norms + top)
    return np.where(usable, wide, np.inf)


def _norms(table: Tensor) -> Floats:
    """Return each row's norm rounded up, in the table's own precision; squares that vanish add the last term."""
    dim, norms = table.shape[1], torch.linalg.vector_norm(table, dim=1).double().numpy()
    rounded: Floats = norms * (1.0 + 2.0**-22 * (dim + 4)) + 2e-19 * dim**0.5
    return rounded


def _narrowing(dtype: torch.dtype) -> float:
    """Return what torch.mm may add to the relative error by rounding float32 operands to tf32 or bfloat16."""
    mkldnn: Any = getattr(torch.backends.mkldnn, "matmul", None)
    allowed = {torch.get_float32_matmul_precision(), getattr(mkldnn, "fp32_precision", "none")}
    return 0.0 if dtype == torch.float64 or allowed <= {"highest", "none", "ieee"} else 2.0**-6


@jit()
def canonical(user: Floats, items: Floats, ids: Ints, bias: Floats, out: Floats) -> None:
    """Write the canonical scores of four items: float64 sums in order of d, rounded, plus bias.

    Four at a time, because each sum waits for its own last addition.
    """
    i0, i1, i2, i3 = items[ids[0]], items[ids[1]], items[ids[2]], items[ids[3]]
    t0 = t1 = t2 = t3 = 0.0
    for d in range(len(user)):
        u = np.float64(user[d])
        t0 += u * np.float64(i0[d])
        t1 += u * np.float64(i1[d])
        t2 += u * np.float64(i2[d])
        t3 += u * np.float64(i3[d])
    out[0], out[1], out[2], out[3] = np.float32(t0), np.float32(t1), np.float32(t2), np.float32(t3)
    if len(bias):
        for j in range(4):
            out[j] = np.float32(out[j] + bias[ids[j]])
