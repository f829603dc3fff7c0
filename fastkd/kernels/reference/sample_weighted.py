"""Positions drawn without replacement by given weights, written from the definition: the Gumbel top-n trick.

Position r of user u carries the exponential ``E = -log U``, U from word ``r % 4`` of the Philox block with counter
``(r // 4, user low, user high, 0)``. The n smallest of ``log E - w_r`` (the n largest of ``w_r + Gumbel``), of equal
ones the first, are a draw without replacement with weights ``exp(w_r)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._random import log, philox4x32, user_words

_CELLS = 1 << 20


@torch.no_grad()
def sample_weighted(users: Tensor, log_weights: Tensor, n: int, in_order: bool, key: int) -> Tensor:
    """Return Int64[B, n] positions, ascending or ``in_order`` of the draws; see :func:`fastkd.ops.sample_weighted`."""
    rows, length = log_weights.shape
    out = torch.full((rows, n), -1, dtype=torch.int64, device=users.device)
    blocks = torch.arange(-(-length // 4), device=users.device)[None, :]
    chunk = max(1, _CELLS // max(1, length))
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        low, high = (word[:, None] for word in user_words(users[part]))
        words = torch.stack(philox4x32(blocks, low, high, 0, key), dim=2)
        uniforms = (words.reshape(len(low), -1)[:, :length].double() + 0.5) * 2.0**-32
        times = log(-log(uniforms)) - log_weights[part].double()
        first = torch.sort(times, dim=1, stable=True)
        drawn = first.indices.masked_fill(first.values == torch.inf, length)[:, :n]
        if not in_order:
            drawn = drawn.sort(dim=1).values
        out[part, : drawn.shape[1]] = drawn.masked_fill(drawn == length, -1)
    return out
