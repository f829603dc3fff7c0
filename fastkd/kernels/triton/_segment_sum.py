"""The gradient of an item table, summed from coefficients: deterministic, without atomics, sync or values read back.

    out[i] = sum_{e: keys[e] = i} upstream[b] coefficients[e] users[b],   b = e // W

Shapes: E = B x W entries; N items, D dimensions. A key of -1 (or any outside [0, N)) is nobody's.

Few entries: every entry looks for its key among all of them, and the first of its kind sums them all. Two launches,
and the same kernel scales the users' gradients, should a caller have any.
Many: entries are sorted by key (stable, so in order of e). A program sums the runs of equal keys in its tile of TILE
entries and writes those that lie inside it; of a run that crosses tiles it leaves the partial sums, in scratch of
E / TILE rows, and a second kernel adds them in order. A popular item's entries are summed by many programs at once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._math import INTERPRETING
from fastkd.kernels.triton._rows import TRITON, configuration, narrow

FEW = 64 if INTERPRETING else 4096
"""Entries up to which a quadratic search beats the launches of a sort; the interpreter runs programs one by one."""

_TILE, _CARRIES = 32, 32


def segment_sum(
    coefficients: Tensor, keys: Tensor, users: Tensor, upstream: Tensor | None, items: Tensor,
    unit_users: Tensor | None = None, user_grad: Tensor | None = None, *, gathered: bool = False,
) -> Tensor:  # fmt: skip
    """Return the gradient, Float[N, D] in the dtype of ``items``; all tensors contiguous.

    ``coefficients``: Float[B, W]. ``keys``: Int[B, W]. ``users``: Float[B, D]. ``upstream``: Float[B], 1 if None.
    ``items``: Float[N, D], for its shape and dtype. ``unit_users``, ``user_grad``: Float[B, D], where :func:`is_few`
    alone: ``user_grad[b] = upstream[b] unit_users[b]`` is written as well; or, if ``gathered``, ``user_grad[b] = sum_c
    coefficients[b, c] items[keys[b, c]]``, and ``unit_users`` is not read.
    """
    out = torch.zeros(items.shape, dtype=items.dtype, device=items.device)
    entries, width, dim = keys.numel(), keys.shape[1], users.shape[1]
    if not entries or not out.numel():
        return out
    kind, block = TRITON[coefficients.dtype], dim_block(dim)
    if is_few(keys, items):
        table = items.contiguous() if gathered else None
        _first[(entries, triton.cdiv(dim, block))](
            coefficients, keys, users, upstream, out, unit_users, user_grad, table, entries, width, len(items), dim,
            BLOCK=min(4096 // block, 64, triton.next_power_of_2(entries)), DIMS=block, TYPE=kind,
        )  # fmt: skip
        return out
    if keys.dtype is not key_dtype(len(items)):
        keys = keys.clamp(-1, len(items)).to(key_dtype(len(items)))  # what is nobody's stays so
    found, order = torch.sort(keys.view(-1), stable=True)
    sum_runs(coefficients, found, order, users, upstream, out, width)
    return out


def sum_runs(
    coefficients: Tensor, found: Tensor, order: Tensor, users: Tensor, upstream: Tensor | None, out: Tensor, width: int,
) -> None:  # fmt: skip
    """Write the sum of each run of equal keys to the row of ``out`` that the key names; other rows stay as they are.

    ``found``: Int[E], keys in order. ``order``: Int64[E], the entry e = b ``width`` + c of each. ``out``: Float[N, D].
    """
    entries, dim, device = found.numel(), out.shape[1], out.device
    kind, block, tiles = TRITON[coefficients.dtype], dim_block(dim), triton.cdiv(entries, _TILE)
    heads = new((tiles, dim), coefficients.dtype, device)
    tails = new((tiles, dim), coefficients.dtype, device)
    grid = (tiles, triton.cdiv(dim, block))
    _runs[grid](
        coefficients, found, order, users, upstream, out, heads, tails, entries, width, len(out), dim,
        TILE=_TILE, DIMS=block, TYPE=kind, num_warps=warps(block),
    )  # fmt: skip
    _join[grid](
        found, heads, tails, out, entries, len(out), dim, TILE=_TILE, MANY=_CARRIES, DIMS=block, TYPE=kind,
        num_warps=warps(block),
    )  # fmt: skip


def is_few(keys: Tensor, items: Tensor) -> bool:
    """Return whether :func:`segment_sum` takes the way of few entries."""
    return 0 < keys.numel() <= FEW and items.numel() > 0


def key_dtype(num_items: int) -> torch.dtype:
    """Return the dtype of keys: int32 where it holds them, for half the sorting."""
    return torch.int32 if num_items < 2**31 else torch.int64


def dim_block(dim: int) -> int:
    """Return how many dimensions a program takes."""
    return min(128, int(triton.next_power_of_2(max(dim, 1))))


def warps(block: int) -> int:
    """Return how many warps share a tile of 32 rows of ``block`` numbers: 16 numbers to a thread."""
    return max(1, block * _TILE // 512)


_FIRST = (("", ()), ("-users", ("unit_users", "user_grad")), ("-gathered", ("user_grad", "table")))
"""What :func:`_first` is given beside the entries: nothing, a user's gradient to scale, or one to sum."""


def segment_configurations(dim: int) -> tuple[Configuration, ...]:
    """Return how :func:`segment_sum` compiles its kernels for float32 and ``dim`` dimensions."""
    block, kind = dim_block(dim), TRITON[torch.float32]
    entry = {"coefficients": "*fp32", "users": "*fp32", "upstream": "*fp32", "out": "*fp32"}
    scratch = {"heads": "*fp32", "tails": "*fp32"}
    sizes = {"E": "i32", "N": "i32", "D": "i32"}
    return (
        *(
            configuration(
                f"first{name}-d{dim}", _first,
                {**{k: v for k, v in entry.items() if k != "upstream" or name != "-gathered"},
                 "keys": "*i32", **dict.fromkeys(given, "*fp32")},
                {**sizes, "W": "i32"},
                {**dict.fromkeys({"unit_users", "user_grad", "table"} - {*given}),
                 **dict.fromkeys(("upstream",) * (name == "-gathered")),
                 "BLOCK": min(4096 // block, 64), "DIMS": block, "TYPE": kind},
            )
            for name, given in _FIRST
        ),
        configuration(
            f"runs-d{dim}", _runs, {**entry, **scratch, "found": "*i32", "order": "*i64"}, {**sizes, "W": "i32"},
            {"TILE": _TILE, "DIMS": block, "TYPE": kind}, num_warps=warps(block),
        ),
        configuration(
            f"join-d{dim}", _join, {**scratch, "found": "*i32", "out": "*fp32"}, sizes,
            {"TILE": _TILE, "MANY": _CARRIES, "DIMS": block, "TYPE": kind}, num_warps=warps(block),
        ),
    )  # fmt: skip


@triton.jit
def _first(
    coefficients, keys, users, upstream, out, unit_users, user_grad, table, E, W, N, D,
    BLOCK: tl.constexpr, DIMS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Program e: if no entry before e has its key, sum all entries that have it, in order; a user's first makes dU."""
    e = tl.program_id(0)
    if user_grad is not None:  # noqa: SIM102 (the outer test is the compiler's, the inner one the program's)
        if e % W == 0:
            d = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
            b = (e // W).to(tl.int64)
            if table is not None:
                value = _sum_listed(table, coefficients + e, keys + e, d, W, N, D, BLOCK, DIMS, TYPE)
            else:
                value = tl.load(unit_users + b * D + d, d < D, other=0.0) * tl.load(upstream + b).to(TYPE)
            tl.store(user_grad + b * D + d, narrow(value, user_grad.dtype.element_ty), d < D)
    key = tl.load(keys + e).to(tl.int64)
    wanted = (key >= 0) & (key < N)
    earlier = tl.zeros([BLOCK], tl.int32)
    if wanted:
        for start in range(0, e, BLOCK):
            j = start + tl.arange(0, BLOCK)
            earlier += (tl.load(keys + j, j < e, other=-1).to(tl.int64) == key).to(tl.int32)
    if wanted & (tl.sum(earlier, 0) == 0):
        d = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
        total = tl.zeros([DIMS], TYPE)
        for start in range(e // BLOCK * BLOCK, E, BLOCK):
            j = start + tl.arange(0, BLOCK)
            mine = tl.load(keys + j, j < E, other=-1).to(tl.int64) == key
            if tl.max(mine.to(tl.int32), 0) > 0:
                b = (j // W).to(tl.int64)
                c = tl.load(coefficients + j, mine, other=0.0)
                if upstream is not None:
                    c *= tl.load(upstream + b, mine, other=0.0).to(TYPE)
                u = tl.load(users + b[:, None] * D + d[None, :], mine[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
                total += tl.sum(c[:, None] * u, 0)
        tl.store(out + key * D + d, narrow(total, out.dtype.element_ty), d < D)


@triton.jit
def _sum_listed(
    table, coefficients, keys, d, W, N, D, BLOCK: tl.constexpr, DIMS: tl.constexpr, TYPE: tl.constexpr
):  # fmt: skip
    """Return sum_c coefficients[c] table[keys[c]] over the W entries of a user, dimensions d."""
    total = tl.zeros([DIMS], TYPE)
    for start in range(0, W, BLOCK):
        j = start + tl.arange(0, BLOCK)
        i = tl.load(keys + j, j < W, other=-1).to(tl.int64)
        known = (i >= 0) & (i < N)
        c = tl.load(coefficients + j, known, other=0.0)
        v = tl.load(table + i[:, None] * D + d[None, :], known[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
        total += tl.sum(v * c[:, None], 0)
    return total


@triton.jit
def _add_within_run(value, head, then, then_head):
    return tl.where(then_head != 0, then, value + then), head | then_head


@triton.jit
def _runs(
    coefficients, found, order, users, upstream, out, heads, tails, E, W, N, D,
    TILE: tl.constexpr, DIMS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Program t: entries t TILE and on, as sorted. heads, tails [E / TILE, D]: sums of runs that cross its edges."""
    t = tl.program_id(0).to(tl.int64)
    j = t * TILE + tl.arange(0, TILE)
    d = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
    key = tl.load(found + j, j < E, other=-1).to(tl.int64)
    valid = (key >= 0) & (key < N)
    if tl.max(valid.to(tl.int32), 0) > 0:
        before = tl.load(found + j - 1, (j > 0) & (j < E), other=-1).to(tl.int64)
        after = tl.load(found + j + 1, j + 1 < E, other=-1).to(tl.int64)
        entry = tl.load(order + j, valid, other=0)
        b = entry // W
        c = tl.load(coefficients + entry, valid, other=0.0)
        if upstream is not None:
            c *= tl.load(upstream + b, valid, other=0.0).to(TYPE)
        inside = (d < D)[None, :]
        u = tl.load(users + b[:, None] * D + d[None, :], valid[:, None] & inside, other=0.0).to(TYPE)
        starts = ((key != before)[:, None] & (d >= 0)[None, :]).to(tl.int32)
        total, started = tl.associative_scan((c[:, None] * u, starts), 0, _add_within_run)
        ends = (key != after)[:, None]
        last = ends | (j == t * TILE + TILE - 1)[:, None]
        live = valid[:, None] & inside
        tl.store(out + key[:, None] * D + d[None, :], narrow(total, out.dtype.element_ty), live & ends & (started != 0))
        rows = tl.zeros([TILE, DIMS], tl.int64) + t * D + d[None, :]
        tl.store(heads + rows, total, live & last & (started == 0))
        tl.store(tails + rows, total, live & last & (started != 0) & (after == key)[:, None])


@triton.jit
def _join(
    found, heads, tails, out, E, N, D,
    TILE: tl.constexpr, MANY: tl.constexpr, DIMS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Program t: if a run starts in tile t and goes on in the next, add up its parts, MANY tiles at a time."""
    t = tl.program_id(0).to(tl.int64)
    end = (t + 1) * TILE
    if end < E:
        key = tl.load(found + end - 1).to(tl.int64)
        goes_on = (tl.load(found + end).to(tl.int64) == key) & (key >= 0) & (key < N)
        came_in = (tl.load(found + t * TILE).to(tl.int64) == key) & (t > 0)
        if came_in:
            came_in = tl.load(found + t * TILE - 1).to(tl.int64) == key
        if goes_on & (came_in == 0):
            d = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
            total = tl.load(tails + t * D + d, d < D, other=0.0)
            tiles = (E + TILE - 1) // TILE
            start = t + 1
            while start < tiles:
                next_tile = start + tl.arange(0, MANY)
                same = next_tile < tiles
                same &= tl.load(found + next_tile * TILE, same, other=-1).to(tl.int64) == key
                part = tl.load(heads + next_tile[:, None] * D + d[None, :], same[:, None] & (d < D)[None, :], other=0.0)
                total += tl.sum(part, 0)
                start = tl.where(tl.sum(same.to(tl.int32), 0) == MANY, start + MANY, tiles)
            tl.store(out + key * D + d, narrow(total, out.dtype.element_ty), d < D)
