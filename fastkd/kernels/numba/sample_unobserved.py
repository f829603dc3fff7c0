"""Uniform negatives on the CPU by numba: bit for bit the draws of the C++ sampler.

The definition is in ``fastkd/kernels/reference/sample_unobserved.py``. Used where ``fastkd._native`` is not built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._sampler_rows import RowSampler, block_words, list_left, mark, unmark


def sample_unobserved(
    users: Tensor, n: int, indptr: Tensor, indices: Tensor, num_items: int, lists: Tensor | None, replacement: bool,
    key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item is left; see :func:`fastkd.ops.sample_unobserved`."""
    sampler = UniformSampler(indptr.numpy(), indices.numpy(), num_items)
    out = np.empty((len(users), n), dtype=np.int64)
    extra = None if lists is None else lists.numpy()
    sampler.sample(users.numpy(), key, out, extra, replacement, torch.get_num_threads())
    return torch.from_numpy(out)


class UniformSampler(RowSampler):
    """The same face as ``fastkd._native.UniformSampler``; arrays are trusted."""

    def draw_rows(
        self, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any, replacement: bool
    ) -> int:
        """Fill ``out[offsets[r]:offsets[r + 1]]`` for each row; return the first that could not be filled, or -1."""
        return int(
            _draw_rows(
                self.indptr,
                self.indices,
                self.num_items,
                users,
                firsts,
                offsets,
                key,
                out,
                log_prob,
                extra,
                replacement,
            )
        )


@jit()
def _below(words: Any, user: Any, key: Any, slot: int, bound: int, taken: Any, avoid: bool) -> Any:
    """Return the first acceptable value below ``bound`` of a slot; ``words`` are those of its block at attempt 0."""
    which = slot & 3
    limit = np.uint64(bound)
    rejected = np.uint64(0x100000000) % limit
    attempt = 0
    while True:
        if attempt > 0:
            words = block_words(user, slot >> 2, attempt, key)
        drawn = words[0] if which == 0 else words[1] if which == 1 else words[2] if which == 2 else words[3]
        product = drawn * limit
        value = np.int64(product >> np.uint64(32))
        if (product & np.uint64(0xFFFFFFFF)) >= rejected and not (avoid and taken[value]):
            return value
        attempt += 1


@jit()
def _draw_row(user: Any, first: int, key: Any, out: Any, taken: Any, seen: int, replacement: bool) -> int:
    """Fill ``out`` with the slots of one user whose ``seen`` excluded items are marked; return how many could be."""
    num_items, slots = len(taken), len(out)
    filled = slots if replacement else min(slots, num_items - seen)
    if seen == num_items:
        filled = 0
    words = block_words(user, first >> 2, 0, key)
    avoid = 2 * seen <= num_items
    left = np.empty(0, dtype=np.int64)
    listed = 0
    for j in range(filled):
        slot = first + j
        if slot & 3 == 0:
            words = block_words(user, slot >> 2, 0, key)
        if not replacement:
            avoid = 2 * (seen + j) <= num_items
        if avoid:
            out[j] = _below(words, user, key, slot, num_items, taken, True)
            if not replacement:
                taken[out[j]] = True
            continue
        if len(left) == 0:
            left = list_left(taken, num_items - seen - (0 if replacement else j))
            listed = j
        done = 0 if replacement else j - listed
        at = done + _below(words, user, key, slot, len(left) - done, taken, False)
        out[j] = left[at]
        if not replacement:
            left[at] = left[done]
            left[done] = out[j]
    out[filled:] = -1
    return filled


@jit()
def _draw_rows(
    indptr: Any, indices: Any, num_items: int, users: Any, firsts: Any, offsets: Any, key: Any, out: Any,
    log_prob: Any, extra: Any, replacement: bool,
) -> int:  # fmt: skip
    taken = np.zeros(num_items, dtype=np.bool_)
    short = -1
    for row in range(len(users)):
        user, begin, end = users[row], offsets[row], offsets[row + 1]
        if begin == end:
            continue
        history = indices[indptr[user] : indptr[user + 1]]
        seen = mark(taken, history, extra[row])
        filled = _draw_row(np.uint64(user), firsts[row], key, out[begin:end], taken, seen, replacement)
        if filled < end - begin and short < 0:
            short = row
        for j in range(end - begin if len(log_prob) > 0 else 0):
            choices = num_items - seen - (0 if replacement else j)
            log_prob[begin + j] = -np.log(np.float64(choices)) if j < filled else -np.inf
        unmark(taken, history, extra[row], out[begin : begin + (0 if replacement else filled)])
    return short
