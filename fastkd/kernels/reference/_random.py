"""Counter-based random numbers in torch, on any device: the words of ``fastkd.core.philox`` and what is made of them.

Words are int64 tensors holding 32-bit values. Everything below is integer arithmetic or IEEE operations in a stated
order, so the bits agree between devices and backends.
"""

from __future__ import annotations

import torch
from torch import Tensor

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_TERMS = 11

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor | int, key: int) -> Words:
    """Return four words Int64 for each (broadcast) counter, least significant word first; see ``core.philox``."""
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    last = torch.as_tensor(c3, dtype=torch.int64, device=c0.device)
    c0, c1, c2, last = torch.broadcast_tensors(c0, c1, c2, last)  # type: ignore[no-untyped-call]
    for _ in range(10):
        # Products wrap into the sign; shift and mask read their high word all the same.
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, last = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ last ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, last


def user_words(users: Tensor) -> tuple[Tensor, Tensor]:
    """Return the low and the high word of user ids."""
    return users & _MASK, (users >> 32) & _MASK


def row_words(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return a word for each of ``columns`` E of each id in ``rows``, Int64[n, E].

    Column j of row r reads word j // q of the block of counter (j mod q, r low, r high, 0), q = ceil(E / 4): four
    stretches of columns share the blocks of a row.
    """
    blocks = torch.arange(-(-columns // 4), device=rows.device)[None, :]
    low, high = (word[:, None] for word in user_words(rows))
    return torch.cat(philox4x32(blocks, low, high, 0, key), dim=1)[:, :columns]


def uniform_double(first: Tensor, second: Tensor) -> Tensor:
    """Return 52-bit uniforms in the open interval (0, 1): ``(26 high bits, 26 high bits, one half) / 2**52``."""
    return ((((first >> 6) << 26) | (second >> 6)).double() + 0.5) * 2.0**-52


def log(x: Tensor) -> Tensor:
    """Return the logarithm of positive normal float64 numbers, to about 2 ulp, by IEEE operations in a fixed order.

    ``x = m 2^e`` with m in [sqrt(1/2), sqrt(2)); ``log m = 2 atanh(s)``, ``s = (m - 1) / (m + 1)``, 11 terms of the
    series. Libraries differ in the last bit, and an order of keys must not depend on them.
    """
    bits = x.view(torch.int64)
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).view(torch.float64)
    low = mantissa < _SQRT_HALF
    mantissa = torch.where(low, 2.0 * mantissa, mantissa)
    power = ((bits >> 52) - 1022 - low.to(torch.int64)).double()
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = torch.full_like(z, 2.0 / (2 * _TERMS - 1))
    for i in range(_TERMS - 2, -1, -1):
        series = series * z
        series = series + 2.0 / (2 * i + 1)
    return s * series + power * _LN2
