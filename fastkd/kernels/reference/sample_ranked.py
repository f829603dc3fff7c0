"""Rank-decay sampling without replacement by the Gumbel top-n trick, in numpy.

Position r of user u carries the exponential ``E = -log U``, U from word ``r % 4`` of the Philox block with counter
``(r // 4, user low, user high, 0)``. The n smallest of ``(r + 1) / T + log E`` (the n largest of
``-(r + 1) / T + Gumbel``) are a draw without replacement with weights ``exp(-(r + 1) / T)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastkd.core.philox import philox4x32, uniform_open

_CELLS = 1 << 21
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_TERMS = 11


def log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of positive normal numbers, to about 2 ulp, from IEEE operations in a fixed order.

    ``x = m 2^e`` with m in [sqrt(1/2), sqrt(2)); ``log m = 2 atanh(s)``, ``s = (m - 1) / (m + 1)``, 11 terms of the
    series. The libraries' logarithms differ in the last bit between platforms, which would let a draw depend on them.
    """
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    power = (exponent - low).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = np.full_like(z, 2.0 / (2 * _TERMS - 1))
    for i in range(_TERMS - 2, -1, -1):
        series = series * z + 2.0 / (2 * i + 1)
    return s * series + power * _LN2


def race_times(users: NDArray[np.int64], length: int, temperature: float, key: int) -> NDArray[np.float64]:
    """Return Float64[B, M], ``(r + 1) / T + log E``; the smallest win."""
    blocks = np.arange(-(-length // 4))
    words = philox4x32((blocks[None, :], users[:, None], users[:, None] >> 32, 0), key)
    uniforms = uniform_open(np.stack(words, axis=2).reshape(len(users), -1)[:, :length])
    with np.errstate(over="ignore"):  # the smallest temperatures; equal times go to the first position
        handicaps = (np.arange(length) + 1.0) / temperature
    times: NDArray[np.float64] = handicaps + log(-log(uniforms))
    return times


def sample_ranked(
    users: NDArray[np.int64], lengths: NDArray[np.int64], n: int, temperature: float, key: int
) -> NDArray[np.int64]:
    """Return Int64[B, n] ascending positions, -1 at the end; see :func:`fastkd.ops.sample_ranked`."""
    out = np.full((len(users), n), -1, dtype=np.int64)
    longest = int(lengths.max(initial=0))
    chunk = max(1, _CELLS // max(1, longest))
    for start in range(0, len(users), chunk):
        part = slice(start, start + chunk)
        times = race_times(users[part], longest, temperature, key)
        times[np.arange(longest) >= lengths[part, None]] = np.inf
        first = np.argsort(times, axis=1, kind="stable")[:, :n]
        first = np.where(first < lengths[part, None], first, longest)
        first.sort(axis=1)
        out[part, : first.shape[1]] = np.where(first == longest, -1, first)
    return out
