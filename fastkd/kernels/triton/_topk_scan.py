"""First half of ``rank_topk``: prepare operands, stream the catalogue, keep groups that may hold a result.

B users of a chunk, N items, D dimensions, W padded width of the copies, G items of a group, C capacity of a user's
pending buffer. An entry of the buffer is int64: bits of the group's largest filter score, then the group id.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._math import INTERPRETING, dot
from fastkd.kernels.triton._topk_math import margin, norm_of, round_bf16, threshold


@triton.jit
def prepare_users(
    x_ptr, copy_ptr, norm_ptr, tau_ptr, count_ptr, B,
    D: tl.constexpr, W: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Copy users [B, D] to [B, W], zero padded; norms and residuals to norm [B, 2]; empty state."""
    rows = tl.program_id(0) * BR + tl.arange(0, BR)
    live = rows < B
    norm, residual = _copy_rows(x_ptr, copy_ptr, rows, rows, live, live, D, W, BR, BD, FAST)
    tl.store(norm_ptr + 2 * rows, norm, mask=live)
    tl.store(norm_ptr + 2 * rows + 1, residual, mask=live)
    tl.store(tau_ptr + rows, tl.full([BR], float("-inf"), tl.float32), mask=live)
    tl.store(count_ptr + 2 * rows, tl.zeros([BR], tl.int32), mask=live)
    tl.store(count_ptr + 2 * rows + 1, tl.zeros([BR], tl.int32), mask=live)


@triton.jit
def prepare_items(
    x_ptr, copy_ptr, top_ptr, N, first, rows_out, per,
    D: tl.constexpr, W: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Copy items first .. first + rows_out (zeros past N) to [rows_out, W]; raise the two maxima at ``top``.

    With ``copy`` None only the maxima are made. They are non-negative floats, whose bits order like integers.
    """
    begin = tl.program_id(0) * per
    top = tl.zeros([BR], tl.float32)
    top_residual = tl.zeros([BR], tl.float32)
    for start in range(begin, min(begin + per, rows_out), BR):
        out = start + tl.arange(0, BR)
        rows = first + out
        norm, residual = _copy_rows(x_ptr, copy_ptr, rows, out, rows < N, out < rows_out, D, W, BR, BD, FAST)
        top = tl.maximum(top, norm)
        top_residual = tl.maximum(top_residual, residual)
    _raise(top_ptr, tl.max(top, 0))
    _raise(top_ptr + 1, tl.max(top_residual, 0))


@triton.jit
def _raise(ptr, value):
    tl.atomic_max(ptr, value.to(tl.int32, bitcast=True), sem="relaxed")


@triton.jit
def _copy_rows(
    x_ptr, copy_ptr, rows, out, live, written,
    D: tl.constexpr, W: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    squares = tl.zeros([BR], tl.float32)
    left = tl.zeros([BR], tl.float32)
    for start in range(0, W, BD):
        d = start + tl.arange(0, BD)
        x = tl.load(
            x_ptr + rows[:, None].to(tl.int64) * D + d[None, :], mask=live[:, None] & (d < D)[None, :], other=0.0
        )
        operand, s, r = operand_of(x, FAST)
        squares += s
        left += r
        if copy_ptr is not None:
            mask = written[:, None] & (d < W)[None, :]
            tl.store(copy_ptr + out[:, None].to(tl.int64) * W + d[None, :], operand, mask=mask)
    return norm_of(squares, D), norm_of(left, D)


@triton.jit
def operand_of(x, FAST: tl.constexpr):
    """Return the filter operand of a tile, and per row the sums of squares of values and of rounding residuals."""
    # One return: the compiler reads past a return under a constant condition, and float16 is no bfloat16.
    wide = x.to(tl.float32)
    if x.dtype.primitive_bitwidth == 16:
        operand, squares, residual = x, tl.sum(wide * wide, 1), tl.zeros([x.shape[0]], tl.float32)
    else:
        rounded = round_bf16(wide)
        if FAST:  # the rounded values are the table: nothing is left over
            operand = rounded.to(tl.bfloat16)
            squares, residual = tl.sum(rounded * rounded, 1), tl.zeros([x.shape[0]], tl.float32)
        else:
            left = (x - rounded.to(x.dtype)).to(tl.float32)
            operand = rounded.to(tl.bfloat16)
            squares, residual = tl.sum(wide * wide, 1), tl.sum(left * left, 1)
    return operand, squares, residual


@triton.jit
def scan(
    u_ptr, v_ptr, bias_ptr, norm_ptr, tau_ptr, count_ptr, pend_ptr, top_ptr,
    B, N, C, first, tiles, per, base,
    D: tl.constexpr, V: tl.constexpr, W: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    G: tl.constexpr, FAST: tl.constexpr, INLINE: tl.constexpr,
):  # fmt: skip
    """Score BM users against ``tiles`` tiles of BN items from ``first`` on; append groups that reach the threshold.

    u [B, W]; v rows of width V, row i at i - base; norm [B, 2] (norm, residual); top [2]: the items' maxima.
    INLINE (few users, bound by memory): v is the caller's table, margins are made per item here and added to the
    scores, so the table is read once. Else operands are ready, and thresholds allow for the maxima at ``top``.
    Grid: user tiles first, so that blocks that share a tile of items run together.
    """
    users = tl.program_id(0) * BM + tl.arange(0, BM)
    live = users < B
    un = tl.load(norm_ptr + 2 * users, mask=live, other=0.0)
    ur = tl.load(norm_ptr + 2 * users + 1, mask=live, other=0.0)
    tau = tl.load(tau_ptr + users, mask=live, other=0.0)
    bound = 0.0 if INLINE else margin(un, ur, tl.load(top_ptr), tl.load(top_ptr + 1), D)
    least = threshold(tau, bound)
    least = tl.where(live, least, float("inf"))
    d = tl.arange(0, BD)
    u = tl.load(u_ptr + users[:, None].to(tl.int64) * W + d[None, :], mask=live[:, None], other=0.0)
    begin = tl.program_id(1) * per
    end = min(begin + per, tiles)
    # Where every threshold is positive, the largest of a group may be found on the bits: any positive float beats any
    # negative one there, and a group without a positive score is dropped by both. Three-input integer maxima.
    positive = tl.min(least, 0) > 0
    top = tl.zeros([BN], tl.float32)
    top_residual = tl.zeros([BN], tl.float32)
    for t in range(begin, end):
        item = first + t * BN
        s, n, r = _scores(u, u_ptr, v_ptr, bias_ptr, users, live, item, N, base, D, V, W, BM, BN, BD, FAST, INLINE)
        if INLINE:
            top = tl.maximum(top, n)
            top_residual = tl.maximum(top_residual, r)
            s += margin(un[:, None], ur[:, None], n[None, :], r[None, :], D)
            g = _group_max(s, BM, BN, G, True)
        else:
            bits = s.to(tl.int32, bitcast=True)  # before the branch: triton 3.6 refuses to read a product within one
            if positive:
                g = _group_max(bits, BM, BN, G, False).to(tl.float32, bitcast=True)
            else:
                g = _group_max(bits.to(tl.float32, bitcast=True), BM, BN, G, False)
        _append(g, least, live, users, item, count_ptr, pend_ptr, C, BM, BN, G)
    if INLINE:
        _raise(top_ptr, tl.max(top, 0))
        _raise(top_ptr + 1, tl.max(top_residual, 0))


@triton.jit
def _scores(
    u, u_ptr, v_ptr, bias_ptr, users, live, item, N, base,
    D: tl.constexpr, V: tl.constexpr, W: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    FAST: tl.constexpr, INLINE: tl.constexpr,
):  # fmt: skip
    """Return filter scores [BM, BN] and, INLINE, norms and residual norms [BN]. Items past N score 0."""
    items = item + tl.arange(0, BN)
    known = items < N
    if W == BD:
        s, n, r = _chunk(u, v_ptr, item, known, base, 0, D, V, BN, BD, FAST, INLINE)
    else:
        s = tl.zeros([BM, BN], tl.float32)
        n = tl.zeros([BN], tl.float32)
        r = tl.zeros([BN], tl.float32)
        for start in range(0, W, BD):
            d = start + tl.arange(0, BD)
            part = tl.load(u_ptr + users[:, None].to(tl.int64) * W + d[None, :], mask=live[:, None], other=0.0)
            ps, pn, pr = _chunk(part, v_ptr, item, known, base, start, D, V, BN, BD, FAST, INLINE)
            s += ps
            n += pn
            r += pr
    if bias_ptr is not None:
        s += tl.load(bias_ptr + items, mask=known, other=0.0).to(tl.float32)[None, :]
    if INLINE:
        n = norm_of(n, D)
        r = norm_of(r, D)
    return s, n, r


@triton.jit
def _chunk(
    u, v_ptr, item, known, base, start,
    D: tl.constexpr, V: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, FAST: tl.constexpr, INLINE: tl.constexpr,
):  # fmt: skip
    d = start + tl.arange(0, BD)
    rows = v_ptr + (item - base).to(tl.int64) * V  # 64 bits once a tile, 32 within it
    address = rows + (tl.arange(0, BN)[:, None] * V + d[None, :])
    if V > 0 and V % BD == 0:  # without a dimension there is nothing to read
        v = tl.load(address, mask=known[:, None], other=0.0)
    else:
        v = tl.load(address, mask=known[:, None] & (d < D)[None, :], other=0.0)
    if INLINE:
        v, n, r = operand_of(v, FAST)
    else:
        n = tl.zeros([BN], tl.float32)
        r = tl.zeros([BN], tl.float32)
    return dot(u, tl.trans(v)), n, r


@triton.jit
def _group_max(s, BM: tl.constexpr, BN: tl.constexpr, G: tl.constexpr, KEEP_NAN: tl.constexpr):
    """Return [BM, BN / G]: maxima over items 8 j + 2 q + {0, 1}, which the tensor core leaves in one thread.

    KEEP_NAN: of a group with NaN it is NaN, for that may stand for any score. Else margins of all items are infinite.
    """
    if KEEP_NAN and INTERPRETING:  # it would reduce one element at a time
        s = tl.where(s == s, s, float("inf"))
    parts = tl.reshape(s, [BM, BN // (4 * G), G // 2, 4, 2])
    if KEEP_NAN and not INTERPRETING:
        best = tl.reduce(tl.reduce(parts, 2, _larger_or_nan), 3, _larger_or_nan)
    else:
        best = tl.max(tl.max(parts, 2), 3)
    return tl.reshape(best, [BM, BN // G])


@triton.jit
def _larger_or_nan(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _append(g, least, live, users, item, count_ptr, pend_ptr, C, BM: tl.constexpr, BN: tl.constexpr, G: tl.constexpr):
    """Append (bits of g, group id) to the users' buffers. Slots race; the final order does not depend on them."""
    groups = item // G + tl.arange(0, BN // G)
    hit = (~(g < least[:, None])) & live[:, None]
    slot = tl.atomic_add(count_ptr + 2 * users[:, None] + tl.zeros_like(hit).to(tl.int32), 1, mask=hit, sem="relaxed")
    entry = (g.to(tl.int32, bitcast=True).to(tl.int64) << 32) | groups[None, :].to(tl.int64)
    tl.store(pend_ptr + users[:, None].to(tl.int64) * C + slot, entry, mask=hit)
