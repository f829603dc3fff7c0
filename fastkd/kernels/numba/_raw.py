"""Tensors handed to a kernel as addresses.

numpy's view of a tensor costs one to two microseconds a call, its address a tenth of that; small calls are made of
little else. Who passes an address keeps the tensor until the kernel has ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit

Raw = tuple[int, ...]
"""An address and what else a kernel must know of what lies there: (address, columns) for lists of ids."""

LIKE: dict[torch.dtype, NDArray[Any]] = {
    torch.float32: np.empty(0, np.float32),
    torch.float64: np.empty(0, np.float64),
    torch.int32: np.empty(0, np.int32),
    torch.int64: np.empty(0, np.int64),
}
"""An array of each dtype, which tells a kernel what lies at an address."""


def own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor if it is row-major and of ``dtype``, else a copy that is."""
    if tensor.dtype is dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()


def _pointer(_: Any, address: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.intp, like), generate  # type: ignore[no-untyped-call]


_at: Any = intrinsic(_pointer)


@jit()
def matrix(address: int, rows: int, columns: int, like: Any) -> Any:
    """Return the row-major matrix [rows, columns] at an address, of the dtype of the array ``like``."""
    return carray(_at(address, like), (rows, columns))
