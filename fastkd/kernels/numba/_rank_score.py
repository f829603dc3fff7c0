"""Which item ranks before which target: margins of filter scores, and the canonical key of one pair at little cost.

A pair's *key* (``_select.make_key`` of its canonical score and its item) is smaller for the better rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import Keys, make_key

Floats = NDArray[Any]
Ints = NDArray[Any]

_SAFE_BOUND = 1e37


def margins(users: Tensor, items: Tensor, bias: Floats) -> tuple[Floats, Floats, Ints]:
    """Return per user how far a filter score and a float64 sum in any order can stray, and the odd items.

    Any order of summation, fused or not, errs by at most g |u| |v|, g = D e / (1 - D e); the roundings of the result
    and of the bias add a few e, flushed subnormals at most the last term. The first margin is inf where there is no
    such bound. Odd items have a vector that is not finite, or a bias of NaN or +inf: no filter score of theirs is used,
    so they widen nobody's margin.
    """
    user_norms, item_norms = _norms(users.numpy()), _norms(items.numpy())
    odd = ~np.isfinite(item_norms)
    if len(bias):
        odd |= np.isnan(bias) | (bias == np.inf)
    top = float(item_norms[~odd].max(initial=0.0))
    dim, rounding = users.shape[1], 2.0**-24
    unit = 2.0**-53 if users.numpy().dtype == np.float64 else rounding
    finite = np.abs(bias[np.isfinite(bias)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        bound = user_norms * top
        tiny = dim * 2.0**-125 * (1.0 + user_norms + top)
        relative = 1.02 * (dim + 4) * unit + 8 * rounding + _narrowing(users.dtype)
        wide = relative * bound + 4 * rounding * finite + tiny
        narrow = 1.02 * 2 * (dim + 4) * 2.0**-53 * bound + 2.0**-1000
    usable = (bound + finite < _SAFE_BOUND) & (dim * unit < 1e-2)
    return np.where(usable, wide, np.inf), narrow, np.flatnonzero(odd)


def _narrowing(dtype: torch.dtype) -> float:
    """Return what torch.mm may add to the relative error by rounding float32 operands to tf32 or bfloat16."""
    mkldnn: Any = getattr(torch.backends.mkldnn, "matmul", None)
    allowed = {torch.get_float32_matmul_precision(), getattr(mkldnn, "fp32_precision", "none")}
    if dtype == torch.float64 or allowed <= {"highest", "none", "ieee"}:
        return 0.0
    return 2.0**-9 if allowed <= {"highest", "none", "ieee", "high", "tf32"} else 2.0**-6


@jit(fastmath={"reassoc", "contract"})
def _sum_in_lanes(user: Floats, item: Floats) -> float:
    """Return the inner product in float64, in whatever order is fastest."""
    total = 0.0
    for d in range(len(user)):
        total += np.float64(user[d]) * np.float64(item[d])
    return total


@jit()
def _norms(table: Floats) -> Floats:
    """Return each row's Euclidean norm, rounded up a hair; not finite where the row is not."""
    norms = np.empty(len(table))
    for i in range(len(table)):
        norms[i] = np.sqrt(_sum_in_lanes(table[i], table[i])) * (1 + 1e-9)
    return norms


@jit()
def _sum_in_order(user: Floats, item: Floats) -> float:
    """Return the inner product in float64, in order of d."""
    total = 0.0
    for d in range(len(user)):
        total += np.float64(user[d]) * np.float64(item[d])
    return total


@jit()
def pair_key(user: Floats, items: Floats, item: Any, bias: Floats, margin: float) -> Any:
    """Return the canonical key of a pair.

    ``margin``: how far two float64 sums of it can lie apart. Where everything that near rounds to one float32, the
    order of the sum does not matter and the fast one decides.
    """
    total = _sum_in_lanes(user, items[item])
    score = np.float32(total - margin)
    if score != np.float32(total + margin):  # NaN too
        score = np.float32(_sum_in_order(user, items[item]))
    if len(bias):
        score = np.float32(score + bias[item])
    return make_key(score, item)


@jit()
def first_beaten(keys: Keys, start: int, stop: int, key: Any) -> int:
    """Return the first target in ``[start, stop)`` of the sorted ``keys`` that ``key`` ranks before, or ``stop``."""
    while start < stop:
        middle = (start + stop) >> 1
        if key < keys[middle]:
            stop = middle
        else:
            start = middle + 1
    return start
