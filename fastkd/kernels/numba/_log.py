"""The one logarithm of the sampling kernels: same bits as the references', whatever the platform's library does."""

from __future__ import annotations

import numpy as np

from fastkd.kernels.numba._jit import jit

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_COEFFICIENTS = tuple(2.0 / (2 * i + 1) for i in range(11))
_FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
_HALF = np.uint64(0x3FE0000000000000)
_FIFTY_TWO = np.uint64(52)


@jit()
def log(x: float) -> float:
    """Return the logarithm of a positive normal number by the reference's operations in the reference's order."""
    bits = np.float64(x).view(np.uint64)
    mantissa = np.uint64((bits & _FRACTION) | _HALF).view(np.float64)
    power = np.float64(np.int64(bits >> _FIFTY_TWO) - 1022)
    if mantissa < _SQRT_HALF:
        mantissa = 2.0 * mantissa
        power -= 1.0
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    c = _COEFFICIENTS
    series = c[10] * z + c[9]
    series = series * z + c[8]
    series = series * z + c[7]
    series = series * z + c[6]
    series = series * z + c[5]
    series = series * z + c[4]
    series = series * z + c[3]
    series = series * z + c[2]
    series = series * z + c[1]
    series = series * z + c[0]
    return s * series + power * _LN2
