"""Ranks of the items of one list within another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.reference import ranks_within as reference
from fastkd.ops._checks import check_ids, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch


def ranks_within(lists_a: Tensor, lists_b: Tensor, *, backend: str = "auto") -> Tensor:
    """Return ``r[b, m] = min {j : lists_b[b, j - 1] = lists_a[b, m]}``, and M2 + 1 for an item that is not there.

    So the rank differences of two top-M lists, for methods that only look at the top, are
    ``ranks_within(a, b) - torch.arange(1, M + 1)``: an item behind the end of the list counts as the first behind it.

    Args:
        lists_a: Int64[B, M] (or int32), items whose rank is asked for; a negative id is padding, with rank 0.
        lists_b: Int64[B, M2] (or int32), ranked lists, best first; a negative id takes a place and is nobody. Of an
            item that stands in it several times the first place counts.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns:
        Int64[B, M]; not differentiable. Nothing of size M x M2 is made, save by the reference.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run.
    """
    check_ids("lists_a", lists_a, "B M")
    check_ids("lists_b", lists_b, "B M2")
    check_rows("lists_a", lists_a, "lists_b", lists_b)
    chosen = choose("ranks_within", backend, lists_a.device.type)
    if chosen == "reference":
        return reference.ranks_within(lists_a, lists_b)
    ranks: Tensor = _native(lists_a, lists_b, chosen)
    return ranks


def _launch(lists_a: Tensor, lists_b: Tensor, backend: str) -> Any:
    return launch("ranks_within", backend, lists_a.device)(lists_a, lists_b)


def _fake(lists_a: Tensor, lists_b: Tensor, backend: str) -> Any:
    return lists_a.new_empty(lists_a.shape, dtype=torch.int64)


_native = define(
    "ranks_within(Tensor lists_a, Tensor lists_b, str backend) -> Tensor", implementation=_launch, fake=_fake
)
