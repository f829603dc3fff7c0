"""log(1 + e) for 0 <= e <= 1, in arithmetic that LLVM turns into vector code: a call of C's log1p stays scalar."""

from __future__ import annotations

from fastkd.kernels.numba._jit import jit

_LN2, _BEND = 0.6931471805599453, 0.4142135623730951
_C = tuple(2.0 / (2 * i + 1) for i in range(11))


@jit(fastmath={"contract"}, inline="always")
def log1p(e: float) -> float:
    """Return log(1 + e) in float64 with a small relative error, however small e is; NaN for NaN.

    Above sqrt(2) - 1 it is log(2) + log(1 + (e - 1) / 2), where e - 1 is exact; then 2 atanh(f / (2 + f)) as a series.
    """
    far = e > _BEND
    f = 0.5 * (e - 1.0) if far else e
    s = f / (2.0 + f)
    z = s * s
    p = _C[10] * z + _C[9]
    p = p * z + _C[8]
    p = p * z + _C[7]
    p = p * z + _C[6]
    p = p * z + _C[5]
    p = p * z + _C[4]
    p = p * z + _C[3]
    p = p * z + _C[2]
    p = p * z + _C[1]
    p = p * z + _C[0]
    return s * p + (_LN2 if far else 0.0)
