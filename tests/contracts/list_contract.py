"""The contract of a loss of listed ids from vectors: what changes from loss to loss is its constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.contracts.op_contract import OpContract


class ListContract(OpContract):
    """Fill in ``op``, :meth:`call` and :meth:`by_hand_scores`; lists are those of :meth:`ids`."""

    def count(self, rows: int) -> int:
        """Return how many items there are: few for few rows, so few numbers to differentiate by."""
        return 8 if rows <= 3 else 30

    def inputs(self, *, rows: int = 7, scale: float = 1.0, padded: bool = True) -> list[Tensor]:
        """Return users and items."""
        random = torch.Generator().manual_seed(rows)
        users, items = (torch.randn(n, 3, generator=random, dtype=torch.float64) for n in (rows, self.count(rows)))
        return [users, items * scale]

    def ids(self, rows: int, device: Any = "cpu") -> Tensor:
        """Return lists with repeats and padding."""
        ids = (torch.arange(rows * 6).view(rows, 6) * 7919) % self.count(rows)
        return ids.masked_fill(ids % 7 == 0, -1).to(device)

    def lists(self, rows: int) -> tuple[Tensor, ...]:
        """Return :meth:`ids` as the op takes them."""
        return (self.ids(rows),)

    def by_hand(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the formula of the scores."""
        ids = self.ids(len(inputs[0]))
        return self.by_hand_scores(
            (inputs[0] @ inputs[1].T).gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -math.inf)
        )

    def by_hand_scores(self, scores: Tensor) -> Tensor:
        """Return the published formula of scores Float[B, 6] in float64, -inf padding, term by term."""
        raise NotImplementedError

    def calls(
        self, native: Callable[..., Any], backward: Callable[..., Any], constants: tuple[Any, ...]
    ) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """Return what ``native_calls`` asks for, of an op of :meth:`lists` and ``constants``."""
        users, items = (t.float() for t in self.inputs(rows=3))
        lists = self.lists(3)
        made = native(users, items, *lists, *constants, True, True, True, "numba")
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        return [
            (native, (*leaves, *lists, *constants, True, False, False, "numba")),
            (native, (users, items, *[t.int() for t in lists], *constants, False, False, True, "numba")),
            (backward, (torch.ones(3), *made[1:], users.bfloat16(), items, True, True, "numba")),
        ]
