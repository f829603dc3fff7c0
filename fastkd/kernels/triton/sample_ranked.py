"""Rank-decay sampling without replacement on the GPU: bit for bit the draws of the reference.

The definition is in ``fastkd/kernels/reference/sample_ranked.py``. One program makes the times of a user's list and
finds the n-th smallest by bisection over their bits, so nothing is sorted.

Shapes: B users, M longest list, P its next power of two.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._random import log
from fastkd.kernels.triton.philox import key_tensor, key_words, philox4x32, uniform_open, user_words

MAX_LENGTH = 4096
"""Longest list one program holds."""


@triton.jit
def _ordered(x):
    """Return int64 keys in the order of float64 values; -0.0 like 0.0."""
    bits = (x + 0.0).to(tl.int64, bitcast=True)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


@triton.jit
def sample_ranked_kernel(users, lengths, key, out, n, temperature, P: tl.constexpr):
    """Write the positions of the ``n`` smallest times in ascending order; of equal times the first."""
    b = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + b)
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(users + b))
    r = tl.arange(0, P)
    block = (r >> 2).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(block, low + block * 0, high + block * 0, block * 0, k0, k1)
    even, odd = tl.where((r & 2) == 0, w0, w2), tl.where((r & 2) == 0, w1, w3)
    uniform = uniform_open(tl.where((r & 1) == 0, even, odd))
    scale = tl.load(temperature)
    times = _ordered((r.to(tl.float64) + 1.0) / scale + log(0.0 - log(uniform)))
    inside = r < length
    wanted = tl.minimum(length, n)
    last = tl.full((), -0x8000000000000000, tl.int64)
    end = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    for _ in range(64):
        middle = (last >> 1) + (end >> 1) + (last & end & 1)
        enough = tl.sum((inside & (times <= middle)).to(tl.int64), axis=0) >= wanted
        end = tl.where(enough, middle, end)
        last = tl.where(enough | (last >= end), last, middle + 1)
    sure = inside & (times < last)
    tie = inside & (times == last)
    ties = tie.to(tl.int64)
    spare = wanted - tl.sum(sure.to(tl.int64), axis=0)
    taken = (sure | (tie & (tl.cumsum(ties, axis=0) - ties < spare))).to(tl.int64)
    place = tl.cumsum(taken, axis=0) - taken
    tl.store(out + b * n + place, r.to(tl.int64), mask=(taken > 0) & (wanted > 0))


def sample_ranked(users: Tensor, lengths: Tensor, longest: int, n: int, temperature: float, key: int) -> Tensor:
    """Return Int64[B, n] ascending positions, -1 at the end; see :func:`fastkd.ops.sample_ranked`."""
    if longest > MAX_LENGTH:
        raise ValueError(f"backend 'triton' draws from lists of at most {MAX_LENGTH}, got {longest}")
    out = new((len(users), n), torch.int64, users.device).fill_(-1)
    if n == 0 or longest == 0 or len(users) == 0:
        return out
    shape = _shape(longest)
    scale = torch.full((1,), temperature, dtype=torch.float64, device=users.device)
    sample_ranked_kernel[(len(users),)](
        users, lengths, key_tensor(key, users.device), out, n, scale, **shape, enable_fp_fusion=False
    )
    return out


def _shape(longest: int) -> dict[str, Any]:
    padded = max(32, triton.next_power_of_2(longest))
    return {"P": padded, "num_warps": min(16, max(1, padded // 256))}


CONFIGURATIONS = tuple(
    Configuration(
        name=f"list-{longest}",
        kernel=sample_ranked_kernel,
        signature={
            "users": "*i64",
            "lengths": "*i64",
            "key": "*i64",
            "out": "*i64",
            "n": "i32",
            "temperature": "*fp64",
        },
        constants={"P": _shape(longest)["P"]},
        options={"enable_fp_fusion": False},
        num_warps=_shape(longest)["num_warps"],
        unaligned=("n",),
    )
    for longest in (100, 500, 1000, 4096)
)
