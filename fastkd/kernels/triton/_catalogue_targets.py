"""Kernels around the sweeps: ranges joined, listed targets added to a loss, and to the rows of the item gradient.

B users, N items, D dimensions, K listed items of a user, S ranges of items.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._catalogue_tile import LN_2, LOG2_E


@triton.jit
def finish(
    tops, masses, means, users, items, bias, ids, coefficients, uniform, column, bias_sum, loss, unit, top_out, share,
    B, N, D, K, S, scale, BS: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write loss, unit gradient of users, top and share of one user. ``ids`` None: the log-sum-exp alone."""
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    b = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BD)
    parts = tl.arange(0, BS)
    each = tl.load(tops + parts * tl.cast(B, tl.int64) + b, mask=parts < S, other=float("-inf"))
    top = tl.max(each, axis=0)
    safe = tl.where(top == float("-inf"), 0.0, top)
    masses_each = tl.load(masses + parts * tl.cast(B, tl.int64) + b, mask=parts < S, other=0.0)
    mass = tl.sum(masses_each * tl.exp2(each - safe), axis=0)
    value = tl.sum(tl.zeros((BS,), kind), axis=0)
    total = value + 1.0
    listed = tl.zeros((BD,), kind)
    if ids is not None:
        u = tl.load(users + b * D + d, mask=d < D, other=0.0).to(kind)
        total = value
        if uniform is not None:
            t = tl.load(uniform + b)
            sums = tl.load(column + d, mask=d < D, other=0.0)
            dense = _natural(tl.sum(u * sums, axis=0), scale, EXACT) + tl.load(bias_sum)
            value += t * (N * safe - dense * LOG2_E)
            total += t * N
            listed -= t * sums
        for k in range(0, K, BK):
            j = k + tl.arange(0, BK)
            item = tl.load(ids + b * K + j, mask=j < K, other=-1).to(tl.int64)
            c = tl.load(coefficients + b * K + j, mask=j < K, other=0.0).to(kind)
            known = (item >= 0) & (item < N) & (c != 0)
            v = tl.load(items + item[:, None] * D + d[None, :], mask=known[:, None] & (d < D)[None, :], other=0.0)
            v = v.to(kind)
            z = _natural(tl.sum(v * u[None, :], axis=1), scale, EXACT)
            if bias is not None:
                z += tl.load(bias + item, mask=known, other=0.0)
            c = tl.where(known, c, 0.0)
            wrong = (item < -1) | (item >= N)
            value += tl.sum(tl.where(wrong, float("nan"), tl.where(known, c * (safe - z * LOG2_E), 0.0)), axis=0)
            total += tl.sum(c, axis=0)
            listed -= tl.sum(c[:, None] * v, axis=0)
    spread = tl.where(total == 0, 0.0, total * tl.log2(tl.where(mass == 0, 1.0, mass)))
    if ids is None:
        spread += tl.where(mass == 0, float("-inf"), safe)
    else:
        spread += tl.where((mass == 0) & (total != 0), float("-inf"), 0.0)
    tl.store(loss + b, (value + spread) * LN_2)
    tl.store(top_out + b, safe)
    inverse = tl.where(mass == 0, 0.0, total / tl.where(mass == 0, 1.0, mass))
    tl.store(share + b, inverse)
    if means is not None:
        mean = tl.zeros((BD,), kind)
        for s in range(S):
            weight = tl.exp2(tl.load(tops + s * tl.cast(B, tl.int64) + b) - safe)
            mean += weight * tl.load(means + (s * tl.cast(B, tl.int64) + b) * D + d, mask=d < D, other=0.0)
        tl.store(unit + b * D + d, _natural(mean * inverse + listed, scale, EXACT), mask=d < D)


@triton.jit
def _natural(x, scale, EXACT: tl.constexpr):
    # In float64 the users come scaled, and the launcher scales their gradient.
    if EXACT:
        return x
    return x * scale


@triton.jit
def add_target_gradient(
    sorted_ids, order, coefficients, upstream, users, out, E, N, D, K, scale,
    BE: tl.constexpr, BD: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Subtract ``g_b c_bj users_b`` from row ``ids[b, j]`` of ``out``. The first entry of an item owns its row."""
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    e = tl.program_id(0).to(tl.int64)
    item = tl.load(sorted_ids + e).to(tl.int64)
    before = tl.load(sorted_ids + e - 1, mask=e > 0, other=-1).to(tl.int64)
    if (item >= 0) & (item < N) & (item != before):
        d = tl.arange(0, BD)
        total = tl.zeros((BD,), kind)
        following = item
        while following == item:
            entries = e + tl.arange(0, BE)
            mine = tl.load(sorted_ids + entries, mask=entries < E, other=-1).to(tl.int64) == item
            place = tl.load(order + entries, mask=mine, other=0)
            b = place // K
            c = tl.load(coefficients + place, mask=mine, other=0.0).to(kind)
            c *= tl.load(upstream + b, mask=mine, other=0.0)
            u = tl.load(users + b[:, None] * D + d[None, :], mask=mine[:, None] & (d < D)[None, :], other=0.0)
            total += tl.sum(c[:, None] * u.to(kind), axis=0)
            e += BE
            following = tl.load(sorted_ids + e, mask=e < E, other=-1).to(tl.int64)
        row = out + item * D + d
        now = tl.load(row, mask=d < D, other=0.0).to(kind)
        tl.store(row, now - _natural(total, scale, EXACT), mask=d < D)
