"""Numpy or torch in, the same kind out; ids are checked here once and named when they are wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core import DataError


def is_tensor(values: object) -> bool:
    """Return whether ``values`` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def integers(values: Any, name: str, dimensions: int) -> NDArray[Any]:
    """Return ids, a list's too, as a C-contiguous int32 or int64 numpy array, sharing memory where it can.

    Raises ``TypeError`` for another type, dtype or device, ``DataError`` for another number of dimensions.
    """
    if is_tensor(values):
        if values.device.type != "cpu":
            raise TypeError(f"{name} is on {values.device}; negatives are drawn on the CPU: pass {name}.cpu()")
        values = values.detach().numpy()
    elif isinstance(values, (list, tuple, range)):
        values = _array_of(values, name)
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, a torch tensor or a list, got {type(values).__name__}")
    if values.dtype not in (np.int32, np.int64) or not values.dtype.isnative:
        raise TypeError(f"{name} must be int64 (or int32), got {values.dtype}; convert with .astype(numpy.int64)")
    if values.ndim != dimensions:
        raise DataError(f"{name} must have {dimensions} dimension(s), got shape {values.shape}")
    return np.require(values, requirements=["C", "A"])


def _array_of(values: Sequence[Any], name: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} must be a list of ids, or lists of equal length: {error}") from error
    return array if array.size else array.astype(np.int64)  # numpy takes an empty list for numbers with a fraction


def like(drawn: NDArray[Any], given: Any) -> Any:
    """Return ``drawn`` as a torch tensor (same memory) if ``given`` is one, else as it is."""
    if not is_tensor(given):
        return drawn
    import torch

    return torch.from_numpy(drawn)


def check_range(ids: NDArray[Any], low: int, high: int, name: str) -> None:
    """Raise ``DataError`` naming the first id outside ``[low, high)`` and where it is."""
    if ids.size and not (low <= int(ids.min()) and int(ids.max()) < high):
        at = tuple(int(i) for i in np.argwhere((ids < low) | (ids >= high))[0])
        raise DataError(f"{name} {ids[at]} at {list(at)} is out of range [{low}, {high})")


def count(value: Any, name: str, low: int, high: int) -> int:
    """Return an integer argument in ``[low, high]``; raises ``TypeError`` or ``DataError`` with the value."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise DataError(f"{name} must be in [{low}, {high}], got {value}")
    return int(value)


def buffer(out: Any, shape: tuple[int, int], dtype: np.dtype[Any], num_items: int) -> tuple[NDArray[Any], Any | None]:
    """Return the array to draw into and what to hand back: ``out`` if it was given, else None and a new array.

    Raises ``TypeError`` for an ``out`` of another dtype, layout or device, ``DataError`` for another shape.
    """
    if out is None:
        return np.empty(shape, dtype=dtype), None
    array = out
    if is_tensor(out):
        if out.device.type != "cpu":
            raise TypeError(f"out is on {out.device}; negatives are drawn on the CPU, into pinned memory if you like")
        array = out.detach().numpy()
    if not isinstance(array, np.ndarray):
        raise TypeError(f"out must be a numpy array or a torch tensor, got {type(out).__name__}")
    if array.dtype not in (np.int32, np.int64) or not array.dtype.isnative:
        raise TypeError(f"out must be int64 or int32, got {array.dtype}")
    if array.dtype == np.int32 and num_items > 2**31:
        raise TypeError(f"out must be int64 for {num_items} items, got int32")
    if array.shape != shape:
        raise DataError(f"out must be {list(shape)}, got {list(array.shape)}")
    if not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
        raise TypeError("out must be C-contiguous, aligned and writeable")
    return array, out
