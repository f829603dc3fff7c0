"""What machines can do, for predicted times: measured where we measured, modelled elsewhere, and it says which."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Machine:
    """``flops``: a second, of the matrix products that filter. ``bandwidth``: bytes a second, read.

    ``instructions``: lane instructions a second (GPU). ``launch``: seconds a kernel takes to start.
    ``source``: which of these are measured and which are modelled.
    """

    name: str
    flops: float
    bandwidth: float
    instructions: float
    launch: float
    source: str


_SHEET = "modelled: products, bandwidth, instructions, launches, from the data sheet"
GPUS = {
    80: Machine(
        name="A100 (sm_80)", flops=312e12, bandwidth=2.0e12, instructions=19.5e12, launch=4e-6,
        source=_SHEET,
    ),
    90: Machine(
        name="H200 (sm_90)", flops=790e12, bandwidth=4.3e12, instructions=24.7e12, launch=4e-6,
        source="measured on one H200, random inputs: products, bandwidth; modelled: instructions, launches",
    ),
    100: Machine(
        name="B200 (sm_100)", flops=2250e12, bandwidth=8.0e12, instructions=27e12, launch=4e-6,
        source=_SHEET,
    ),
}  # fmt: skip
"""By compute capability times ten."""


@functools.cache
def this_cpu(dim: int, double: bool, threads: int) -> Machine:
    """Return what the kernels' matrix products of ``dim`` dimensions and a copy reach here; measured once a process.

    Every thread makes products of its own, as the kernels do: a product that threads share waits for the slowest.
    """
    run_blocks = importlib.import_module("fastkd.kernels.numba._blocks").run_blocks
    products = importlib.import_module("fastkd.kernels.numba._product")
    dtype = torch.float64 if double else torch.float32
    users, items = torch.randn(256, dim, dtype=dtype), torch.randn(2048, dim, dtype=dtype)
    out = torch.empty(threads, 256, 2048, dtype=dtype)
    laid_out = products.ready(users)
    product = _seconds(lambda: run_blocks(lambda i: products.multiply(laid_out, items, out[i]), range(threads)))
    big = torch.randn(16 << 20)
    copied = torch.empty_like(big)
    copy = _seconds(lambda: copied.copy_(big))
    return Machine(
        name=f"this CPU, {threads} thread{'s' if threads > 1 else ''}",
        flops=2 * out.numel() * max(dim, 1) / product,
        bandwidth=2 * big.numel() * big.element_size() / copy,
        instructions=0.0,
        launch=0.0,
        source=f"measured now: {dtype} products of 256 x {dim} and {dim} x 2048, copy of 64 MB",
    )


def _seconds(work: Callable[[], object]) -> float:
    times = []
    work()
    for _ in range(9):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)  # the least disturbed
