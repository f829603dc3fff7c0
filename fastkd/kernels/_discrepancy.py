"""The weights of rank-discrepancy sampling as whole numbers, one table for every backend."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MAX_ITEMS = 1 << 30
"""Largest catalogue: sums of N weights of at least 32 bits fit 62."""

REJECTION_LIMIT = 3.0
"""Largest ``epsilon (N - 1)`` whose exponential weights are drawn by rejection: e**-3 of the proposals pass."""

SLOPE, HEAD = 32, 16
"""Slot s looks no further than proposal ``SLOPE (s + HEAD)``."""


@dataclass(frozen=True)
class Rule:
    """How gaps weigh and how draws are made.

    ``table`` Int64: weights up to ``2**bits``. ``relative``: looked up at the gap less the least one (exp), else at
    ``max(gap, 0)`` (tanh). ``rejects``: proposals are tried before inversion. ``sign``: gap = sign (r_S - r_T).
    ``floor``: a proposal of an unseen item passes with at least this probability, on average or as a guess (tanh).
    """

    table: Tensor
    bits: int
    relative: bool
    rejects: bool
    sign: int
    replacement: bool
    key: int
    floor: float

    def pool(self, n: int) -> int:
        """Return how many proposals nearly always hold ``n`` accepted ones; a matter of speed alone."""
        return pool_size(n, self.floor)


def pool_size(n: int, floor: float) -> int:
    """Return how many proposals nearly always hold ``n`` accepted ones, if ``floor`` of them pass."""
    return int(1.2 * n / floor + 6 * (n**0.5 + 1) / floor)


def acceptance(direction: str, epsilon: float, num_items: int) -> tuple[bool, float]:
    """Return whether proposals are tried, and which share of them passes at least (tanh: a guess)."""
    relative, steepness = direction == "student_to_teacher", epsilon * (num_items - 1)
    rejects = not relative or steepness <= REJECTION_LIMIT
    return rejects, float(np.exp(-steepness)) if relative and rejects else 0.25


@functools.lru_cache(maxsize=8)
def weight_table(direction: str, epsilon: float, num_items: int, device: str) -> tuple[Tensor, int]:
    """Return Int64 weights of rank gaps and their number of bits, ``62 - bit_length(N - 1)``.

    ``teacher_to_student``: ``tanh(g epsilon) / tanh((N - 1) epsilon)`` for g in [0, N). ``student_to_teacher``:
    ``exp(-g epsilon)`` for g in [0, 2 N), to be read relative to the least gap. In units of ``2**-bits``, rounded.
    Gaps are whole numbers, so all users, devices and backends read the same bits. Kept for the last few arguments.
    """
    bits = 62 - (num_items - 1).bit_length()
    if direction == "teacher_to_student":
        exact = np.tanh(np.arange(num_items) * epsilon)
        exact /= max(exact[-1], np.finfo(np.float64).tiny)
    else:
        exact = np.exp(np.arange(2 * num_items) * -epsilon)
    return torch.from_numpy(np.rint(exact * 2.0**bits).astype(np.int64)).to(device), bits


def rule(
    direction: str, epsilon: float, num_items: int, device: torch.device, sign: int, replacement: bool, key: int
) -> Rule:
    """Return the rule of a call."""
    table, bits = weight_table(direction, epsilon, num_items, str(device))
    rejects, floor = acceptance(direction, epsilon, num_items)
    return Rule(table, bits, direction == "student_to_teacher", rejects, sign, replacement, key, floor)
