"""What values a loss refuses, on the CPU alone: on a GPU nobody looks, for that would wait for the device.

A loss that came out NaN names the first NaN or infinity among what its row read; nothing is read twice for this unless
a loss is NaN. A constant outside its range is named before; its extremes are found in one pass.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from fastkd.ops._checks import readable

TOLERANCE = 1e-3
"""How far above 1 a probability may be, and a sum of them from what it should be."""
Range = tuple[float, float, str]
"""Least and largest value, and how to say it."""
PROBABILITY: Range = (0.0, 1.0 + TOLERANCE, "in [0, 1]")
WEIGHT: Range = (0.0, math.inf, "at least 0")
FINITE: Range = (-sys.float_info.max, sys.float_info.max, "finite")

Reads = Iterable[tuple[str, Tensor, Tensor]]
"""(name, tensor, mask): what a row read of an argument; ``mask`` has the tensor's shape, or that of its first axis."""


def refuse_empty(name: str, ids: Tensor) -> None:
    """Refuse lists without a place."""
    if ids.shape[1] == 0:
        raise ValueError(f"{name} must list at least one item per user (K >= 1), got shape {list(ids.shape)}")


def refuse_outside(name: str, values: Tensor | None, wanted: Range, listed: Callable[[], Tensor]) -> None:
    """Refuse constants outside a range on the CPU, naming the first where ``listed()`` is true; left out of a trace.

    NaN is left to :func:`refuse_nan`.
    """
    if values is None or not values.is_cpu or not values.numel() or not readable(values):
        return
    least, most, words = wanted
    low, high = values.aminmax()
    if least <= low.item() and high.item() <= most:
        return
    wide = values.double()
    for at in (((wide < least) | (wide > most)) & listed()).nonzero()[:1].tolist():
        raise ValueError(f"{name}{at} is {wide[tuple(at)].item()}, but must be {words}; validate=False lets it pass")


def refuse_nan(loss: Tensor, reads: Callable[[int], Reads]) -> None:
    """Refuse a loss Float[B] with a NaN on the CPU, naming the value that made it; left out of a trace.

    ``reads``: gives what the loss of a row was made of. A NaN of finite values (scores that overflow) is not refused.
    """
    if not loss.is_cpu or not readable(loss):
        return
    values = loss.numpy(force=True)
    values = values if values.ndim == 1 else values.ravel()
    square = values.dot(values)  # the quickest way to one number that is NaN if any is; infinities give no NaN
    if square == square:
        return
    with torch.no_grad():
        for row in loss.isnan().nonzero()[:1].tolist():
            _name(row[0], list(reads(row[0])))


def refuse_nan_scores(loss: Tensor, *given: tuple[str, Tensor | None]) -> None:
    """Do as :func:`refuse_nan` for a loss of scores and constants, Float[B] or Float[B, C], all of them read."""
    refuse_nan(loss, lambda row: [(name, t, _only(row, t)) for name, t in given if t is not None])


def list_reads(
    row: int, users: Tensor, items: Tensor, lists: Sequence[tuple[str, Tensor]],
    constants: Sequence[tuple[str, Tensor | None, Tensor]] = (),
) -> Reads:  # fmt: skip
    """Return what a loss of listed ids read: ``lists`` of (name, ids), ``constants`` of (name, values, their ids)."""
    yield "users", users, _only(row, users)
    for _, ids in lists:
        yield "items", items, _listed(ids[row], items)
    for name, values, ids in constants:
        if values is not None:
            read = _only(row, values)
            yield name, values, read.view(-1, *[1] * (values.dim() - 1)) & (ids >= 0)


def catalogue_reads(
    row: int, tables: Sequence[tuple[str, Tensor, str, Tensor]], bounds: Tensor | None, indices: Tensor | None,
    item_bias: Tensor | None = None,
) -> Reads:  # fmt: skip
    """Return what a loss over all items that are not excluded read, of ``tables`` (name, users, name, items)."""
    allowed = torch.ones(len(tables[0][3]) + 1, dtype=torch.bool)
    if bounds is not None and indices is not None:
        allowed[indices[int(bounds[row, 0]) : int(bounds[row, 1])].long()] = False
    for user_name, users, item_name, items in tables:
        yield user_name, users, _only(row, users)
        yield item_name, items, allowed[:-1]
    if item_bias is not None:
        yield "item_bias", item_bias, allowed[:-1]


def _only(row: int, tensor: Tensor) -> Tensor:
    return torch.arange(len(tensor)) == row


def _listed(ids: Tensor, items: Tensor) -> Tensor:
    read = torch.zeros(len(items), dtype=torch.bool)
    read[ids[(ids >= 0) & (ids < len(items))].long()] = True
    return read


def _name(row: int, reads: Sequence[tuple[str, Tensor, Tensor]]) -> None:
    for bad in (torch.isnan, torch.isposinf, torch.isneginf):
        for name, tensor, mask in reads:
            if bad is torch.isneginf and name not in _NEVER_MINUS_INFINITY:
                continue
            found = bad(tensor) & mask.view(*mask.shape, *[1] * (tensor.dim() - mask.dim()))
            if found.any():
                at = found.nonzero()[0].tolist()
                value = tensor[tuple(at)].item()
                raise ValueError(
                    f"{name}{at} is {value}, which makes the loss of row {row} nan; validate=False lets it pass"
                )


_NEVER_MINUS_INFINITY = ("users", "items", "student users", "student items", "teacher users", "teacher items")
