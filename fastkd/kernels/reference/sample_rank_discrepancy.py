"""Rank-discrepancy sampling (Kweon et al., "Bidirectional Distillation", WWW'21), written from the definition.

Weights. With ranks r over the items a user has not seen and ``gap = sign (r_S - r_T)``, an item weighs ``T[max(gap,
0)]`` (tanh) or ``T[gap + N - 1]`` (exp), T a table of whole numbers up to ``2**bits``; see
``fastkd/kernels/_discrepancy.py``.

Stream. Proposal t of user u reads the four words w of the Philox block with counter (t, user low, user high, 0):
``item = w0 N div 2**32``, void where ``w0 N mod 2**32 < 2**32 mod N`` (Lemire) or the item is seen; it is accepted
where the first ``bits`` bits of (w2, w3) are below its weight. Slot s takes the next accepted proposal (without
replacement: the next whose item is new), the slots in turn, each looking no further than proposal
``limit(s) = 32 (s + 16)``. A slot that finds none there, and every slot of weights that reject too much
(``rejects`` false), is drawn by inversion: the first item, in order of id, whose running sum of weights (exp: of
``T[gap - least gap]``; taken items: 0) exceeds ``(w0, w1) total div 2**64``, with the words of counter
(s, user low, user high, 1). If all weights are 0, each item left weighs 1. The rest of the slots go on from there.

So a draw depends on seed, epoch, user and slot alone, however many proposals a backend looks at at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels._discrepancy import HEAD, SLOPE, Rule
from fastkd.kernels.reference._random import philox4x32, user_words
from fastkd.kernels.reference._ranking import canonical_scores, excluded_items, rank_order

NEVER = torch.iinfo(torch.int64).min // 2
_CELLS = 1 << 21
_MASK = 0xFFFFFFFF


Model = tuple[Tensor, Tensor | None]


def limit(slot: int) -> int:
    """Return where slot ``slot`` stops looking for an accepted proposal."""
    return SLOPE * (slot + HEAD)


@torch.no_grad()
def sample_rank_discrepancy(
    teacher: Model, student: Model, ids: Tensor, offsets: Tensor, total: int, indptr: Tensor, indices: Tensor,
    num_items: int, how: Rule,
) -> Tensor:  # fmt: skip
    """Return the samples Int64[total], those of row b at ``offsets[b]:offsets[b + 1]``; -1 where no item is left.

    ``teacher``, ``student``: (Float[B, D], Float[N, D]), or (lists Int64[B, M], None) with M < N. ``ids`` Int64[B]:
    the users' random counters. ``indptr`` Int64[B + 1] and ``indices``: seen items of each row.
    """
    samples = torch.full((total,), -1, dtype=torch.int64, device=ids.device)
    bounds = offsets.tolist()
    chunk = max(1, _CELLS // max(1, num_items))
    for start in range(0, len(ids), chunk):
        part = slice(start, min(start + chunk, len(ids)))
        if bounds[part.stop] == bounds[part.start]:
            continue
        excluded = excluded_items(indptr, indices, part, num_items).to(ids.device)
        gaps = rank_gaps((teacher[0][part], teacher[1]), (student[0][part], student[1]), excluded, how)
        for b in range(part.start, part.stop):
            user = _User(ids[b], gaps[b - start], how)
            drawn = user.draw(bounds[b + 1] - bounds[b])
            samples[bounds[b] : bounds[b] + len(drawn)] = torch.tensor(drawn, dtype=torch.int64)
    return samples


def rank_gaps(teacher: Model, student: Model, excluded: Tensor, how: Rule) -> Tensor:
    """Return ``sign (r_S - r_T)`` Int64[B, N], :data:`NEVER` where Bool[B, N] ``excluded`` is true."""
    ranks = [_ranks(*model, excluded) for model in (teacher, student)]
    return (how.sign * (ranks[1] - ranks[0])).masked_fill(excluded, NEVER)


def _ranks(users: Tensor, items: Tensor | None, excluded: Tensor) -> Tensor:
    """Return Int64[B, N], 0 for the best allowed item; excluded items rank behind all allowed ones.

    In a list, an item's rank is the first place it stands at, and items that are not listed share the rank M.
    """
    num_items = excluded.shape[1]
    if items is None:
        ranks = torch.full((len(users), num_items + 1), users.shape[1], dtype=torch.int64, device=users.device)
        listed = users.where((users >= 0) & (users < num_items), num_items)
        places = torch.arange(users.shape[1], device=users.device).expand_as(users)
        return ranks.scatter_reduce_(1, listed, places, "amin")[:, :num_items]
    order = rank_order(canonical_scores(users, items, None), excluded)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def weights(gaps: Tensor, table: Tensor, least: int | None) -> Tensor:
    """Return the weights of gaps: ``table`` at ``gap - least``, or at ``max(gap, 0)`` where ``least`` is None."""
    return table[gaps.clamp(min=0) if least is None else gaps - least]


class _User:
    """One user's gaps Int64[N] (:data:`NEVER`: seen) and random words."""

    def __init__(self, user: Tensor, gaps: Tensor, how: Rule) -> None:
        self.low, self.high = user_words(user)
        self.gaps, self.how = gaps, how
        self.allowed = gaps != NEVER

    def draw(self, n: int) -> list[int]:
        """Return the items of slots 0 to ``n - 1``; fewer where no item is left."""
        left, replacement = int(self.allowed.sum()), self.how.replacement
        taken: list[int] = []
        accepted = self._accepted(limit(n - 1)) if self.how.rejects and n else []
        at = 0
        while len(taken) < (n if replacement and left else min(n, left)):
            end = limit(len(taken))
            while at < len(accepted) and accepted[at][0] < end:
                if replacement or accepted[at][1] not in taken:
                    break
                at += 1
            if at < len(accepted) and accepted[at][0] < end:
                taken.append(accepted[at][1])
                at += 1
            else:
                taken.append(self._invert(len(taken), [] if replacement else taken))
        return taken

    def _accepted(self, count: int) -> list[tuple[int, int]]:
        """Return (t, item) of the accepted among the first ``count`` proposals."""
        n, times = len(self.gaps), torch.arange(count, device=self.gaps.device)
        w0, _, w2, w3 = philox4x32(times, self.low, self.high, 0, self.how.key)
        product = w0 * n
        items = product >> 32
        fair = ((product & _MASK) >= 2**32 % n) & self.allowed[items]
        height = (w2 << (self.how.bits - 32)) | (w3 >> (64 - self.how.bits))
        gaps = self.gaps[items].masked_fill(~fair, 0)
        kept = fair & (height < weights(gaps, self.how.table, 1 - n if self.how.relative else None))
        return list(zip(times[kept].tolist(), items[kept].tolist(), strict=True))

    def _invert(self, slot: int, taken: list[int]) -> int:
        """Return the item of a slot by inversion, out of those not taken."""
        free = self.allowed.clone()
        free[taken] = False
        least = int(self.gaps[free].min()) if self.how.relative else None
        cells = weights(self.gaps.masked_fill(~free, least or 0), self.how.table, least).masked_fill(~free, 0)
        if not cells.any():
            cells = free.to(torch.int64)
        sums = cells.cumsum(0)
        w0, w1, _, _ = philox4x32(torch.tensor(slot, device=sums.device), self.low, self.high, 1, self.how.key)
        target = (((int(w0) << 32) | int(w1)) * int(sums[-1])) >> 64
        return int(torch.searchsorted(sums, target, right=True))
