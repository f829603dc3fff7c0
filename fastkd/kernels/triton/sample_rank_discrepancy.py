"""Rank-discrepancy sampling on the GPU: propose, rank the proposals under both models, keep what is accepted.

The stream is defined in ``fastkd/kernels/reference/sample_rank_discrepancy.py``. No user is ranked but his proposals;
slots that these do not fill stay -1, and the op has them drawn from all ranks (``_discrepancy.finish``).

Shapes: B users, N items, C proposals of a pool, W proposals of a block.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels._discrepancy import HEAD, SLOPE, Rule
from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._discrepancy import FINISH_CONFIGURATIONS
from fastkd.kernels.triton._discrepancy import finish as finish
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._random import among
from fastkd.kernels.triton.philox import below, key_tensor, key_words, philox4x32, user_words
from fastkd.kernels.triton.rank_of import rank_of
from fastkd.kernels.triton.ranks_within import ranks_within

Model = tuple[Tensor, Tensor | None]

MAX_POOL = 4096
_BLOCK = 256
_HEAD, _SLOPE = tl.constexpr(HEAD), tl.constexpr(SLOPE)


@triton.jit
def propose_kernel(users, key, indptr, indices, pool, first, N, C, W: tl.constexpr):
    """Write the items of proposals ``first`` to ``first + C - 1`` of each user, -1 where void."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1).to(tl.int64) * W + tl.arange(0, W)
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(users + b))
    t = (first + c).to(tl.uint32)
    w0, _, _, _ = philox4x32(t, low + t * 0, high + t * 0, t * 0, k0, k1)
    item, fair = below(w0, N)
    seen = among(indices, tl.load(indptr + b), tl.load(indptr + b + 1), item)
    tl.store(pool + b * C + c, tl.where(fair & ~seen, item, -1), mask=c < C)


@triton.jit
def take_kernel(
    users, key, pool, teacher, student, table, offsets, taken, samples, first, N, C, bits, sign,
    RELATIVE: tl.constexpr, REPLACEMENT: tl.constexpr, W: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Give the accepted proposals of a pool to the next slots of a user; ``taken`` Int64[B]: slots filled, or -1.

    Rejected proposals become -1 in ``pool``, where the search for repeated items reads it again.
    """
    b = tl.program_id(0).to(tl.int64)
    before = tl.load(taken + b)
    start = tl.load(offsets + b)
    n = tl.load(offsets + b + 1) - start
    if (before >= 0) & (before < n):
        c = tl.arange(0, P).to(tl.int64)
        inside = c < C
        k0, k1 = key_words(key)
        low, high = user_words(tl.load(users + b))
        t = first + c
        w = t.to(tl.uint32)
        _, _, w2, w3 = philox4x32(w, low + w * 0, high + w * 0, w * 0, k0, k1)
        height = (w2.to(tl.int64) << (bits - 32)) | (w3.to(tl.int64) >> (64 - bits))
        item = tl.load(pool + b * C + c, mask=inside, other=-1)
        ranks = b * C + c
        gap = tl.load(student + ranks, mask=inside, other=0) - tl.load(teacher + ranks, mask=inside, other=0)
        gap = gap * sign
        cell = gap + (N - 1) if RELATIVE else tl.maximum(gap, 0)
        valid = inside & (item >= 0)
        weight = tl.load(table + cell, mask=valid, other=0)
        accepted = valid & (height < weight)
        if not REPLACEMENT:
            item = tl.where(accepted, item, -1)
            tl.store(pool + ranks, item, mask=inside)
            tl.debug_barrier()
            for at in range(0, before):
                accepted = accepted & (item != tl.load(samples + start + at))
            for at in range(0, C, W):
                other_at = at + tl.arange(0, W)
                other = tl.load(pool + b * C + other_at, mask=other_at < C, other=-1)
                same = (item[:, None] == other[None, :]) & (other_at[None, :] < c[:, None])
                accepted = accepted & (tl.sum(same.to(tl.int32), axis=1) == 0)
        one = accepted.to(tl.int64)
        slot = before + tl.cumsum(one, axis=0) - one
        wanted = accepted & (slot < n)
        late = wanted & (t >= (slot + _HEAD) * _SLOPE)
        bad = tl.min(tl.where(late, slot, 1 << 40), axis=0)
        tl.store(samples + start + slot, item, mask=wanted & (slot < bad))
        after = tl.minimum(before + tl.sum(one, axis=0), n)
        tl.store(taken + b, tl.where(bad < n, -1, after))


def sample_rank_discrepancy(
    teacher: Model, student: Model, ids: Tensor, offsets: Tensor, total: int, most: int, indptr: Tensor,
    indices: Tensor, num_items: int, how: Rule,
) -> Tensor:  # fmt: skip
    """Return the samples Int64[total], -1 where the proposals looked at did not fill a slot; see the reference.

    Memory: three numbers per proposal of a pool, and what :mod:`rank_of` needs.
    """
    samples = new((total,), torch.int64, ids.device).fill_(-1)
    if not how.rejects:
        return samples
    rows = len(ids)
    need = min(how.pool(most), SLOPE * (most + HEAD))
    width = min(MAX_POOL, -(-need // 32) * 32)
    key, taken = key_tensor(how.key, ids.device), torch.zeros(rows, dtype=torch.int64, device=ids.device)
    pool = new((rows, width), torch.int64, ids.device)
    models = [_promoted(*model) for model in (teacher, student)]
    for first in range(0, need, width):
        propose_kernel[(rows, triton.cdiv(width, _BLOCK))](
            ids, key, indptr, indices, pool, first, num_items, width, W=_BLOCK
        )
        ranks = [ranks_within(pool, u) if v is None else rank_of(u, v, pool, indptr, indices, None) for u, v in models]
        take_kernel[(rows,)](
            ids, key, pool, *ranks, how.table, offsets, taken, samples, first, num_items, width, how.bits, how.sign,
            RELATIVE=how.relative, REPLACEMENT=how.replacement, **_take_shape(width),
        )  # fmt: skip
    return samples


def _promoted(users: Tensor, items: Tensor | None) -> Model:
    if items is None:
        return users, None
    dtype = torch.promote_types(users.dtype, items.dtype)
    return users.to(dtype).contiguous(), items.to(dtype).contiguous()


def _take_shape(width: int) -> dict[str, Any]:
    """Return the constants of :func:`take_kernel` for a pool."""
    padded = max(64, triton.next_power_of_2(width))
    return {"W": max(2, min(8, 2048 // padded)), "P": padded, "num_warps": min(16, max(4, padded // 128))}


def _take(width: int, relative: bool, replacement: bool, default: bool = True) -> Configuration:
    shape = _take_shape(width)
    pointers = ("users", "key", "pool", "teacher", "student", "table", "offsets", "taken", "samples")
    return Configuration(
        name=f"take-{width}{'-relative' if relative else ''}{'' if replacement else '-distinct'}",
        kernel=take_kernel,
        signature=dict.fromkeys(pointers, "*i64") | dict.fromkeys(("first", "N", "C", "bits", "sign"), "i32"),
        constants={"RELATIVE": relative, "REPLACEMENT": replacement, "W": shape["W"], "P": shape["P"]},
        num_warps=shape["num_warps"],
        unaligned=("first", "N", "C", "bits", "sign"),
        default=default,
    )


CONFIGURATIONS = (
    Configuration(
        name="propose",
        kernel=propose_kernel,
        signature={
            "users": "*i64",
            "key": "*i64",
            "indptr": "*i64",
            "indices": "*i32",
            "pool": "*i64",
            "first": "i32",
            "N": "i32",
            "C": "i32",
        },
        constants={"W": _BLOCK},
        unaligned=("first", "N", "C"),
    ),
    _take(128, False, True),
    _take(512, True, True),
    _take(512, False, False),
    _take(4096, True, True),
    _take(4096, False, False),
    *FINISH_CONFIGURATIONS,
)
