"""What the catalogue kernels share: rows of a table, a tile of scores, exclusions.

A table narrower than a block of dimensions (``CHUNKS == 1``) keeps its own rows in registers or shared memory and
loads the other side's once for both products; a wider one makes its scores chunk by chunk and its second product for
one chunk per program.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._math import dot

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_rows(table, rows, count, first, D, BD: tl.constexpr):
    """Return [rows, BD]: dimensions ``first ...`` of the rows, 0 outside the table."""
    d = first + tl.arange(0, BD)
    return tl.load(
        table + rows[:, None].to(tl.int64) * D + d[None, :], mask=(rows < count)[:, None] & (d < D)[None, :], other=0.0
    )


@triton.jit
def product(a, b, EXACT: tl.constexpr, PRECISION: tl.constexpr):
    """Return ``a @ b``, in float64 if EXACT: no tensor core there, tests and gradient checks only."""
    if EXACT:
        return tl.sum(a[:, :, None] * b[None, :, :], axis=1)
    return dot(a, b, PRECISION)


@triton.jit
def tile_scores(
    a, a_table, a_rows, a_count, b, b_table, b_rows, b_count, D,
    BD: tl.constexpr, CHUNKS: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return inner products [rows of a, rows of b]; ``a`` and ``b`` are the loaded rows if CHUNKS is 1."""
    if CHUNKS == 1:
        return product(a, tl.trans(b), EXACT, PRECISION)
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    scores = tl.zeros((a_rows.shape[0], b_rows.shape[0]), kind)
    for chunk in range(CHUNKS):
        x = load_rows(a_table, a_rows, a_count, chunk * BD, D, BD)
        y = load_rows(b_table, b_rows, b_count, chunk * BD, D, BD)
        scores += product(x, tl.trans(y), EXACT, PRECISION)
    return scores


@triton.jit
def log2_scores(scores, scale, bias, EXACT: tl.constexpr, PER_ROW: tl.constexpr):
    """Return scores in units of log 2; ``bias`` [items] or None, items are the rows if PER_ROW."""
    # A float argument arrives as float32: in float64 the tables come scaled.
    scores = scores * LOG2_E if EXACT else scores * (scale * LOG2_E)
    if bias is not None:
        if PER_ROW:
            scores += bias[:, None] * LOG2_E
        else:
            scores += bias[None, :] * LOG2_E
    return scores


@triton.jit
def first_excluded(bounds, indices, users, B, item, steps):
    """Return where each user's excluded ids from ``item`` on start, and where they end."""
    low = tl.load(bounds + 2 * users, mask=users < B, other=0)
    end = tl.load(bounds + 2 * users + 1, mask=users < B, other=0)
    high = end
    for _ in range(steps):
        middle = (low + high) >> 1
        found = tl.load(indices + middle, mask=low < high, other=0)
        open_ = low < high
        after = open_ & (found < item)
        high = tl.where(open_ & (found >= item), middle, high)
        low = tl.where(after, middle + 1, low)
    return low, end


@triton.jit
def exclude(scores, indices, at, end, first, items, PER_ROW: tl.constexpr):
    """Put excluded scores of a tile at -inf, one per user in a round; return them and where each user stands."""
    stop = first + items.shape[0]
    following = tl.load(indices + at, mask=at < end, other=2147483647).to(tl.int64)
    while tl.min(following, axis=0) < stop:
        hit = items[:, None] == following[None, :] if PER_ROW else following[:, None] == items[None, :]
        scores = tl.where(hit, float("-inf"), scores)
        at += (following < stop).to(at.dtype)
        following = tl.load(indices + at, mask=at < end, other=2147483647).to(tl.int64)
    return scores, at
