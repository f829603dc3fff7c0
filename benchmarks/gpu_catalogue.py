"""Softmax over a whole catalogue on the GPU, forward and backward, beside its peers in one run.

    python benchmarks/gpu_catalogue.py [--rows 4096] [--items 1000000] [--width 64] [--targets 100]

Peers where importable, each with what it can do: cut-cross-entropy and Liger take one hard label; torch takes the same
sparse targets as fastkd and holds all scores, eager and compiled. Prints milliseconds (CUDA events, median) and peak
memory past the tables, fastkd first and each line as it is known, so that a run cut short still says something. A peer
that cannot be had or fails is a line with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from fastkd.ops import catalogue_softmax

REPEATS = 20


def measure(call: Callable[[], object]) -> tuple[float, float]:
    """Return milliseconds (median) and MiB of peak memory past what was there."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, times = torch.cuda.memory_allocated(), []
    for _ in range(REPEATS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times), (torch.cuda.max_memory_allocated() - before) / 2**20


def plain(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
    """Return the loss from all scores."""
    scores = users @ items.T
    return (scores.float().logsumexp(1) - (probs * scores.gather(1, ids).float()).sum(1)).sum()


def peers(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the losses to compare; one that cannot be imported is reported, with the reason."""
    labels = ids[:, 0].contiguous()
    calls: dict[str, Callable[[], Tensor]] = {
        "fastkd": lambda: catalogue_softmax(users, items, ids, probs, validate=False).sum(),
    }
    try:
        cut = importlib.import_module("cut_cross_entropy").linear_cross_entropy
        calls["cut-cross-entropy, one hard label"] = lambda: cut(users, items, labels, reduction="sum")
    except ImportError as error:
        print(f"skipped cut-cross-entropy: {error}", flush=True)
    try:
        liger = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss(reduction="sum")
        calls["Liger fused linear CE, one hard label"] = lambda: liger(items, users, labels)
    except ImportError as error:
        print(f"skipped Liger: {error}", flush=True)
    calls["torch, all scores"] = lambda: plain(users, items, ids, probs)
    compiled = torch.compile(plain)
    calls["torch.compile, all scores"] = lambda: compiled(users, items, ids, probs)
    return calls


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 4096), ("items", 1_000_000), ("width", 64), ("targets", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("skipped: needs a CUDA device")
    torch.manual_seed(0)
    users, items = (
        torch.randn(n, given.width, device="cuda", dtype=torch.bfloat16).requires_grad_()
        for n in (given.rows, given.items)
    )
    ids = torch.randint(0, given.items, (given.rows, given.targets), device="cuda")
    probs = torch.softmax(torch.randn(ids.shape, device="cuda"), 1)
    print(
        f"{torch.cuda.get_device_name()} torch {torch.__version__} B={given.rows} N={given.items} D={given.width} bf16",
        flush=True,
    )
    ours = None
    for name, loss in peers(users, items, ids, probs).items():
        try:
            took, memory = measure(lambda loss=loss: torch.autograd.grad(loss(), (users, items)))  # type: ignore[misc]
        except Exception as error:  # a peer that fails must not hide the others; fastkd itself must not fail
            if name == "fastkd":
                raise
            print(f"{name:40s} {type(error).__name__}: {(str(error) or '-').splitlines()[0][:80]}", flush=True)
            torch.cuda.empty_cache()
            continue
        ours = ours or took
        print(f"{name:40s} {took:9.2f} ms  {memory:9.0f} MiB  {took / ours:6.2f} x fastkd", flush=True)


if __name__ == "__main__":
    main()
