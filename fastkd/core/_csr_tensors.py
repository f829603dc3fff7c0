"""A CSR of numpy as tensors. Apart from ``interactions``, which does without torch until it is asked for them."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def csr_tensors(
    indptr: NDArray[Any], indices: NDArray[Any], device: str | torch.device, cache: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return both as tensors on ``device``, which ``cache`` keeps for every device; see ``Interactions.to_torch``."""
    name = f"torch/{device}"
    if name in cache:
        kept: tuple[Tensor, Tensor] = cache[name]
        return kept
    traced = torch.compiler.is_compiling()
    if torch.compiler.is_dynamo_compiling() and torch.compiler.is_exporting():
        raise RuntimeError(f"an exported program cannot hold arrays of numpy: call to_torch({str(device)!r}) before")
    # A trace can neither ask an array whether it is writable nor keep what it makes, which is of no use outside of it.
    arrays = (indptr, indices) if traced else (_writable(indptr), _writable(indices))
    # What an evaluation in inference mode leaves in the cache must do for training afterwards.
    with contextlib.nullcontext() if traced else torch.inference_mode(False):
        first, second = (torch.from_numpy(array).to(device) for array in arrays)
    if not traced and not torch._C._len_torch_dispatch_stack():
        cache[name] = first, second
    return first, second


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns about read-only memory (a mapped store); the tensors are never written to.
    return array if array.flags.writeable else array.copy()
