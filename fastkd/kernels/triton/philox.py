"""Philox4x32-10 for Triton kernels: the same words as :func:`fastkd.core.philox.philox4x32`.

Words are uint32. A key travels as Int64[1] on the device (:func:`key_tensor`), because Triton compiles a number that
fits 32 bits and one that does not into two different kernels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration

_M0 = tl.constexpr(0xD2511F53)
_M1 = tl.constexpr(0xCD9E8D57)
_W0 = tl.constexpr(0x9E3779B9)
_W1 = tl.constexpr(0xBB67AE85)


def key_tensor(key: int, device: torch.device) -> Tensor:
    """Return a 64-bit key as Int64[1]; a fill, so nothing is copied from the host."""
    return torch.full((1,), key - (1 << 64) if key >> 63 else key, dtype=torch.int64, device=device)


@triton.jit
def key_words(key):
    """Return the two words (low, high) of a key on the device."""
    value = tl.load(key)
    return value.to(tl.uint32), (value >> 32).to(tl.uint32)


@triton.jit
def user_words(user):
    """Return the two words (low, high) of an int64 user id."""
    return user.to(tl.uint32), (user >> 32).to(tl.uint32)


@triton.jit
def _product(multiplier, word):
    """Return the high and the low word of a product of two words."""
    product = word.to(tl.uint64) * multiplier
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def _plus(word, addend):
    """Return the sum of two words, wrapped."""
    return (word.to(tl.uint64) + addend).to(tl.uint32)


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Return the four words of counter (c0, c1, c2, c3), least significant first, under key (k0, k1); all uint32."""
    for _ in tl.static_range(10):
        h0, l0 = _product(_M0, c0)
        h1, l1 = _product(_M1, c2)
        c0 = h1 ^ c1 ^ k0
        c1 = l1
        c2 = h0 ^ c3 ^ k1
        c3 = l0
        k0 = _plus(k0, _W0)
        k1 = _plus(k1, _W1)
    return c0, c1, c2, c3


@triton.jit
def uniform_open(word):
    """Map a word to the open interval (0, 1) in float64: ``(word + 0.5) / 2**32``."""
    return (word.to(tl.float64) + 0.5) * 2.3283064365386963e-10


@triton.jit
def uniform_double(first, second):
    """Map two words to a 52-bit uniform in (0, 1), float64; see ``fastkd.kernels.numba.philox.uniform_double``."""
    bits = ((first >> 6).to(tl.uint64) << 26) | (second >> 6).to(tl.uint64)
    return (bits.to(tl.float64) + 0.5) * 2.220446049250313e-16


@triton.jit
def below(word, bound):
    """Return ``word * bound div 2**32`` as int64, and whether Lemire's test lets the word pass. ``bound`` < 2**32."""
    product = word.to(tl.uint64) * tl.cast(bound, tl.uint64)
    turned_away = (1 << 32) % tl.cast(bound, tl.int64)
    return (product >> 32).to(tl.int64), (product & 0xFFFFFFFF).to(tl.int64) >= turned_away


@triton.jit
def words_kernel(counters, key, out, size, BLOCK: tl.constexpr):
    """Write the words of ``size`` counters UInt32[4, size] (in int64); for tests and the compile report."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    k0, k1 = key_words(key)
    c0 = tl.load(counters + at, mask=inside, other=0).to(tl.uint32)
    c1 = tl.load(counters + size + at, mask=inside, other=0).to(tl.uint32)
    c2 = tl.load(counters + 2 * size + at, mask=inside, other=0).to(tl.uint32)
    c3 = tl.load(counters + 3 * size + at, mask=inside, other=0).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(c0, c1, c2, c3, k0, k1)
    tl.store(out + at, w0.to(tl.int64), mask=inside)
    tl.store(out + size + at, w1.to(tl.int64), mask=inside)
    tl.store(out + 2 * size + at, w2.to(tl.int64), mask=inside)
    tl.store(out + 3 * size + at, w3.to(tl.int64), mask=inside)


def words(counters: Tensor, key: int) -> Tensor:
    """Return the words Int64[4, size] of counters Int64[4, size]."""
    counters = counters.contiguous()
    out = torch.empty_like(counters)
    size = counters.shape[1]
    words_kernel[(triton.cdiv(size, 256),)](counters, key_tensor(key, counters.device), out, size, BLOCK=256)
    return out


CONFIGURATIONS = (
    Configuration(
        name="words",
        kernel=words_kernel,
        signature={"counters": "*i64", "key": "*i64", "out": "*i64", "size": "i32"},
        constants={"BLOCK": 256},
        unaligned=("size",),
    ),
)
