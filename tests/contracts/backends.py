"""Backends in tests: which have a kernel, where their tensors live, memory that shows what was never written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastkd.ops._dispatch import has_kernel

BACKENDS = ("reference", "numba", "triton")
NATIVE = ("numba", "triton")


def backends_of(op: str) -> tuple[str, ...]:
    """Return the backends that have a kernel for ``op``."""
    return tuple(backend for backend in BACKENDS if has_kernel(op, backend))


def poisoned(new: Callable[..., Any]) -> Callable[..., Any]:
    """Return an allocator whose memory is full of NaN, or of a huge number where it holds integers."""

    def allocate(*args: Any, **kwargs: Any) -> Any:
        memory = new(*args, **kwargs)
        if isinstance(memory, Tensor):
            return memory.fill_(float("nan") if memory.is_floating_point() else torch.iinfo(memory.dtype).max // 3)
        memory.fill(float("nan") if memory.dtype.kind == "f" else np.iinfo(memory.dtype).max // 3)
        return memory

    return allocate


def poison(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Make every launcher of a backend that has been loaded allocate memory full of NaN."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"fastkd.kernels.{backend}.") and hasattr(module, "new"):
            monkeypatch.setattr(module, "new", poisoned(module.new))


def device_of(backend: str) -> str:
    """Return where a backend's tensors live: triton on the GPU if there is one, else interpreted on the CPU."""
    return "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"


def interpreted(backend: str) -> bool:
    """Return whether a test of this backend runs in the interpreter: keep its sizes small."""
    return backend == "triton" and device_of(backend) == "cpu"


def many(backend: str) -> int:
    """Return a number of rows that is no tile's; few where a row costs the interpreter a program."""
    return 5 if interpreted(backend) else 33
