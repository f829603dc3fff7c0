"""Times and memory of one call: processor clock or CUDA events, contenders in turns, inputs rotating."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

SETTLE = 0.05
"""Seconds between contenders: threads of the last one may still spin."""

SHORT = 0.1
"""Seconds under which a call runs once untimed in its turn, so that it does not pay for another's cold caches."""

FEWEST, MOST = 5, 50


@dataclass(frozen=True)
class Timed:
    """A call, and what must be done before it each time, untimed (the forward pass before a backward one)."""

    run: Callable[[Any], Any]
    setup: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Times:
    """Seconds: quantiles of the rounds, and the very first call, which compiles."""

    p20: float
    p50: float
    p80: float
    rounds: int
    first: float


def once(work: Timed, device: str) -> float:
    """Return the seconds of one call: by CUDA events on a GPU, by the wall elsewhere."""
    prepared = work.setup()
    if device == "cuda":
        torch.cuda.synchronize()
        event: Any = torch.cuda.Event
        begin, end = event(enable_timing=True), event(enable_timing=True)
        begin.record()
        work.run(prepared)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
    start = time.perf_counter()
    work.run(prepared)
    return time.perf_counter() - start


def in_turns(contenders: Mapping[str, Sequence[Timed]], device: str, seconds: float) -> dict[str, Times]:
    """Return each contender's times; all take turns, so what disturbs the machine disturbs all of them.

    A contender is a sequence of calls on different inputs, which rotate. About ``seconds`` are spent, five rounds at
    least.
    """
    first = {name: once(calls[0], device) for name, calls in contenders.items()}
    second = {name: once(calls[-1], device) for name, calls in contenders.items()}
    pause = 0.0 if device == "cuda" else SETTLE
    turn = sum(took * (2 if took < SHORT else 1) + pause for took in second.values())
    rounds = max(FEWEST, min(MOST, int(seconds / max(turn, 1e-9))))
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds):
        for name, calls in contenders.items():
            time.sleep(pause)
            if second[name] < SHORT:
                once(calls[(round_ + 1) % len(calls)], device)
            spent[name].append(once(calls[round_ % len(calls)], device))
    return {name: summary(times, first[name]) for name, times in spent.items()}


def summary(times: Sequence[float], first: float) -> Times:
    """Return the 20th, 50th and 80th percentile."""
    p20, p50, p80 = (times[0],) * 3 if len(times) == 1 else _quantiles(times)
    return Times(p20, p50, p80, len(times), first)


def _quantiles(times: Sequence[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(times, n=10, method="inclusive")
    return cuts[1], cuts[4], cuts[7]


def peak(work: Timed, device: str) -> int | None:
    """Return the bytes one call takes at its highest beyond what is there; None where the system cannot say.

    On a GPU: torch's allocator. On Linux: the highest resident size of the process (the kernel's own mark, set back
    first), after freed memory has been given back.
    """
    prepared = work.setup()
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = work.run(prepared)
        torch.cuda.synchronize()
        highest = torch.cuda.max_memory_allocated()
        del result
        return max(0, highest - before)
    if not _mark_again():
        return None
    resident = _resident("VmRSS")
    result = work.run(prepared)
    highest = _resident("VmHWM")
    del result
    return max(0, highest - resident)


def job(work: Timed, device: str, rounds: int) -> tuple[Times, int | None]:
    """Return the times and the highest memory of a long call: once untimed (it compiles), then ``rounds`` times."""
    first = once(work, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _resident("VmRSS") if device == "cpu" and _mark_again() else None
    spent = [once(work, device) for _ in range(rounds)]
    highest = torch.cuda.max_memory_allocated() if device == "cuda" else None
    if before is not None:
        highest = max(0, _resident("VmHWM") - before)
    return summary(spent, first), highest


def _mark_again() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library: freed memory may hide a little of the peak
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0
