"""What a loss that came out NaN was made of: the first NaN or infinity among what its row read, named.

Nothing is read twice for this unless a loss is NaN. On a GPU nobody looks, for that would wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Reads = Iterable[tuple[str, Tensor, Tensor]]
"""(name, tensor, mask): what a row read of an argument; ``mask`` has the tensor's shape, or that of its first axis."""


def refuse_empty(name: str, ids: Tensor) -> None:
    """Refuse lists without a place."""
    if ids.shape[1] == 0:
        raise ValueError(f"{name} must list at least one item per user (K >= 1), got shape {list(ids.shape)}")


def refuse_nan(loss: Tensor, reads: Callable[[int], Reads]) -> None:
    """Refuse a loss Float[B] with a NaN on the CPU, naming the value that made it; left out of a trace.

    ``reads``: gives what the loss of a row was made of. A NaN of finite values (scores that overflow) is not refused.
    """
    if not loss.is_cpu or torch.compiler.is_compiling() or type(loss) is not Tensor:
        return
    if torch._C._len_torch_dispatch_stack() or torch._C._are_functorch_transforms_active():
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
