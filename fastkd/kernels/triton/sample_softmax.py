"""Exact draws without replacement from a softmax over the catalogue, with one noise per group of items.

Scan: low-precision scores of a tile keep only the best of each group of 128 items. Bound: that score, a proved margin
and the group's largest noise are above every key in the group. Draw: one program per user visits groups from the best
bound down, makes canonical scores and the noise of their items, and stops at the first bound below the n-th key.
The definition is in ``fastkd/kernels/reference/sample_softmax.py``.

Shapes: B users, N items, G groups, D dimensions, K dimensions of a step, M users of a tile, P slots padded.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import SECOND_AXIS, new
from fastkd.kernels.triton._math import dot
from fastkd.kernels.triton._random import among, log
from fastkd.kernels.triton.philox import key_tensor, key_words, philox4x32, uniform_double, user_words

GROUP = 128
MAX_DRAWS = 1024
"""Most items per user: one program holds their keys."""

_GROUP = tl.constexpr(GROUP)
_ROWS = 64
_WIDTH = 1024
_LAST_ID = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def scan_kernel(users, items, bias, maxima, B, N, D, G, M: tl.constexpr, K: tl.constexpr):
    """Write the best score of each group Float32[B, G]; NaN scores count as nothing."""
    g = tl.program_id(0).to(tl.int64)
    b = tl.program_id(1).to(tl.int64) * M + tl.arange(0, M)
    i = g * _GROUP + tl.arange(0, _GROUP)
    d = tl.arange(0, K)
    total = tl.zeros((M, _GROUP), dtype=tl.float32)
    for start in range(0, D, K):
        here = start + d
        left = tl.load(users + b[:, None] * D + here[None, :], mask=(b < B)[:, None] & (here < D)[None, :], other=0.0)
        right = tl.load(items + i[None, :] * D + here[:, None], mask=(i < N)[None, :] & (here < D)[:, None], other=0.0)
        if left.dtype == tl.float64:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total += dot(left, right, "tf32")
    if bias is not None:
        total += tl.load(bias + i, mask=i < N, other=0.0)[None, :]
    total = tl.where((i < N)[None, :] & (total == total), total, float("-inf"))
    tl.store(maxima + b * G + g, tl.max(total, axis=1), mask=b < B)


@triton.jit
def _least(user, group, k0, k1):
    """Return each group's least exponential and the offset of the item that has it."""
    low, high = user_words(user)
    g = group.to(tl.uint32)
    w0, w1, w2, _ = philox4x32(g, low + g * 0, high + g * 0, g * 0, k0, k1)
    return (0.0 - log(uniform_double(w0, w1))) / 128.0, (w2 >> 25).to(tl.int64)


@triton.jit
def bound_kernel(ids, key, maxima, margins, temperature, bounds, G, W: tl.constexpr):
    """Write Float64[B, G], above every key of a group; +inf where scores have no bound."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64) * W + tl.arange(0, W)
    k0, k1 = key_words(key)
    least, _ = _least(tl.load(ids + b), g, k0, k1)
    best = tl.load(maxima + b * G + g, mask=g < G, other=0.0).to(tl.float64)
    margin = tl.load(margins + b)
    bound = (best + margin) / tl.load(temperature) - log(least)
    bound = tl.where(bound > float("-inf"), bound + 1e-9 * (1.0 + tl.abs(bound)), bound)
    bound = tl.where(margin < float("inf"), bound, float("inf"))
    tl.store(bounds + b * G + g, bound, mask=g < G)


@triton.jit
def draw_kernel(
    users, items, bias, ids, key, bounds, indptr, indices, temperature, out, N, D, G, n,
    P: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Draw the slots of one user. ``bounds`` is used up: a group visited becomes -inf."""
    b = tl.program_id(0).to(tl.int64)
    user = tl.load(ids + b)
    k0, k1 = key_words(key)
    scale = tl.load(temperature)
    slot, lane, offset = tl.arange(0, P), tl.arange(0, W), tl.arange(0, _GROUP).to(tl.int64)
    none = tl.full((), float("-inf"), tl.float64)
    keys = tl.where(slot < n, none, float("inf"))
    held = tl.full((P,), _LAST_ID, tl.int64)
    worst = none
    best, group = _best_bound(bounds + b * G, lane, G, W)
    while (best > none) & (best >= worst):
        tl.debug_barrier()
        tl.store(bounds + b * G + group, none)
        item = group * _GROUP + offset
        made = _keys(users + b * D, items, bias, user, group, item, offset, scale, k0, k1, N, D)
        if indptr is not None:
            seen = among(indices, tl.load(indptr + b), tl.load(indptr + b + 1), item)
            made = tl.where(seen, none, made)
        made = tl.where((item < N) & (made == made), made, none)
        top = tl.max(made, axis=0)
        while (top > none) & (top >= worst):
            first = tl.min(tl.where(made == top, item, _LAST_ID), axis=0)
            last = tl.max(tl.where(keys == worst, held, -1), axis=0)
            if (top > worst) | (first < last):
                place = tl.min(tl.where((keys == worst) & (held == last), slot, P), axis=0)
                keys = tl.where(slot == place, top, keys)
                held = tl.where(slot == place, first, held)
                worst = tl.min(keys, axis=0)
            made = tl.where(item == first, none, made)
            top = tl.max(made, axis=0)
        tl.debug_barrier()
        best, group = _best_bound(bounds + b * G, lane, G, W)
    for s in range(0, n):
        top = tl.max(tl.where(slot < n, keys, none), axis=0)
        first = tl.min(tl.where((keys == top) & (slot < n), held, _LAST_ID), axis=0)
        tl.store(out + b * n + s, tl.where(top > none, first, -1))
        keys = tl.where((held == first) & (slot < n), none, keys)


@triton.jit
def _best_bound(bounds, lane, G, W: tl.constexpr):
    """Return the largest bound of a user and its group."""
    best = tl.full((W,), float("-inf"), tl.float64)
    where = tl.zeros((W,), dtype=tl.int64)
    for start in range(0, G, W):
        g = (start + lane).to(tl.int64)
        bound = tl.load(bounds + g, mask=g < G, other=float("-inf"))
        where = tl.where(bound > best, g, where)
        best = tl.where(bound > best, bound, best)
    top = tl.max(best, axis=0)
    return top, tl.min(tl.where(best == top, where, _LAST_ID), axis=0)


@triton.jit
def _keys(vector, items, bias, user, group, item, offset, scale, k0, k1, N, D):
    """Return the keys Float64[128] of a group's items."""
    inside = item < N
    total = tl.zeros((_GROUP,), dtype=tl.float64)
    for d in range(0, D):
        value = tl.load(items + item * D + d, mask=inside, other=0.0).to(tl.float64)
        total += tl.load(vector + d).to(tl.float64) * value
    score = total.to(tl.float32)
    if bias is not None:
        score += tl.load(bias + item, mask=inside, other=0.0)
    least, owner = _least(user, group, k0, k1)
    low, high = user_words(user)
    pair = (item >> 1).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(pair, low + pair * 0, high + pair * 0, pair * 0 + 1, k0, k1)
    odd = (item & 1) == 1
    above = 0.0 - log(uniform_double(tl.where(odd, w2, w0), tl.where(odd, w3, w1)))
    above = tl.where(offset == owner, 0.0, above)
    return score.to(tl.float64) / scale - log(least + above)


def sample_softmax(
    users: Tensor, items: Tensor, n: int, temperature: float, ids: Tensor, indptr: Tensor | None,
    indices: Tensor | None, bias: Tensor | None, key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item with a weight is left; see :func:`fastkd.ops.sample_softmax`.

    Memory: 12 B N / 128 bytes of bounds. Excluded items loosen a group's bound and are left out when it is visited.
    """
    if n > MAX_DRAWS:
        raise ValueError(f"backend 'triton' draws at most {MAX_DRAWS} items per user, got {n}")
    users, items = users.contiguous(), items.contiguous()
    bias = None if bias is None else bias.to(torch.float32).contiguous()
    (count, dim), num_items = users.shape, len(items)
    out = new((count, n), torch.int64, users.device)
    if out.numel() == 0 or num_items == 0:
        return out.fill_(-1)
    groups = triton.cdiv(num_items, GROUP)
    maxima = new((count, groups), torch.float32, users.device)
    for first in range(0, count, SECOND_AXIS * _ROWS):
        some, found = (table[first : first + SECOND_AXIS * _ROWS] for table in (users, maxima))
        scan_kernel[(groups, triton.cdiv(len(some), _ROWS))](
            some, items, bias, found, len(some), num_items, dim, groups,
            M=_ROWS, K=_step(dim, users.dtype == torch.float64),
        )  # fmt: skip
    bounds, counter = new((count, groups), torch.float64, users.device), key_tensor(key, users.device)
    scale = torch.full((1,), temperature, dtype=torch.float64, device=users.device)
    bound_kernel[(count, triton.cdiv(groups, 256))](
        ids, counter, maxima, _margins(users, items, bias), scale, bounds, groups, W=256, enable_fp_fusion=False
    )
    draw_kernel[(count,)](
        users, items, bias, ids, counter, bounds, indptr, indices, scale, out, num_items, dim, groups, n,
        W=_WIDTH, enable_fp_fusion=False, **_draw_shape(n),
    )  # fmt: skip
    return out


def _draw_shape(n: int) -> dict[str, int]:
    padded = max(16, triton.next_power_of_2(n))
    return {"P": padded, "num_warps": 4 if padded <= 256 else 8}


def _step(dim: int, double: bool) -> int:
    return 16 if double else int(min(32, max(16, triton.next_power_of_2(dim))))


def _margins(users: Tensor, items: Tensor, bias: Tensor | None) -> Tensor:
    """Return per user a bound on how far a scanned score can be from the canonical one; inf where there is none.

    Operands rounded to tf32 or from float64 to float32 err by 2**-10 each, products are summed in float32.
    """
    own = _norms(users)
    bound = own * _norms(items).amax()
    margin = (2.0**-8 + 2.0**-22 * (users.shape[1] + 4)) * bound + 2.0**-100 * (1.0 + own)
    if bias is not None:
        finite = bias.where(bias.isfinite(), 0.0).abs().max().double()
        margin, bound = margin + 2.0**-20 * finite, bound + finite
    return torch.where(bound < 1e37, margin, torch.inf)


def _norms(table: Tensor) -> Tensor:
    """Return Float64[rows], no smaller than the norms; summed in float32 at least, without a copy of the table.

    A float32 sum of D squares errs by at most (D + 2) 2**-24 of it. Squares below 2**-126 are lost, which takes at most
    sqrt(D) 2**-63 from a norm. Where a square overflows, the norm is inf and so is the margin.
    """
    wide = torch.float64 if table.dtype == torch.float64 else torch.float32
    norms = torch.linalg.vector_norm(table, dim=1, dtype=wide).double()
    dim = table.shape[1]
    bound: Tensor = norms * (1.0 + (dim + 4) * 2.0**-24) + dim**0.5 * 2.0**-63
    return bound


def _pointers(kind: str, biased: bool, seen: bool = False) -> dict[str, str]:
    named = {"users": f"*{kind}", "items": f"*{kind}"} | ({"bias": "*fp32"} if biased else {})
    return named | ({"indptr": "*i64", "indices": "*i32"} if seen else {})


def _scan(kind: str, dim: int) -> Configuration:
    return Configuration(
        name=f"scan-{kind}-d{dim}",
        kernel=scan_kernel,
        signature=_pointers(kind, False) | {"maxima": "*fp32"} | dict.fromkeys(("B", "N", "D", "G"), "i32"),
        constants={"bias": None, "M": _ROWS, "K": _step(dim, kind == "fp64")},
        unaligned=("B", "N", "G"),
        scores=_ROWS * GROUP,
    )


def _draw(n: int, seen: bool) -> Configuration:
    others: dict[str, Any] = {} if seen else {"indptr": None, "indices": None}
    return Configuration(
        name=f"draw-{n}{'-seen' if seen else ''}",
        kernel=draw_kernel,
        signature=_pointers("fp32", False, seen)
        | {"ids": "*i64", "key": "*i64", "bounds": "*fp64", "temperature": "*fp64", "out": "*i64"}
        | dict.fromkeys(("N", "D", "G", "n"), "i32"),
        constants={"bias": None, "P": _draw_shape(n)["P"], "W": _WIDTH} | others,
        options={"enable_fp_fusion": False},
        num_warps=_draw_shape(n)["num_warps"],
        unaligned=("N", "G", "n"),
    )


CONFIGURATIONS = (
    _scan("fp32", 64),
    _scan("fp64", 64),
    _scan("bf16", 64),
    _scan("bf16", 128),
    Configuration(
        name="bound",
        kernel=bound_kernel,
        signature={
            "ids": "*i64",
            "key": "*i64",
            "maxima": "*fp32",
            "margins": "*fp64",
            "temperature": "*fp64",
            "bounds": "*fp64",
            "G": "i32",
        },
        constants={"W": 256},
        options={"enable_fp_fusion": False},
        unaligned=("G",),
    ),
    _draw(10, True),
    _draw(100, False),
    _draw(1024, True),
)
