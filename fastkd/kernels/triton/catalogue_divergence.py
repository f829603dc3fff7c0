"""Divergence of a student's softmax over the whole catalogue from a teacher's, both from embeddings, on the GPU.

One sweep for the loss (two for Jensen-Shannon), one for the gradient of each table; scores of both are made again tile
by tile.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from fastkd.kernels.triton._catalogue_configurations import pair_configurations
from fastkd.kernels.triton._catalogue_launch import (
    PairKernel,
    Tiles,
    capability,
    cut_catalogue,
    pick_pair_tiles,
    rows_of,
    search_steps,
    sums_dtype,
    table_dtype,
)
from fastkd.kernels.triton._catalogue_pair import pair_items, pair_users
from fastkd.kernels.triton._launch import new

CONFIGURATIONS = pair_configurations()
KINDS = {"cross_entropy": 0, "forward_kl": 1, "reverse_kl": 2, "jensen_shannon": 3}


def catalogue_divergence(
    users: Tensor,
    items: Tensor,
    teacher_users: Tensor,
    teacher_items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    *,
    kind: str,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return (loss [B], statistics [6, B], in units of log 2); see :mod:`fastkd.kernels.triton._catalogue_pair`."""
    tables = _tables(users, items, teacher_users, teacher_items, scale)
    call = _Call(tables, (bounds, indices), kind, scale)
    loss, stats = new((len(users),), call.sums, users.device), new((6, len(users)), call.sums, users.device)
    if len(users) == 0:
        return loss, stats
    parts = new((7, call.ranges, len(users)), call.sums, users.device)
    call.users(None, None, parts, None)
    top_s, mass_s, top_t, mass_t, mixed, apart = _join(parts.double(), kind)
    centre = apart / mass_s if kind == "reverse_kl" else torch.zeros_like(top_s)
    empty = mass_s == 0
    low = centre - centre.to(call.sums).double()
    rows = torch.stack([top_s, mass_s.log2(), top_t, mass_t.log2(), centre, low])
    stats.copy_(torch.where(empty, 0, rows))
    value = _value(rows, mixed / (mass_s if kind == "reverse_kl" else mass_t), kind)
    if kind == "jensen_shannon":
        gaps = new((2, call.ranges, len(users)), call.sums, users.device)
        call.users(stats, None, gaps, None)
        both = gaps.double().sum(1)
        stats[4] = both[0]
        value = both.sum(0) / 2
    loss.copy_(torch.where(empty, 0, value * math.log(2)))
    return loss, stats


def catalogue_divergence_backward(
    upstream: Tensor,
    users: Tensor,
    items: Tensor,
    teacher_users: Tensor,
    teacher_items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    stats: Tensor,
    *,
    kind: str,
    scale: float,
    need_users: bool,
    need_items: bool,
) -> tuple[Tensor, Tensor]:
    """Return gradients of users [B, D] and items [N, D] in their dtypes; empty if not needed."""
    tables = _tables(users, items, teacher_users, teacher_items, scale)
    call = _Call(tables, (bounds, indices), kind, scale)
    user_grad, item_grad = users.new_empty((0, 0)), items.new_empty((0, 0))
    grad = upstream.detach().to(stats.dtype)
    if need_users:
        parts = new((call.ranges, *users.shape), call.sums, users.device)
        if users.numel():
            call.users(stats, grad.contiguous(), None, parts)
        user_grad = (scale * parts.sum(0)).to(users.dtype)
    if need_items:
        out = new(tuple(items.shape), tables[0].dtype, items.device)
        if items.numel():
            call.items(stats, (grad if call.tiles.exact else grad * scale).contiguous(), out)
        item_grad = out.to(items.dtype)
    return user_grad, item_grad


def _tables(
    users: Tensor, items: Tensor, teacher_users: Tensor, teacher_items: Tensor, scale: float
) -> tuple[Tensor, ...]:
    dtype = table_dtype(users, items, teacher_users, teacher_items)
    return (rows_of(users, dtype, scale), rows_of(items, dtype, 1.0), rows_of(teacher_users, dtype, scale),
            rows_of(teacher_items, dtype, 1.0))  # fmt: skip


class _Call:
    """Tables, exclusion and tiles of one call; starts its kernels."""

    def __init__(
        self, tables: tuple[Tensor, ...], exclusion: tuple[Tensor | None, Tensor | None], kind: str, scale: float
    ) -> None:
        users, items, teacher_users, _ = tables
        self.tables, self.exclusion, self.scale = tables, exclusion, scale
        self.sums, self.steps = sums_dtype(users.dtype), search_steps(exclusion[1])
        self.sizes = len(users), len(items), users.shape[1], teacher_users.shape[1]
        self.kind = KINDS[kind]
        self.tiles = self._tiles("sums")[0]
        self.ranges, self.each = cut_catalogue(len(users), len(items), users.shape[1], self.tiles)

    def _tiles(self, kernel: PairKernel) -> tuple[Tiles, dict[str, Any]]:
        """Return a kernel's tiles and what its launch passes on."""
        table = self.tables[0]
        tiles, teacher = pick_pair_tiles(
            table.dtype, *self.sizes[2:], capability(table.device), kernel=kernel,
            excluded=self.exclusion[0] is not None,
        )  # fmt: skip
        return tiles, {**tiles.launch(), **teacher, "KIND": self.kind}

    def users(self, stats: Tensor | None, upstream: Tensor | None, sums: Tensor | None, means: Tensor | None) -> None:
        """Start the kernel that owns users; see its docstring for what it writes."""
        tiles, constants = self._tiles("sums" if means is None else "users")
        grid = (triton.cdiv(self.sizes[0], tiles.users), self.ranges, 1 if means is None else tiles.chunks)
        pair_users[grid](
            *self.tables, *self.exclusion, stats, upstream, sums, means, *self.sizes, self.each, self.ranges,
            self.scale, self.steps, **constants,
        )  # fmt: skip

    def items(self, stats: Tensor, upstream: Tensor, out: Tensor) -> None:
        """Start the kernel that owns items and writes their gradient."""
        tiles, constants = self._tiles("items")
        pair_items[(triton.cdiv(self.sizes[1], tiles.items), tiles.chunks)](
            *self.tables, *self.exclusion, stats, upstream, out, *self.sizes, self.scale, self.steps, **constants
        )


def _join(parts: Tensor, kind: str) -> tuple[Tensor, ...]:
    """Join sums [7, S, B] of item ranges, in float64."""
    tops_s, masses_s, tops_t, masses_t, mixed, apart, low = parts
    top_s, top_t = (t.amax(0).masked_fill((t == -torch.inf).all(0), 0) for t in (tops_s, tops_t))
    down_s, down_t = (tops_s - top_s).exp2(), (tops_t - top_t).exp2()
    moved_s, moved_t = (torch.where(masses_t == 0, 0, move) for move in (top_s - tops_s, top_t - tops_t))
    if kind == "reverse_kl":
        mixed = (mixed + (moved_t - moved_s) * masses_s) * down_s
    else:
        mixed = (mixed + (moved_s - (0 if kind == "cross_entropy" else moved_t)) * masses_t) * down_t
    apart = ((apart + low) * down_s).sum(0)
    return top_s, (masses_s * down_s).sum(0), top_t, (masses_t * down_t).sum(0), mixed.sum(0), apart


def _value(stats: Tensor, mean: Tensor, kind: str) -> Tensor:
    """Return the loss in units of log 2, of all kinds but Jensen-Shannon, from the mean relative difference."""
    log_s, log_t = stats[1], stats[3]
    if kind == "reverse_kl":
        value: Tensor = mean - log_s + log_t
    else:
        value = mean + log_s - (0 if kind == "cross_entropy" else log_t)
    return value
