"""The tensors a teacher is made of: taken in, checked, hashed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import TeacherError

Values = Tensor | NDArray[Any]


def as_tensor(values: Values, what: str) -> Tensor:
    """Return a tensor, or a numpy array of numbers as one; anything else is refused, ``what`` opens the message."""
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray):
        raise TeacherError(f"{what} must be a tensor or a numpy array, got {type(values).__name__}")
    try:
        # torch warns of memory that may not be written, as that of a mapped file.
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    except (TypeError, ValueError) as error:
        raise TeacherError(f"{what} must hold numbers that torch knows, got an array of {values.dtype}") from error


def floating_tensor(array: NDArray[Any]) -> Tensor:
    """Return a floating array of any width and byte order as a tensor, float32 or wider."""
    # Not float32 at once: a value past its range would be inf, and a message could not name it.
    return torch.from_numpy(array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False))


def check_tables(users: Tensor, items: Tensor, origin: str) -> None:
    """Refuse vectors that are not two matrices of one width, finite in float32; ``origin`` opens the message."""
    for name, table in (("users", users), ("items", items)):
        if table.ndim != 2 or not table.is_floating_point():
            raise TeacherError(
                f"{origin}: {name} must be a floating matrix [rows, dim], got {table.dtype} {list(table.shape)}"
            )
        finite = torch.isfinite(table.float())
        bad = ~finite.all(dim=1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            value = table[row][~finite[row]][0].item()
            raise TeacherError(f"{origin}: row {row} of {name} holds {value}; all values must be finite in float32")
    if users.shape[1] != items.shape[1] or users.shape[1] == 0:
        raise TeacherError(
            f"{origin}: users are {users.shape[1]} wide and items {items.shape[1]}; one width of at least 1 is needed"
        )


def content_hash(kind: str, *tensors: Tensor) -> str:
    """Return a hash of the kind, shapes and values."""
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    for tensor in tensors:
        values = tensor.detach().cpu()
        # bfloat16 has no numpy dtype; float32 holds it exactly.
        array = np.ascontiguousarray((values.float() if values.is_floating_point() else values).numpy())
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
