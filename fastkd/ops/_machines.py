"""What machines can do, for predicted times: measured where we measured, data sheets elsewhere, and it says which."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Machine:
    """``flops``: a second, of the matrix products that filter. ``bandwidth``: bytes a second, read.

    ``instructions``: lane instructions a second (GPU). ``launch``: seconds a kernel takes to start.
    ``source``: whose figures.
    """

    name: str
    flops: float
    bandwidth: float
    instructions: float
    launch: float
    source: str


GPUS = {
    80: Machine(
        name="A100 (sm_80)", flops=312e12, bandwidth=2.0e12, instructions=19.5e12, launch=4e-6, source="data sheet"
    ),
    90: Machine(
        name="H200 (sm_90)", flops=790e12, bandwidth=4.3e12, instructions=24.7e12, launch=4e-6,
        source="measured on one H200, random inputs",
    ),
    100: Machine(
        name="B200 (sm_100)", flops=2250e12, bandwidth=8.0e12, instructions=27e12, launch=4e-6, source="data sheet"
    ),
}  # fmt: skip
"""By compute capability times ten."""


@functools.cache
def this_cpu(dim: int, double: bool, threads: int) -> Machine:
    """Return what torch's matrix product of ``dim`` dimensions and a copy reach here; measured once a process."""
    dtype = torch.float64 if double else torch.float32
    users, items = torch.randn(256, dim, dtype=dtype), torch.randn(4096, dim, dtype=dtype)
    out = torch.empty(256, 4096, dtype=dtype)
    product = _seconds(lambda: torch.mm(users, items.t(), out=out))
    big = torch.randn(16 << 20)
    copied = torch.empty_like(big)
    copy = _seconds(lambda: copied.copy_(big))
    return Machine(
        name=f"this CPU, {threads} thread{'s' if threads > 1 else ''}",
        flops=2 * out.numel() * max(dim, 1) / product,
        bandwidth=2 * big.numel() * big.element_size() / copy,
        instructions=0.0,
        launch=0.0,
        source=f"measured now: {dtype} product of 256 x {dim} and {dim} x 4096, copy of 64 MB",
    )


def _seconds(work: Callable[[], object]) -> float:
    times = []
    work()
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return max(statistics.median(times), 1e-9)
