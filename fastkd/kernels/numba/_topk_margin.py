"""How far a filter score can stray from the canonical one: what makes a float32 filter exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]

ROUNDING = 2.0**-24
SAFE_BOUND = 1e37
FAINT = 2.0**-100


@dataclass(frozen=True)
class Margins:
    """The bound for each user as a function of the largest norm of the items that he has met.

    Any order of summation, fused or not, errs by at most g |u| |v|, g = D e / (1 - D e); the roundings of the
    result, the bias and the key add a few e. Flushed subnormals add at most the last term.
    """

    norms: Floats
    relative: float
    bias: float
    tiny: float
    usable: bool

    def at(self, top: float) -> Floats:
        """Return Float64[B], for items of norm at most ``top``; inf where there is no bound."""
        margins: Floats = margins_at(self.norms, float(top), self.relative, self.bias, self.tiny, self.usable)
        return margins

    @property
    def terms(self) -> tuple[float, float, float, bool]:
        """What :meth:`at` is made of beside the norms, for kernels."""
        return self.relative, self.bias, self.tiny, self.usable

    def part(self, rows: Any) -> Margins:
        """Return the margins of some users."""
        return Margins(self.norms[rows], self.relative, self.bias, self.tiny, self.usable)


def margins_of(norms: Floats, dim: int, dtype: torch.dtype, bias: Floats) -> Margins:
    """Return the margins of users with these ``norms`` for products of ``dtype`` over ``dim`` dimensions."""
    relative, tiny, usable = terms(dim, dtype == torch.float64)
    return Margins(norms, relative + _narrowing(dtype), largest_finite(bias), tiny, usable)


@jit()
def terms(dim: int, double: bool) -> tuple[float, float, bool]:
    """Return ``relative``, ``tiny`` and ``usable`` of :class:`Margins` for products in the tables' dtype."""
    unit = 2.0**-53 if double else 2.0**-24
    return 1.02 * (dim + 4) * unit + 8 * ROUNDING, dim * 2.0**-125, dim * unit < 1e-2


@jit()
def margins_at(norms: Floats, top: float, relative: float, bias: float, tiny: float, usable: bool) -> Floats:
    """Return Float64[B], the margins of users with these norms; inf where there is no bound, as with a NaN ``top``."""
    margins = np.full(len(norms), np.inf)
    for b in range(len(norms)):
        bound = norms[b] * top
        if usable and bound + bias < SAFE_BOUND:
            margins[b] = relative * bound + 4 * ROUNDING * bias + tiny * (1.0 + norms[b] + top)
    return margins


@jit()
def largest_finite(bias: Floats) -> float:
    """Return the largest finite |bias|, 0 where there is none."""
    largest = 0.0
    for value in bias:
        if np.isfinite(value):
            largest = max(largest, abs(np.float64(value)))
    return largest


def _narrowing(dtype: torch.dtype) -> float:
    """Return what torch.mm may add to the relative error by rounding float32 operands to tf32 or bfloat16."""
    mkldnn: Any = getattr(torch.backends.mkldnn, "matmul", None)
    allowed = {torch.get_float32_matmul_precision(), getattr(mkldnn, "fp32_precision", "none")}
    if dtype == torch.float64 or allowed <= {"highest", "none", "ieee"}:
        return 0.0
    return 2.0**-9 if allowed <= {"highest", "none", "ieee", "high", "tf32"} else 2.0**-6


@jit(fastmath={"reassoc", "contract"})
def norms_of(table: Floats) -> Floats:
    """Return each row's Euclidean norm, rounded up a hair; not finite where the row is not."""
    norms = np.empty(len(table))
    for i in range(len(table)):
        row, total = table[i], 0.0
        for d in range(len(row)):
            value = np.float64(row[d])
            total += value * value
        norms[i] = np.sqrt(total) * (1 + 1e-9)
    return norms


def largest_norm(table: Floats) -> float:
    """Return a bound on the norm of the longest row, a hair above it; not finite where a row is not."""
    if table.dtype == np.float32 and table.shape[1] <= 1 << 16:
        bound: float = norm_bound(largest_square(table), table.shape[1], False)
        if not math.isnan(bound):
            return bound
    longest: float = norms_of(table).max(initial=0.0)
    return float(longest)


@jit()
def norm_bound(square: float, dim: int, double: bool) -> float:
    """Return a bound on the norm from a sum of squares in the table's dtype; NaN where it lost too much to tell."""
    if double:
        return math.sqrt(square) * (1 + 1e-9)
    # Sums of float32 squares: relative error below D e, and squares lost to underflow count for nothing here.
    if square < FAINT or dim > 1 << 16:
        return math.nan
    return math.sqrt(square) * (1 + 2.0**-24 * (dim + 2) + 1e-6)


@jit(fastmath={"reassoc", "contract"})
def largest_square(table: Floats) -> float:
    """Return the largest sum of squares of a row, in its dtype; inf where one is NaN."""
    largest = table.dtype.type(0.0)
    for i in range(len(table)):
        row, total = table[i], table.dtype.type(0.0)
        for d in range(len(row)):
            total += row[d] * row[d]
        if not total <= largest:
            if total != total:
                return np.inf
            largest = total
    return np.float64(largest)
