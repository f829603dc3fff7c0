"""Cross entropy of the softmax over the whole catalogue against sparse targets, on the GPU.

Two launches forward (the sweep; ranges joined and targets added), three and a sort backward (the item sweep; targets
sorted by item, each item's first entry owning its row). Half-precision tables go through the tensor cores as they are:
probabilities are rounded to their dtype before the second product, sums are float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from fastkd.kernels.triton._catalogue_configurations import softmax_configurations
from fastkd.kernels.triton._catalogue_launch import (
    capability,
    cut_catalogue,
    pick_tiles,
    rows_of,
    search_steps,
    sums_dtype,
    table_dtype,
)
from fastkd.kernels.triton._catalogue_sweep import sweep_items, sweep_users
from fastkd.kernels.triton._catalogue_targets import add_target_gradient, finish
from fastkd.kernels.triton._launch import new

CONFIGURATIONS = softmax_configurations()


def catalogue_softmax(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    uniform: Tensor | None,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    *,
    scale: float,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (loss [B], its gradient to users [B, D] or [0, 0], top [B], share [B]); top in units of log 2."""
    return softmax_forward(
        users, items, (bounds, indices), bias, (ids, coefficients, uniform), scale=scale, gradient=gradient
    )


def catalogue_softmax_backward(
    upstream: Tensor,
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    uniform: Tensor | None,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    top: Tensor,
    share: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Return the gradient of ``sum_b upstream_b loss_b`` to items, Float[N, D] in their dtype."""
    grad = upstream.detach().to(top.dtype).contiguous()
    base = None
    if uniform is not None:
        base = -scale * ((grad * uniform.to(grad.dtype)) @ users.detach().to(grad.dtype))
    out = softmax_item_gradient(users, items, (bounds, indices), bias, (top, grad * share, base), scale=scale)
    entries = ids.numel()
    if entries and len(items):
        table = rows_of(users, table_dtype(users, items), scale)
        keys, order = torch.sort(ids.reshape(-1), stable=True)
        width = users.shape[1]
        add_target_gradient[(entries,)](
            keys, order, coefficients.detach().contiguous(), grad, table, out, entries, len(items), width,
            ids.shape[1], scale, BE=16, BD=triton.next_power_of_2(max(width, 1)),
            EXACT=table.dtype == torch.float64, num_warps=1,
        )  # fmt: skip
    return out.to(items.dtype)


def softmax_forward(
    users: Tensor,
    items: Tensor,
    exclusion: tuple[Tensor | None, Tensor | None],
    bias: Tensor | None,
    targets: tuple[Tensor, Tensor, Tensor | None] | None,
    *,
    scale: float,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sweep the catalogue, then join ranges and add ``targets`` (ids, coefficients, uniform); None: log-sum-exp."""
    dtype = table_dtype(users, items)
    table, columns = rows_of(users, dtype, scale), rows_of(items, dtype, 1.0)
    (count, width), sums, device = users.shape, sums_dtype(dtype), users.device
    tiles = pick_tiles(dtype, width, capability(device), owner="users", excluded=exclusion[0] is not None)
    biases = None if bias is None else bias.to(sums).contiguous()
    ranges, each = cut_catalogue(count, len(items), width, tiles)
    shapes: list[tuple[int, ...]] = [(count,), (count, width) if gradient else (0, 0), (count,), (count,)]
    results = [new(shape, sums, device) for shape in shapes]
    if count == 0:
        return results[0], results[1], results[2], results[3]
    partial = [new((ranges, count), sums, device) for _ in range(2)]
    means = new((ranges, count, width), sums, device) if gradient else None
    grid = (triton.cdiv(count, tiles.users), ranges, tiles.chunks if gradient else 1)
    sweep_users[grid](
        table, columns, biases, *exclusion, *partial, means, count, len(items), width, each, scale,
        search_steps(exclusion[1]), **tiles.launch(),
    )  # fmt: skip
    listed, width_listed = _targets(targets, columns, biases, sums)
    block = triton.next_power_of_2(max(width, 1))
    finish[(count,)](
        *partial, means, table, columns, biases, *listed, *results, count, len(items), width, width_listed, ranges,
        scale, BS=triton.next_power_of_2(ranges), BK=max(1, min(16, 4096 // block)), BD=block, EXACT=tiles.exact,
        num_warps=4,
    )  # fmt: skip
    if tiles.exact and gradient:
        results[1].mul_(scale)
    return results[0], results[1], results[2], results[3]


def _targets(
    targets: tuple[Tensor, Tensor, Tensor | None] | None, items: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> tuple[tuple[Any, ...], int]:
    """Return (ids, coefficients, uniform, column sum, bias sum), each a tensor or None, and K."""
    if targets is None:
        return (None, None, None, None, None), 0
    ids, coefficients, uniform = targets
    lists = ids.contiguous(), coefficients.detach().contiguous()
    if uniform is None:
        return (*lists, None, None, None), ids.shape[1]
    bias_sum = torch.zeros(1, dtype=dtype, device=ids.device) if bias is None else bias.sum().reshape(1)
    return (*lists, uniform.to(dtype).contiguous(), items.sum(0, dtype=dtype), bias_sum), ids.shape[1]


def softmax_item_gradient(
    users: Tensor,
    items: Tensor,
    exclusion: tuple[Tensor | None, Tensor | None],
    bias: Tensor | None,
    constants: tuple[Tensor, Tensor, Tensor | None],
    *,
    scale: float,
) -> Tensor:
    """Return ``base + scale sum_u weight_u exp2(z_ui - top_u) users_u`` [N, D] for constants (top, weight, base)."""
    dtype = table_dtype(users, items)
    table, columns = rows_of(users, dtype, scale), rows_of(items, dtype, 1.0)
    top, weight, base = constants
    width, excluded = users.shape[1], exclusion[0] is not None
    tiles = pick_tiles(dtype, width, capability(items.device), owner="items", excluded=excluded)
    out = new(tuple(items.shape), dtype, items.device)
    if len(items) and width:
        biases = None if bias is None else bias.to(top.dtype).contiguous()
        sweep_items[(triton.cdiv(len(items), tiles.items), tiles.chunks)](
            table, columns, biases, *exclusion, top, weight if tiles.exact else weight * scale, base, out, len(users),
            len(items), width, scale, search_steps(exclusion[1]), **tiles.launch(),
        )  # fmt: skip
    return out
