"""User vectors made from what a user did: only those a step asks for are made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastkd.core.interactions import Interactions
from fastkd.models.protocol import Tables

BLOCK = 2048
"""Users encoded at a time where all are asked for."""


class EncodedTables(Tables):
    """Item vectors, and a function that makes user vectors: ``encode`` Int64[B] -> Float[B, D].

    ``items``: Float[N, D]. :attr:`users` encodes everybody; :meth:`frozen` does so once and keeps the result, so that
    what ranks outside training has plain tables.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], num_users: int, items: Tensor) -> None:
        self._encode, self._num_users, self._items = encode, num_users, items

    @property
    def num_users(self) -> int:
        """Number of users that can be encoded."""
        return self._num_users

    @property
    def items(self) -> Tensor:
        """All item vectors."""
        return self._items

    @property
    def users(self) -> Tensor:
        """The vectors of all users, made now."""
        ids = torch.arange(self._num_users, device=self._items.device)
        blocks = [self._encode(block) for block in torch.split(ids, BLOCK) if len(block)]
        return torch.cat(blocks) if blocks else self._items.new_empty((0, self._items.shape[1]))

    def user_vectors(self, users: Tensor) -> Tensor:
        """Return the vectors of ``users`` Int[B] -> Float[B, D], made now, differentiable."""
        return self._encode(users.long())

    def detach(self) -> EncodedTables:
        """Return the same outside autograd; users are still made when asked for."""

        def encode(users: Tensor) -> Tensor:
            with torch.no_grad():
                return self._encode(users)

        return EncodedTables(encode, self._num_users, self._items.detach())

    def frozen(self) -> Tables:
        """Return plain tables, with the vectors of all users made now."""
        return Tables(self.users.detach(), self._items.detach())


class History(nn.Module):
    """The training items of every user, and sums over them; buffers follow the device and are not part of the state.

    ``offsets`` Int64[U + 1], ``items`` Int[nnz]: the CSR of the training interactions.
    """

    offsets: Tensor
    items: Tensor

    def __init__(self, train: Interactions) -> None:
        super().__init__()
        offsets, items = train.to_torch()
        self.register_buffer("offsets", offsets.long(), persistent=False)
        self.register_buffer("items", items, persistent=False)
        self._longest = int(train.degrees().max(initial=0))

    def lengths(self, users: Tensor) -> Tensor:
        """Return the number of items of ``users`` Int64[B]."""
        return self.offsets[users + 1] - self.offsets[users]

    def sums(self, users: Tensor, table: Tensor, *, keep: float = 1.0) -> Tensor:
        """Return ``sum_{i in P_u} table_i``, Float[B, D], differentiable in ``table`` Float[N, D].

        ``keep`` < 1: each item stays with that probability and weighs 1 / keep, by torch's generator.
        """
        if len(self.items) == 0:
            return table.new_zeros((len(users), table.shape[1])) + 0 * table.sum()
        ids, starts, weights = self._entries(users, table.dtype)
        if keep < 1:
            weights = weights * (torch.rand_like(weights) < keep) / keep
        sums: Tensor = nn.functional.embedding_bag(
            ids, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
        )
        return sums

    def _entries(self, users: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return the items of ``users`` one after another, where each user's begin (and the end), and their weights."""
        lengths, first = self.lengths(users), self.offsets[users]
        if not users.is_cuda:
            ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
            total = int(ends[-1])
            at = torch.arange(total) + torch.repeat_interleave(first - ends[:-1], lengths, output_size=total)
            return self.items[at].long(), ends, torch.ones(total, dtype=dtype)
        # How many there are is not known without waiting for the device: everybody gets as many as the longest has.
        slots = torch.arange(self._longest, device=users.device)
        at = (first.unsqueeze(1) + slots).clamp(max=len(self.items) - 1)
        known = (slots < lengths.unsqueeze(1)).to(dtype)
        starts = torch.arange(len(users) + 1, device=users.device) * self._longest
        return self.items[at].long().flatten(), starts, known.flatten()
