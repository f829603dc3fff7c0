"""Draws without replacement from a softmax over the catalogue, written from the definition: the Gumbel top-n trick.

Definition. Items come in groups of 128 by id. The exponentials of a group, each Exp(1) and independent, are made from
the least one down: item ``w2 >> 25`` of group g has ``E = -log(U) / 128``, U from (w0, w1), with the words w of the
Philox block of counter (g, user low, user high, 0). Every other item i has that plus ``-log(U_i)``: what exceeds the
least of exponentials is exponential again. U_i comes from words ``2 (i mod 2)`` and the next of counter
(i div 2, user low, user high, 1). The draw is the n largest of ``s_i / T - log E_i``, in float64, largest first, of
equal ones the lower id; s is the canonical score of ``rank_topk``. Items at -inf or NaN have no weight.

So each group's largest noise is known from one counter, and a backend need not look into groups that cannot win.

Sources: Gumbel top-k: Kool et al., "Stochastic beams and where to find them" (ICML'19).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._random import log, philox4x32, uniform_double, user_words
from fastkd.kernels.reference._ranking import canonical_scores, excluded_items

GROUP = 128
_CELLS = 1 << 20


def exponentials(users: Tensor, num_items: int, key: int) -> Tensor:
    """Return Float64[B, N], the exponential of each user and item."""
    low, high = (word[:, None] for word in user_words(users))
    items = torch.arange(num_items, device=users.device)
    groups = torch.arange(-(-num_items // GROUP), device=users.device)
    w0, w1, w2, _ = philox4x32(groups[None, :], low, high, 0, key)
    least = -log(uniform_double(w0, w1)) / GROUP
    first = groups * GROUP + (w2 >> 25)
    w0, w1, w2, w3 = philox4x32((items >> 1)[None, :], low, high, 1, key)
    even = (items & 1) == 0
    own = -log(uniform_double(torch.where(even, w0, w2), torch.where(even, w1, w3)))
    group = items // GROUP
    return least[:, group] + torch.where(first[:, group] == items, 0.0, own)


@torch.no_grad()
def sample_softmax(
    users: Tensor, items: Tensor, n: int, temperature: float, ids: Tensor, indptr: Tensor | None,
    indices: Tensor | None, bias: Tensor | None, key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item with a weight is left; see :func:`fastkd.ops.sample_softmax`."""
    num_items = len(items)
    out = torch.full((len(users), n), -1, dtype=torch.int64, device=users.device)
    chunk = max(1, _CELLS // max(1, num_items))
    for start in range(0, len(users), chunk):
        part = slice(start, min(start + chunk, len(users)))
        scores = canonical_scores(users[part], items, bias).double()
        excluded = excluded_items(indptr, indices, part, num_items).to(users.device)
        keys = scores / temperature - log(exponentials(ids[part], num_items, key))
        keys = keys.masked_fill(excluded | keys.isnan(), -torch.inf)
        best = torch.sort(-keys, dim=1, stable=True)
        drawn = best.indices.masked_fill(best.values == torch.inf, -1)[:, :n]
        out[part, : drawn.shape[1]] = drawn
    return out
