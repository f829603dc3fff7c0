"""What this machine can do at best, measured in the same run: bytes a second of a copy, products of matrices."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastkd.bench.case import Work
from fastkd.bench.clock import Timed, once

COPY = {"cpu": 32_000_000, "cuda": 2**28}
"""Numbers of 4 bytes: past every cache."""

SIDE = {"cpu": 1024, "cuda": 8192}

_ROUNDS = 5


@dataclass(frozen=True)
class Roofline:
    """Bytes a second read and written by a copy; floating-point operations a second of a product, by dtype.

    ``one``: the same with one thread, on a CPU.
    """

    bandwidth: float
    matrix: dict[str, float]
    threads: int
    one: Roofline | None = None

    def floor(self, work: Work, dtype: str) -> tuple[float, str]:
        """Return the seconds the work cannot go under, and which limit that is: ``memory`` or ``matrix``."""
        rate = self.matrix.get(dtype) or self.matrix["float32"]
        by = {"memory": work.bytes / self.bandwidth, "matrix": work.flops / rate}
        limit = max(by, key=lambda name: by[name])
        return by[limit], limit


def measure(device: str, *, seconds: float = 2.0) -> Roofline:
    """Measure copy and product, each the best of what fits into ``seconds``; on a CPU with all threads and with one.

    All threads are measured before and after one thread, and the better counts: a neighbour on a virtual machine may
    take a core away for a second, and a limit that is too low flatters.
    """
    if device == "cuda":
        return _measure(device, seconds, ("float32", "bfloat16", "float16"))
    threads = torch.get_num_threads()
    whole = _measure(device, seconds / 3, ("float32",))
    if threads == 1:
        return whole
    try:
        torch.set_num_threads(1)
        single = _measure(device, seconds / 3, ("float32",))
    finally:
        torch.set_num_threads(threads)
    again = _measure(device, seconds / 3, ("float32",))
    matrix = {dtype: max(rate, again.matrix[dtype]) for dtype, rate in whole.matrix.items()}
    return Roofline(max(whole.bandwidth, again.bandwidth), matrix, threads, single)


def _measure(device: str, seconds: float, dtypes: tuple[str, ...]) -> Roofline:
    source = torch.randn(COPY[device], device=device)
    target = torch.empty_like(source)
    share = seconds / (2 + len(dtypes))
    bandwidth = 8 * COPY[device] / _best(Timed(lambda _: target.copy_(source)), device, share)
    matrix = {}
    side = SIDE[device]
    for dtype in dtypes:
        a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
        out = torch.empty_like(a)
        took = min(_best(Timed(work), device, share) for work in _products(a, b, out))
        matrix[dtype] = 2 * side**3 / took
    return Roofline(bandwidth, matrix, torch.get_num_threads())


def _products(a: Tensor, b: Tensor, out: Tensor) -> list[Callable[[object], object]]:
    """Return ways to make a product: torch's, and on a CPU ours, for a limit is what the machine can do."""
    ways: list[Callable[[object], object]] = [lambda _: torch.mm(a, b, out=out)]
    if a.device.type == "cpu":
        own = importlib.import_module("fastkd.kernels.numba._matmul").rows_by_columns
        ways.append(lambda _: own(a, b, out, add=False))
    return ways


def _best(work: Timed, device: str, seconds: float) -> float:
    for _ in range(2):
        once(work, device)
    end, best, rounds = time.perf_counter() + seconds, math.inf, 0
    # Rounds beside time: on a crowded machine a single one may stand still through all of it.
    while rounds < _ROUNDS or time.perf_counter() < end:
        best, rounds = min(best, once(work, device)), rounds + 1
    return best
