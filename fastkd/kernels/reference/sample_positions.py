"""Positions of a ranked list drawn with replacement by a law over ranks, written from the definition.

Slot j of user u reads the Philox block of counter (j, user low, user high, 0); U from its words (0, 1), V from (2, 3),
both with 52 bits. Of a list of m items: ``uniform`` floor(U m); ``linear`` the smaller of floor(U m) and floor(V m), so
P(r) = (2 (m - r) + 1) / m^2 for ranks r = 1..m; ``exponential`` the inverse of the truncated law
p ~ exp(-decay r / m): ceil(-(m / decay) log(1 - U (1 - exp(-decay)))) as a rank, held in 1..m; the op calls for
``uniform`` where decay is below 1e-8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastkd.kernels.reference._random import log, philox4x32, uniform_double, user_words

LAWS = ("uniform", "linear", "exponential")


@torch.no_grad()
def sample_positions(users: Tensor, lengths: Tensor, n: int, law: str, decay: float, key: int) -> Tensor:
    """Return Int64[B, n], -1 where the list is empty; see :func:`fastkd.ops.sample_positions`."""
    low, high = (word[:, None] for word in user_words(users))
    slots = torch.arange(n, device=users.device)[None, :]
    w0, w1, w2, w3 = philox4x32(slots, low, high, 0, key)
    first, m = uniform_double(w0, w1), lengths[:, None].double()
    if law == "exponential":
        drawn = (-m / decay * log(1.0 + first * math.expm1(-decay))).ceil() - 1.0
    else:
        drawn = (first * m).floor()
    if law == "linear":
        drawn = torch.minimum(drawn, (uniform_double(w2, w3) * m).floor())
    # Rounding can lift a draw to m; an empty list gives -1.
    return torch.minimum(drawn.clamp(min=0.0), m - 1.0).to(torch.int64)
