"""Exact masked top-K on the GPU: a bfloat16 filter with a proved margin, then canonical scores of what it left.

The catalogue passes once, in segments. ``scan`` multiplies tiles on tensor cores and keeps, of groups of items, those
whose largest score may still reach the user's threshold; ``tighten`` raises the threshold to a proved lower bound of
the K-th score; ``resolve`` scores pending groups canonically where they pile up and at the end; the last two kernels
order the keys. Nothing is probabilistic: a segment never brings more groups than a buffer has room for, so ties,
sorted catalogues and long exclusion lists cost time and not correctness. B x N is never held; nothing waits for the
device, and no launch depends on values, so a call can be captured in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from fastkd.kernels.triton import _topk_plan as planning
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._topk_configurations import CONFIGURATIONS as CONFIGURATIONS
from fastkd.kernels.triton._topk_order import place_tiles, sort_tiles
from fastkd.kernels.triton._topk_plan import Plan
from fastkd.kernels.triton._topk_plan import plan_rank_topk as plan_rank_topk
from fastkd.kernels.triton._topk_resolve import resolve
from fastkd.kernels.triton._topk_scan import prepare_items, prepare_users, scan
from fastkd.kernels.triton._topk_tighten import tighten

_PREPARE_ROWS = 32


def rank_topk(
    users: Tensor,
    items: Tensor,
    k: int,
    indptr: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    fast: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return (scores Float32[B, K], ids Int64[B, K]); see :func:`fastkd.ops.rank_topk`.

    ``indptr`` Int64[B + 1] and ``indices``: items to leave out, row b for ``users[b]``. ``fast``: rank the tables
    rounded to bfloat16 (half precision tables stay as they are).
    """
    count, num_items = len(users), len(items)
    if num_items > planning.MAX_ITEMS:
        raise ValueError(
            f"backend 'triton' ranks at most {planning.MAX_ITEMS} items, got {num_items}; rank the table in parts"
        )
    scores = new((count, k), torch.float32, users.device)
    ids = new((count, k), torch.int64, users.device)
    if count == 0 or k == 0:
        return scores, ids
    plan = plan_rank_topk(count, num_items, users.shape[1], k, users.dtype, indptr is not None, _capability(users))
    task = _Task(
        users.contiguous(), items.contiguous(), k, indptr, indices, None if bias is None else bias.contiguous(),
        fast and users.dtype in (torch.float32, torch.float64), plan,
    )  # fmt: skip
    with _on(users.device):
        _run(task, scores, ids)
    return scores, ids


@dataclass(frozen=True)
class _Task:
    users: Tensor
    items: Tensor
    k: int
    indptr: Tensor | None
    indices: Tensor | None
    bias: Tensor | None
    fast: bool
    plan: Plan


@dataclass(frozen=True)
class _Scratch:
    """Buffers of a chunk of users; see :class:`Plan` for the sizes. ``counts``: pending groups, keys."""

    operands: Tensor
    norms: Tensor
    tau: Tensor
    counts: Tensor
    pending: Tensor
    waiting: Tensor
    keys: Tensor
    top: Tensor
    copy: Tensor | None


def _capability(users: Tensor) -> int:
    if not users.is_cuda:
        return 90
    major, minor = torch.cuda.get_device_capability(users.device)
    return 10 * major + minor


def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def _on(device: torch.device) -> Any:
    """Return the context of the launches. A GPU does not warn of infinities, so neither does the interpreter."""
    return torch.cuda.device(device) if device.type == "cuda" else np.errstate(all="ignore")


def _scratch(task: _Task) -> _Scratch:
    plan, device, half = task.plan, task.users.device, torch.bfloat16
    operand = task.users.dtype if task.users.dtype in (torch.bfloat16, torch.float16) else half
    rows, ends = plan.users_per_chunk, plan.segments
    longest = max(b - a for a, b in zip((0, *ends), ends, strict=False))
    copy_rows = triton.cdiv(longest, plan.block_items) * plan.block_items
    return _Scratch(
        operands=new((rows, plan.width), operand, device),
        norms=new((rows, 2), torch.float32, device),
        tau=new((rows,), torch.float32, device),
        counts=new((rows, 2), torch.int32, device),
        pending=new((rows, plan.capacity), torch.int64, device),
        waiting=new((rows, plan.waiting), torch.int32, device),
        keys=new((rows, plan.keys), torch.int64, device),
        top=new((2,), torch.int32, device).zero_(),
        copy=new((copy_rows, plan.width), operand, device) if plan.copies else None,
    )


def _run(task: _Task, scores: Tensor, ids: Tensor) -> None:
    plan, scratch = task.plan, _scratch(task)
    if not plan.copies and not plan.inline:
        _prepare_items(task, scratch, 0, len(task.items), None)
    for start in range(0, len(task.users), plan.users_per_chunk):
        stop = min(start + plan.users_per_chunk, len(task.users))
        _rank_chunk(task, scratch, start, stop)
        _order(task, scratch, scores[start:stop], ids[start:stop])


def _rank_chunk(task: _Task, scratch: _Scratch, start: int, stop: int) -> None:
    plan, users, D = task.plan, task.users[start:stop], task.users.shape[1]
    prepare_users[(triton.cdiv(stop - start, _PREPARE_ROWS),)](
        users, scratch.operands, scratch.norms, scratch.tau, scratch.counts, stop - start,
        D=D, W=plan.width, BR=_PREPARE_ROWS, BD=min(plan.block_width, 128), FAST=task.fast, num_warps=4,
    )  # fmt: skip
    first = 0
    for end in plan.segments:
        if scratch.copy is not None:
            _prepare_items(task, scratch, first, end - first, scratch.copy)
        _scan(task, scratch, stop - start, first, end)
        tighten[(stop - start,)](
            scratch.norms, scratch.tau, scratch.counts, scratch.pending, scratch.top, task.indptr, task.indices,
            len(task.items), plan.capacity, task.k, start,
            D=D, G=plan.group, T=planning.TIGHTEN_TILE, INLINE=plan.inline, **planning.TIGHTEN_OPTIONS,
        )  # fmt: skip
        _resolve(task, scratch, users, start, last=end == plan.segments[-1])
        first = end


def _prepare_items(task: _Task, scratch: _Scratch, first: int, count: int, copy: Tensor | None) -> None:
    plan = task.plan
    rows = count if copy is None else triton.cdiv(count, plan.block_items) * plan.block_items
    blocks = triton.cdiv(rows, _PREPARE_ROWS)
    per = triton.cdiv(blocks, 16 * _processors(task.items.device)) * _PREPARE_ROWS
    prepare_items[(triton.cdiv(rows, per),)](
        task.items, copy, scratch.top, len(task.items), first, rows, per,
        D=task.users.shape[1], W=plan.width, BR=_PREPARE_ROWS, BD=min(plan.block_width, 128), FAST=task.fast,
        num_warps=4,
    )  # fmt: skip


def _scan(task: _Task, scratch: _Scratch, count: int, first: int, end: int) -> None:
    plan, D = task.plan, task.users.shape[1]
    tiles, user_tiles = triton.cdiv(end - first, plan.block_items), triton.cdiv(count, plan.block_users)
    # One wave of blocks, as many on a multiprocessor as registers and shared memory allow (two or three).
    splits = max(1, min(tiles, 3 * _processors(task.users.device) // user_tiles))
    per = triton.cdiv(tiles, splits)
    table, width, base = (task.items, D, 0) if scratch.copy is None else (scratch.copy, plan.width, first)
    scan[(user_tiles, triton.cdiv(tiles, per))](
        scratch.operands, table, task.bias, scratch.norms, scratch.tau, scratch.counts, scratch.pending, scratch.top,
        count, len(task.items), plan.capacity, first, tiles, per, base,
        D=D, V=width, W=plan.width, BM=plan.block_users, BN=plan.block_items, BD=plan.block_width,
        G=plan.group, FAST=task.fast, INLINE=plan.inline, num_warps=plan.num_warps, num_stages=plan.num_stages,
    )  # fmt: skip


def _resolve(task: _Task, scratch: _Scratch, users: Tensor, start: int, *, last: bool) -> None:
    plan, D = task.plan, task.users.shape[1]
    constants, options = planning.resolve_launch(plan.users_per_chunk, D, users.dtype, fast=task.fast)
    resolve[(len(users),)](
        users, task.items, task.bias, scratch.norms, scratch.tau, scratch.counts, scratch.pending, scratch.waiting,
        scratch.keys, scratch.top, task.indptr, task.indices, len(task.items), plan.capacity, plan.waiting, plan.keys,
        task.k, start, 0 if last else plan.retained,
        D=D, G=plan.group, FAST=task.fast, INLINE=plan.inline, LAST=last, **constants, **options,
    )  # fmt: skip


def _order(task: _Task, scratch: _Scratch, scores: Tensor, ids: Tensor) -> None:
    plan = task.plan
    tiles = triton.cdiv(plan.keys, plan.sort_tile)
    grid = (len(scores), tiles)
    sort_tiles[grid](scratch.keys, scratch.counts, plan.keys, T=plan.sort_tile, num_warps=4)
    place_tiles[grid](
        scratch.keys, scores, ids, plan.keys, task.k, tiles,
        T=plan.sort_tile, STEPS=plan.sort_tile.bit_length(), num_warps=4,
    )  # fmt: skip
