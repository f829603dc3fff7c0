"""Exact masked top-K on the CPU: BLAS proposes, a proved margin keeps, a canonical score decides.

Users x items tiles of float BLAS scores are filtered against each user's running K-th best score, less
twice a bound on how far a BLAS score can stray from the canonical one. What passes is re-scored
canonically (float64, in order of d) and sorted, so block shapes and threads leave no trace in the result.
A row that the filter cannot decide (ties past its buffer, values that overflow) is ranked exactly.

Shapes: B users, N items, D dimensions, K results, W items in a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import MAX_ITEMS, Keys, key_item, key_score, make_key, select_smallest, write_row

Floats = NDArray[Any]
Ints = NDArray[Any]

_GROUP = 64
_SLACK = 512
_USER_BLOCK = 256
_TILE_BYTES = 8 << 20
_BUFFER_BYTES = 32 << 20
_SAFE_BOUND = 1e37


def rank_topk(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return (scores Float32[B, K], ids Int64[B, K]); see :func:`fastkd.ops.rank_topk`.

    ``indptr`` Int64[B + 1] and ``indices``: items to leave out, row b for ``users[b]``. Memory beyond the
    arguments: O(K) per user of a block, one tile, and a float32 copy of tables in half precision.
    """
    user_table, item_table = _as_float(users), _as_float(items)
    count, num_items = len(user_table), len(item_table)
    if num_items > MAX_ITEMS:
        raise ValueError(f"backend 'numba' ranks at most {MAX_ITEMS} items, got {num_items}; use backend='reference'")
    scores, ids = torch.empty((count, k), dtype=torch.float32), torch.empty((count, k), dtype=torch.int64)
    if count == 0 or k == 0:
        return scores, ids
    rows = np.zeros(count + 1, dtype=np.int64) if indptr is None else indptr.numpy()
    seen = np.zeros(0, dtype=np.int32) if indices is None else indices.numpy()
    offsets = np.zeros(0, dtype=np.float32) if bias is None else _as_float(bias).to(torch.float32).numpy()
    margins = _margins(user_table, item_table, offsets)
    capacity = min(2 * k + _SLACK, num_items + _GROUP)
    block = max(1, min(_USER_BLOCK, _BUFFER_BYTES // (8 * capacity), -(-count // torch.get_num_threads())))
    table = item_table.numpy()

    def rank(start: int) -> None:
        part = slice(start, min(start + block, count))
        block_rows, block_users = rows[start : part.stop + 1], user_table[part]
        keys, counts = _filter(block_users, item_table, k, capacity, block_rows, seen, offsets, margins[part])
        _finish(
            keys, counts, block_users.numpy(), table, block_rows, seen, offsets, margins[part],
            scores[part].numpy(), ids[part].numpy(),
        )  # fmt: skip

    run_blocks(rank, range(0, count, block))
    return scores, ids


def _as_float(table: Tensor) -> Tensor:
    """Return the values contiguous, outside autograd, in float32 or float64 (half precisions widen exactly)."""
    values = table.detach()
    return (values if values.dtype in (torch.float32, torch.float64) else values.float()).contiguous()


def _filter(
    users: Tensor, items: Tensor, k: int, capacity: int, rows: Ints, seen: Ints, bias: Floats, margins: Floats
) -> tuple[Keys, Ints]:
    """Stream the catalogue past a block of users; return candidate keys and their counts (-1: undecided)."""
    count, num_items = len(users), len(items)
    width = max(_GROUP, _TILE_BYTES // (count * users.element_size()) // _GROUP * _GROUP)
    width = min(width, num_items)
    tile = torch.empty(count * width, dtype=users.dtype)
    keys = np.empty((count, capacity), dtype=np.uint64)
    counts = np.where(np.isfinite(margins), 0, -1)
    thresholds = np.where(counts == 0, -np.inf, np.inf).astype(np.float32)
    cursors = rows[:count].copy()
    for first in range(0, num_items, width):
        last = min(first + width, num_items)
        block = tile[: count * (last - first)].view(count, last - first)
        torch.mm(users, items[first:last].t(), out=block)
        _filter_tile(block.numpy(), first, k, rows, seen, bias, margins, cursors, thresholds, keys, counts)
    return keys, counts


def _margins(users: Tensor, items: Tensor, bias: Floats) -> Floats:
    """Return per user how far a BLAS score can stray from the canonical one; inf where there is no bound.

    Any order of summation, fused or not, errs by at most g |u| |v|, g = D e / (1 - D e); the roundings of
    the result, the bias and the key add a few e. Flushed subnormals add at most the last term.
    """
    user_norms, top = _norms(users.numpy()), float(_norms(items.numpy()).max(initial=0.0))
    dim = users.shape[1]
    rounding, unit = 2.0**-24, 2.0**-53 if users.dtype == torch.float64 else 2.0**-24
    finite = np.abs(bias[np.isfinite(bias)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        bound = user_norms * top
    tiny = dim * 2.0**-125 * (1.0 + user_norms + top)
    relative = 1.02 * (dim + 4) * unit + 8 * rounding + _narrowing(users.dtype)
    margins = relative * bound + 4 * rounding * finite + tiny
    usable = (bound + finite < _SAFE_BOUND) & (dim * unit < 1e-2)
    return np.where(usable, margins, np.inf)


def _narrowing(dtype: torch.dtype) -> float:
    """Return what torch.mm may add to the relative error by rounding float32 operands to tf32 or bfloat16."""
    mkldnn: Any = getattr(torch.backends.mkldnn, "matmul", None)
    allowed = {torch.get_float32_matmul_precision(), getattr(mkldnn, "fp32_precision", "none")}
    if dtype == torch.float64 or allowed <= {"highest", "none", "ieee"}:
        return 0.0
    return 2.0**-9 if allowed <= {"highest", "none", "ieee", "high", "tf32"} else 2.0**-6


@jit(fastmath={"reassoc", "contract"})
def _norms(table: Floats) -> Floats:
    """Return each row's Euclidean norm, rounded up a hair; not finite where the row is not."""
    norms = np.empty(len(table))
    for i in range(len(table)):
        row, total = table[i], 0.0
        for d in range(len(row)):
            value = np.float64(row[d])
            total += value * value
        norms[i] = np.sqrt(total) * (1 + 1e-9)
    return norms


@jit()
def _filter_tile(
    tile: Floats, first: int, k: int, rows: Ints, seen: Ints, bias: Floats, margins: Floats,
    cursors: Ints, thresholds: Floats, keys: Keys, counts: Ints,
) -> None:  # fmt: skip
    """Append the candidates of one tile Float[B, W] (items ``first`` on) to each user's buffer."""
    for b in range(tile.shape[0]):
        if counts[b] < 0:
            continue
        row = tile[b]
        cursor = cursors[b]
        while cursor < rows[b + 1] and seen[cursor] < first + len(row):
            row[seen[cursor] - first] = -np.inf
            cursor += 1
        cursors[b] = cursor
        if len(bias):
            part = bias[first : first + len(row)]
            for j in range(len(part)):
                row[j] += part[j]
        thresholds[b], counts[b] = _scan_row(row, first, k, margins[b], thresholds[b], keys[b], counts[b])


@jit()
def _scan_row(
    row: Floats, first: int, k: int, margin: float, threshold: Any, keys: Keys, count: int
) -> tuple[Any, int]:
    """Append what beats the threshold; return the new threshold and count (-1: the buffer cannot hold the ties).

    Most groups hold nothing; a count over a slice is what the compiler turns into vector code.
    """
    capacity = len(keys)
    for start in range(0, len(row), _GROUP):
        group = row[start : start + _GROUP]
        hits = np.int32(0)
        for j in range(len(group)):
            hits = np.int32(hits + np.int32(group[j] > threshold))
        if hits == 0:
            continue
        if count + hits > capacity:
            count, threshold = _compact(keys, count, k, margin)
            if count > capacity - max(_GROUP, capacity // 8):
                return np.float32(np.inf), -1
        for j in range(len(group)):
            if group[j] > threshold:
                keys[count] = make_key(np.float32(group[j]), first + start + j)
                count += 1
    return threshold, count


@jit()
def _compact(keys: Keys, count: int, k: int, margin: float) -> tuple[int, Any]:
    """Keep the best ``k`` and all within twice the margin of the last; return their number and the threshold."""
    if count <= k:
        return count, np.float32(-np.inf)
    worst = np.float64(key_score(select_smallest(keys, count, k)))
    threshold = np.nextafter(np.float32(worst - 2 * margin), np.float32(-np.inf))
    kept = k
    for j in range(k, count):
        key = keys[j]
        if key_score(key) > threshold:
            keys[kept] = key
            kept += 1
    return kept, threshold


@jit()
def _canonical(user: Floats, items: Floats, ids: Ints, bias: Floats, out: Floats) -> None:
    """Write the canonical scores of up to four items: float64 sums in order of d, rounded, plus bias.

    Four at a time, because each sum waits for its own last addition.
    """
    i0, i1, i2, i3 = items[ids[0]], items[ids[1]], items[ids[2]], items[ids[3]]
    t0 = t1 = t2 = t3 = 0.0
    for d in range(len(user)):
        u = np.float64(user[d])
        t0 += u * np.float64(i0[d])
        t1 += u * np.float64(i1[d])
        t2 += u * np.float64(i2[d])
        t3 += u * np.float64(i3[d])
    out[0], out[1], out[2], out[3] = np.float32(t0), np.float32(t1), np.float32(t2), np.float32(t3)
    if len(bias):
        for j in range(4):
            out[j] = np.float32(out[j] + bias[ids[j]])


@jit()
def _finish(
    keys: Keys, counts: Ints, users: Floats, items: Floats, rows: Ints, seen: Ints, bias: Floats,
    margins: Floats, scores: Floats, ids: Ints,
) -> None:  # fmt: skip
    """Re-score each user's candidates canonically and write the best K; rank undecided rows exactly."""
    k = ids.shape[1]
    for b in range(len(users)):
        count = counts[b]
        allowed = len(items) - (rows[b + 1] - rows[b])
        if count < min(k, allowed):
            count = _rank_exactly(keys[b], users[b], items, k, seen[rows[b] : rows[b + 1]], bias)
        else:
            count, _ = _compact(keys[b], count, k, margins[b])
            _rescore(keys[b], count, users[b], items, bias)
            if count > k:
                select_smallest(keys[b], count, k)
        write_row(keys[b], min(count, k), scores[b], ids[b])


@jit()
def _rescore(keys: Keys, count: int, user: Floats, items: Floats, bias: Floats) -> None:
    """Replace the BLAS scores in ``keys[:count]`` by canonical ones."""
    four, out = np.zeros(4, dtype=np.int64), np.empty(4, dtype=np.float32)
    for start in range(0, count, 4):
        size = min(4, count - start)
        for j in range(size):
            four[j] = key_item(keys[start + j])
        _canonical(user, items, four, bias, out)
        for j in range(size):
            keys[start + j] = make_key(out[j], four[j])


@jit()
def _rank_exactly(keys: Keys, user: Floats, items: Floats, k: int, seen: Ints, bias: Floats) -> int:
    """Stream canonical scores of every allowed item through a buffer of keys, which never tie; return the number."""
    count, cursor, item = 0, 0, 0
    worst = ~np.uint64(0)
    four, out = np.zeros(4, dtype=np.int64), np.empty(4, dtype=np.float32)
    while item < len(items):
        size = 0
        while size < 4 and item < len(items):
            if cursor < len(seen) and seen[cursor] == item:
                cursor += 1
            else:
                four[size] = item
                size += 1
            item += 1
        _canonical(user, items, four, bias, out)
        for j in range(size):
            key = make_key(out[j], four[j])
            if key < worst:
                if count == len(keys):
                    worst = select_smallest(keys, count, k)
                    count = k
                keys[count] = key
                count += 1
    if count > k:
        select_smallest(keys, count, k)
    return min(count, k)
