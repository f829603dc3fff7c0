"""Torch tensors as contiguous numpy arrays of a dtype that kernels compute in, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[Any]

NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
"""The dtypes that kernels compute in."""

NOTHING: dict[torch.dtype, Floats] = {t: np.empty((0, 0), dtype=n) for t, n in NUMPY.items()}
"""Stands for a matrix that is not there, so that a kernel has one signature."""


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 if a tensor is, float32 otherwise (half precision included)."""
    for tensor in tensors:
        if tensor.dtype is torch.float64:
            return torch.float64
    return torch.float32


def array(tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Return the values as a C-contiguous array of ``dtype``; shared memory where nothing has to change."""
    if tensor.dtype is not dtype or not tensor.is_contiguous():
        tensor = tensor.detach().to(dtype).contiguous()
    # Forced, torch detaches by itself, in half the time that it takes to ask for it; where there is nothing to detach
    # the plain call is the quicker one.
    values: NDArray[Any] = tensor.numpy(force=True) if tensor.requires_grad else tensor.numpy()
    return values


def optional(tensor: Tensor | None, dtype: torch.dtype) -> Floats:
    """Return :func:`array` of an optional matrix, or :data:`NOTHING`."""
    return NOTHING[dtype] if tensor is None else array(tensor, dtype)


def new(shape: tuple[int, ...], dtype: torch.dtype) -> Floats:
    """Return an uninitialised array, to be handed out as a tensor by ``torch.from_numpy``.

    numpy's allocation is the cheaper one at both ends. It takes no dispatcher, and it asks for huge pages where an
    array is large: writing a fresh 40 MB gradient then takes 5 ms, of torch's 25 most go to page faults.
    """
    return np.empty(shape, dtype=NUMPY[dtype])
