"""Uniform draws of unobserved items on the GPU: bit for bit those of the C++ sampler (``csrc/README.md``).

Shapes: B users, N items, M entries of an extra list, n slots, W slots of a block, P slots padded.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._random import among
from fastkd.kernels.triton._unobserved import excluded, nth_free, nth_left, slot_value
from fastkd.kernels.triton.philox import key_tensor, key_words, user_words

MAX_DISTINCT = 4096
"""Most slots of a user without replacement: one program holds them."""

_BLOCK = 128
_NOTHING = torch.iinfo(torch.int64).max


@triton.jit
def clean_kernel(users, indptr, indices, lists, sizes, M, P: tl.constexpr):
    """Overwrite what an ascending extra list repeats, or the history holds, by the largest id; count what stays."""
    b = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, P)
    inside = m < M
    nothing = tl.full((P,), 0x7FFFFFFFFFFFFFFF, tl.int64)
    item = tl.load(lists + b * M + m, mask=inside, other=0x7FFFFFFFFFFFFFFF)
    previous = tl.load(lists + b * M + m - 1, mask=inside & (m > 0), other=-1)
    user = tl.load(users + b)
    seen = among(indices, tl.load(indptr + user), tl.load(indptr + user + 1), item)
    kept = inside & (item != nothing) & (item != previous) & ~seen
    tl.debug_barrier()
    tl.store(lists + b * M + m, tl.where(kept, item, nothing), mask=inside)
    tl.store(sizes + b, tl.sum(kept.to(tl.int64), axis=0))


@triton.jit
def repeated_kernel(
    users, indptr, indices, extra, sizes, key, out, N, M, n, EXTRA: tl.constexpr, W: tl.constexpr
):  # fmt: skip
    """Draw with replacement: by rejection, or by rank where more than half of the items are excluded."""
    b = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1).to(tl.int64) * W + tl.arange(0, W)
    user = tl.load(users + b)
    low, high = user_words(user)
    k0, k1 = key_words(key)
    first, last = tl.load(indptr + user), tl.load(indptr + user + 1)
    extra_first = b * M
    extra_last = extra_first
    if EXTRA:
        extra_last += tl.load(sizes + b)
    left = N - (last - first) - (extra_last - extra_first)
    few = 2 * left < N
    bound = tl.where(few, tl.maximum(left, 1), N)
    open_ = slot < n
    item = slot * 0 - 1
    attempt = tl.full((), 0, tl.int64)
    while (left > 0) & (tl.sum(open_.to(tl.int32), axis=0) > 0):
        value, fair = slot_value(low, high, slot, attempt, bound, k0, k1)
        if few == 0:
            fair = fair & ~excluded(value, indices, first, last, extra, extra_first, extra_last, EXTRA)
        item = tl.where(open_ & fair, value, item)
        open_ = open_ & ~fair
        attempt += 1
    if few & (left > 0):
        item = nth_left(item, N, indices, first, last, extra, extra_first, extra_last, EXTRA)
    tl.store(out + b * n + slot, item, mask=slot < n)


@triton.jit
def distinct_kernel(
    users, indptr, indices, extra, sizes, key, out, N, M, n, EXTRA: tl.constexpr, P: tl.constexpr
):  # fmt: skip
    """Draw without replacement, slot after slot; Fisher-Yates once half of the items are excluded or drawn.

    Fisher-Yates needs no list: position p holds what the last swap put there, else itself.
    """
    b = tl.program_id(0).to(tl.int64)
    user = tl.load(users + b)
    low, high = user_words(user)
    k0, k1 = key_words(key)
    first, last = tl.load(indptr + user), tl.load(indptr + user + 1)
    extra_first = b * M
    extra_last = extra_first
    if EXTRA:
        extra_last += tl.load(sizes + b)
    gone = (last - first) + (extra_last - extra_first)
    j = tl.arange(0, P).to(tl.int64)
    value, fair = slot_value(low, high, j, 0, tl.maximum(N, 1) + gone * 0, k0, k1)
    fair = fair & ~excluded(value, indices, first, last, extra, extra_first, extra_last, EXTRA)
    ahead = tl.where(fair, value, -1)
    drawn = j * 0 - 1
    slot = tl.full((), 0, tl.int64)
    while (slot < n) & (slot < N - gone) & (2 * (gone + slot) <= N):
        item = tl.sum(tl.where(j == slot, ahead, 0), axis=0)
        item = tl.where(tl.sum((drawn == item).to(tl.int32), axis=0) > 0, -1, item)
        attempt = tl.full((), 1, tl.int64)
        while item < 0:
            next_value, passed = slot_value(low, high, slot, attempt, N + gone * 0, k0, k1)
            passed = passed & ~excluded(next_value, indices, first, last, extra, extra_first, extra_last, EXTRA)
            passed = passed & (tl.sum((drawn == next_value).to(tl.int32), axis=0) == 0)
            item = tl.where(passed, next_value, -1)
            attempt += 1
        drawn = tl.where(j == slot, item, drawn)
        slot += 1
    start = slot
    places, values, early = drawn * 0 - 1, drawn * 0, drawn
    while (slot < n) & (slot < N - gone):
        done = slot - start
        bound = N - gone - slot
        offset, sound = slot_value(low, high, slot, tl.full((), 0, tl.int64), bound, k0, k1)
        attempt = tl.full((), 1, tl.int64)
        while sound == 0:
            offset, sound = slot_value(low, high, slot, attempt, bound, k0, k1)
            attempt += 1
        at = done + offset
        rank = _held(at, places, values, j)
        here = _held(done, places, values, j)
        places = tl.where(j == done, at, places)
        values = tl.where(j == done, here, values)
        item = nth_free(rank, N, early, indices, first, last, extra, extra_first, extra_last, EXTRA)
        drawn = tl.where(j == slot, item, drawn)
        slot += 1
    tl.store(out + b * n + j, drawn, mask=j < n)


@triton.jit
def _held(place, places, values, j):
    """Return what a position of the virtual list holds: the value of the last swap into it, else its own number."""
    latest = tl.max(tl.where(places == place, j, -1), axis=0)
    swapped = tl.sum(tl.where(j == latest, values, 0), axis=0)
    return tl.where(latest < 0, place, swapped)


def sample_unobserved(
    users: Tensor, n: int, indptr: Tensor, indices: Tensor, num_items: int, lists: Tensor | None, replacement: bool,
    key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item is left; see :func:`fastkd.ops.sample_unobserved`."""
    out = new((len(users), n), torch.int64, users.device)
    if out.numel() == 0:
        return out
    extra, sizes, width = None, None, 0
    if lists is not None and lists.shape[1]:
        extra, sizes = _cleaned(users, indptr, indices, lists)
        width = lists.shape[1]
    arguments = (users, indptr, indices, extra, sizes, key_tensor(key, users.device), out, num_items, width, n)
    if replacement:
        grid = (len(users), triton.cdiv(n, _BLOCK))
        repeated_kernel[grid](*arguments, EXTRA=extra is not None, W=_BLOCK)
        return out
    if n > MAX_DISTINCT:
        raise ValueError(f"backend 'triton' draws at most {MAX_DISTINCT} distinct items per user, got {n}")
    distinct_kernel[(len(users),)](*arguments, EXTRA=extra is not None, **_distinct_shape(n))
    return out


def _cleaned(users: Tensor, indptr: Tensor, indices: Tensor, lists: Tensor) -> tuple[Tensor, Tensor]:
    """Return the extra lists ascending, without repeats and what the history holds, and how many ids each keeps."""
    width = lists.shape[1]
    ordered = lists.to(torch.int64).masked_fill(lists < 0, _NOTHING).sort(dim=1).values.contiguous()
    sizes = new((len(lists),), torch.int64, lists.device)
    clean_kernel[(len(lists),)](users, indptr, indices, ordered, sizes, width, P=max(32, triton.next_power_of_2(width)))
    return ordered.sort(dim=1).values, sizes


def _distinct_shape(n: int) -> dict[str, Any]:
    padded = max(32, triton.next_power_of_2(n))
    return {"P": padded, "num_warps": 1 if padded <= 256 else min(8, padded // 256)}


def _configuration(name: str, kernel: Any, extra: bool, constants: dict[str, Any], num_warps: int) -> Configuration:
    pointers = {"users": "*i64", "indptr": "*i64", "indices": "*i32", "key": "*i64", "out": "*i64"}
    lists = {"extra": "*i64", "sizes": "*i64"}
    return Configuration(
        name=name,
        kernel=kernel,
        signature=pointers | (lists if extra else {}) | {"N": "i32", "M": "i32", "n": "i32"},
        constants=constants | {"EXTRA": extra} | ({} if extra else dict.fromkeys(lists)),
        num_warps=num_warps,
        unaligned=("N", "M", "n"),
    )


CONFIGURATIONS = (
    Configuration(
        name="clean",
        kernel=clean_kernel,
        signature={"users": "*i64", "indptr": "*i64", "indices": "*i32", "lists": "*i64", "sizes": "*i64", "M": "i32"},
        constants={"P": 512},
        unaligned=("M",),
    ),
    _configuration("repeated", repeated_kernel, False, {"W": _BLOCK}, 4),
    _configuration("repeated-lists", repeated_kernel, True, {"W": _BLOCK}, 4),
    _configuration("distinct-40-lists", distinct_kernel, True, {"P": 64}, 1),
    _configuration("distinct-200", distinct_kernel, False, {"P": 256}, 1),
    _configuration("distinct-4096-lists", distinct_kernel, True, {"P": 4096}, 8),
)
