"""The softmax over a whole catalogue, tile by tile: its log-sum-exp, its mean item vector, its item gradient.

Shapes: B users, N items, D dimensions; a tile is b users x w items. ``users`` come scaled (divided by temperature).
An exclusion is ``indices[bounds[u, 0]:bounds[u, 1]]`` of user u, ascending; ids past the catalogue mean nothing.

The softmax of user u is ``exp(s_ui - top_u) / mass_u``: kept apart, both are exact where their sum,
``log mass + top``, would round. A tile's sums are float32 in vector lanes, sums over tiles float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._catalogue_blocks import (
    USERS,
    item_range,
    run_units,
    scores_of,
    splits,
    tiles,
    user_blocks,
    width_of,
)
from fastkd.kernels.numba._catalogue_math import exp, maximum
from fastkd.kernels.numba._combine import combine, combine_across, weigh_inside
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._product import Users, write_products

Floats = NDArray[Any]
Exclusion = tuple[NDArray[np.int64], NDArray[Any]]

_SUM = frozenset({"reassoc", "contract"})


def softmax_sums(
    users: Tensor, items: Tensor, exclusion: Exclusion, bias: Floats, *, mean: bool
) -> tuple[Floats, Floats, Floats]:
    """Return (top Float[B], mass Float64[B], mean Float64[B, D] of the items under the softmax, or [0, 0])."""
    count, dim = users.shape
    blocks, width = user_blocks(users), width_of(count, dim)
    parts = splits(len(items), 8 * count * dim, width)  # the same with and without the mean: one value of the loss
    dtype = users.numpy().dtype
    tops = np.full((parts, count), -np.inf, dtype=dtype)
    masses, means = np.zeros((parts, count)), np.zeros((parts, count if mean else 0, dim))

    def unit(index: int) -> None:
        part, (rows, block) = index // len(blocks), blocks[index % len(blocks)]
        total = means[part, rows] if mean else None
        first_last = item_range(part, parts, len(items), width)
        _sweep(block, items, first_last, width, (exclusion[0][rows], exclusion[1]), bias,
               (tops[part, rows], masses[part, rows], total))  # fmt: skip

    run_units(unit, parts * len(blocks))
    return _merge(tops, masses, means)


def _sweep(
    users: Users, items: Tensor, within: tuple[int, int], width: int, exclusion: Exclusion, bias: Floats,
    sums: tuple[Floats, Floats, Floats | None],
) -> None:  # fmt: skip
    """Add the items of a range to a block's sums."""
    top, mass, mean = sums
    memory = torch.empty(len(top) * width, dtype=items.dtype)
    product = torch.empty_like(users.vectors)
    shrink = np.empty(len(top), dtype=top.dtype)
    if users.packed is not None:
        _sweep_tiles(users.packed, items.numpy(), *within, width, bias, *exclusion, memory.numpy(),
                     product.numpy(), shrink, top, mass, np.zeros((0, 0)) if mean is None else mean)  # fmt: skip
        return
    for first, last in tiles(*within, width):
        scores = scores_of(users, items[first:last], memory)
        _absorb(scores.numpy(), bias[first:last], *exclusion, first, top, mass, shrink)
        if mean is not None:
            combine(scores, items, first, product)
            add_product(mean, product.numpy(), shrink)


def _merge(tops: Floats, masses: Floats, means: Floats) -> tuple[Floats, Floats, Floats]:
    """Join the sums of item ranges, in their order."""
    top = tops.max(axis=0, initial=-np.inf).astype(tops.dtype)  # NaN stays NaN
    with np.errstate(invalid="ignore", divide="ignore"):
        shrink = np.exp(tops.astype(np.float64) - np.where(np.isneginf(top), 0, top))
        mass = (masses * shrink).sum(axis=0)
        mean = np.zeros(means.shape[1:])
        if means.size:
            for part, factor in zip(means, shrink, strict=True):
                mean += part * factor[:, None]
            mean /= np.where(mass == 0, 1, mass)[:, None]
    return top, mass, mean


def softmax_item_gradient(
    users: Tensor, items: Tensor, exclusion: Exclusion, bias: Floats, top: Floats, weight: Floats, out: Tensor
) -> None:
    """Add ``sum_u weight_u exp(s_ui - top_u) users_u`` to the rows of ``out`` Float[N, D]."""
    width = width_of(*users.shape)
    parts, blocks, vectors = min(64, -(-len(items) // width)), user_blocks(users), users.numpy()

    def unit(index: int) -> None:
        memory = torch.empty(min(USERS, len(users)) * width, dtype=users.dtype)
        for first, last in tiles(*item_range(index, parts, len(items), width), width):
            rows = out[first:last]
            for part, block in blocks:
                if block.packed is not None:
                    _tile_gradient(
                        block.packed, items.numpy(), first, last, bias, exclusion[0][part], exclusion[1],
                        memory.numpy(), top[part], weight[part], vectors, part.start, rows.numpy(),
                    )  # fmt: skip
                    continue
                scores = scores_of(block, items[first:last], memory)
                _weigh(scores.numpy(), bias[first:last], exclusion[0][part], exclusion[1], first,
                       top[part], weight[part])  # fmt: skip
                combine_across(scores, users, part.start, rows)

    run_units(unit, parts)


@jit()
def prepare(row: Floats, bias: Floats, excluded: NDArray[Any], first: int) -> None:
    """Add the bias of a row of scores, whose first item is ``first``, and put what is excluded at -inf."""
    for j in range(len(bias)):
        row[j] += bias[j]
    if len(excluded):
        low, high = 0, len(excluded)
        while low < high:
            middle = (low + high) >> 1
            if excluded[middle] < first:
                low = middle + 1
            else:
                high = middle
        while low < len(excluded) and excluded[low] < first + len(row):
            row[excluded[low] - first] = -np.inf
            low += 1


@jit(fastmath=set(_SUM))
def _exponentials(row: Floats, top: Any) -> Any:
    total = row.dtype.type(0)
    for j in range(len(row)):
        value = exp(row[j] - top)
        row[j] = value
        total += value
    return total


@jit()
def _absorb(
    scores: Floats, bias: Floats, bounds: Floats, indices: Floats, first: int,
    tops: Floats, masses: Floats, shrink: Floats,
) -> None:  # fmt: skip
    """Turn a tile of scores into exponentials relative to each user's largest score so far."""
    for b in range(len(scores)):
        row = scores[b]
        prepare(row, bias, indices[bounds[b, 0] : bounds[b, 1]], first)
        best, before = maximum(row), tops[b]
        shrink[b] = 1
        if best <= before:
            best = before
        elif before == -np.inf:
            tops[b] = best
        else:
            tops[b] = best
            shrink[b] = exp(before - best)
        if best == -np.inf:
            row[:] = 0
            continue
        masses[b] = masses[b] * shrink[b] + np.float64(_exponentials(row, best))


@jit(fastmath={"contract"})
def add_product(total: Floats, product: Floats, shrink: Floats) -> None:
    """Multiply the rows of ``total`` Float64[b, D] by ``shrink`` and add ``product`` to them."""
    for b in range(len(total)):
        factor, row, more = np.float64(shrink[b]), total[b], product[b]
        for d in range(len(row)):
            row[d] = row[d] * factor + np.float64(more[d])


@jit(fastmath={"contract"})
def _weigh(
    scores: Floats, bias: Floats, bounds: Floats, indices: Floats, first: int, tops: Floats, weights: Floats
) -> None:
    """Turn a tile of scores into ``weight_u exp(s - top_u)``."""
    for b in range(len(scores)):
        row, top, weight = scores[b], tops[b], weights[b]
        if weight == 0:
            row[:] = 0
            continue
        prepare(row, bias, indices[bounds[b, 0] : bounds[b, 1]], first)
        for j in range(len(row)):
            row[j] = weight * exp(row[j] - top)


@jit()
def _sweep_tiles(
    packed: Floats, items: Floats, first: int, last: int, width: int, bias: Floats, bounds: Floats, indices: Floats,
    memory: Floats, product: Floats, shrink: Floats, top: Floats, mass: Floats, mean: Floats,
) -> None:  # fmt: skip
    """Add items [first, last) to a block's sums: one kernel, so that threads do not wait for the interpreter."""
    count = len(top)
    for start in range(first, last, width):
        now = min(width, last - start)
        scores = memory[: count * now].reshape((count, now))
        write_products(packed, items[start : start + now], scores)
        _absorb(scores, bias[start : start + now], bounds, indices, start, top, mass, shrink)
        if len(mean):
            weigh_inside(scores, now, 1, count, now, items, start, product, False)
            add_product(mean, product, shrink)


@jit()
def _tile_gradient(
    packed: Floats, items: Floats, first: int, last: int, bias: Floats, bounds: Floats, indices: Floats,
    memory: Floats, top: Floats, weight: Floats, users: Floats, user: int, out: Floats,
) -> None:  # fmt: skip
    """Add what a block of users, from ``user`` on, gives to the gradient of items [first, last)."""
    count, width = len(top), last - first
    scores = memory[: count * width].reshape((count, width))
    write_products(packed, items[first:last], scores)
    _weigh(scores, bias[first:last], bounds, indices, first, top, weight)
    weigh_inside(scores, 1, width, width, count, users, user, out, True)
