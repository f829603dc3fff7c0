"""Listwise losses from embeddings on a GPU: forward and backward, beside torch eager, torch.compile and the bytes.

    python benchmarks/gpu_listwise.py [--shape B N D K L]... [--rounds 20] [--loss NAME]... [--no-compile]

Prints a line of JSON per shape as soon as it is known, the decisive shape first. CUDA events, quantiles 0.2, 0.5, 0.8
of the rounds, peers alternating on the same random normal tensors; allocations and the dense item gradient included,
ids not checked (``validate=False``). Peak memory is that of one step above the tensors themselves. Before it times
anything, the script compares gradients with torch in float64 on the first 64 rows, and two runs bit by bit. A peer that
fails is left out, and ``skipped`` says why.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastkd import ops

SHAPES = [
    (8192, 1_000_000, 64, 40, 200), (32768, 1_000_000, 64, 40, 80), (8192, 1_000_000, 128, 100, 150),
    (1024, 100_000, 64, 40, 60), (16, 100_000, 64, 40, 200),
]  # fmt: skip
Step = Callable[..., Tensor]


def plain(loss: str) -> Step:
    """Return the loss as one writes it in torch."""

    def relaxed_ranking(users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, ranked: int) -> Tensor:
        scores = torch.einsum("bd,bcd->bc", users, torch.nn.functional.embedding(ids, items))
        rest = torch.logsumexp(scores[:, ranked:], 1, keepdim=True)
        tail = torch.logcumsumexp(torch.cat([scores[:, :ranked], rest], 1).flip(1), 1).flip(1)
        return (tail[:, :ranked] - scores[:, :ranked]).sum()

    def listnet(users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, ranked: int) -> Tensor:
        scores = torch.einsum("bd,bcd->bc", users, torch.nn.functional.embedding(ids, items))
        return -(teacher.softmax(1) * scores.log_softmax(1)).sum()

    return {"relaxed_ranking": relaxed_ranking, "listnet": listnet}[loss]


def fused(loss: str) -> Step:
    """Return the op."""

    def call(users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, ranked: int) -> Tensor:
        if loss == "listnet":
            return ops.listnet_from_embeddings(users, items, ids, teacher, validate=False).sum()
        lists = ids[:, :ranked].contiguous(), ids[:, ranked:].contiguous()
        return ops.relaxed_ranking_from_embeddings(users, items, *lists, validate=False).sum()

    return call


def check(step: Step, truth: Step, users: Tensor, items: Tensor, *rest: Any) -> float:
    """Return how far gradients are from float64, relative to the largest; two runs must have the same bits."""
    first, again = (torch.autograd.grad(step(users, items, *rest), (users, items)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "two runs differ"
    few = [users[:64].detach().requires_grad_(), items, *(t[:64] for t in rest[:2]), rest[2]]
    found = torch.autograd.grad(step(*few), few[:2])
    double = [t.detach().double().requires_grad_() for t in few[:2]]
    expected = torch.autograd.grad(truth(*double, few[2], few[3].double(), few[4]), double)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the time between two events around one call."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))


def measure(shape: tuple[int, ...], loss: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """Return times, memory and error of one shape."""
    rows, count, dim, ranked, unranked = shape
    random = torch.Generator("cuda").manual_seed(0)
    tables = [torch.randn(n, dim, device="cuda", generator=random).requires_grad_() for n in (rows, count)]
    ids = torch.randint(count, (rows, ranked + unranked), device="cuda", generator=random)
    teacher = torch.randn(ids.shape, device="cuda", generator=random)
    peers: dict[str, Step] = {"fastkd": fused(loss), "torch": plain(loss)}
    error = check(peers["fastkd"], peers["torch"], *tables, ids, teacher, ranked)
    if compiled:
        peers["torch.compile"] = torch.compile(plain(loss), fullgraph=True)

    def step(peer: Step) -> Callable[[], None]:
        def run() -> None:
            torch.autograd.grad(peer(*tables, ids, teacher, ranked), tables)

        return run

    times: dict[str, list[float]] = {name: [] for name in peers}
    peaks: dict[str, float] = {}
    skipped = {}
    for name, peer in list(peers.items()):
        try:
            for _ in range(3):
                step(peer)()
        except Exception as failure:  # a peer that fails must not hide the others; fastkd itself must not fail
            if name == "fastkd":
                raise
            skipped[name] = f"{type(failure).__name__}: {str(failure)[:200]}"
            del peers[name], times[name]
            continue
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(peer)()
        peaks[name] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 3)
    for _ in range(rounds):
        for name, peer in peers.items():
            times[name].append(milliseconds(step(peer)))
    return {
        "loss": loss,
        "shape": dict(zip("BNDKL", shape, strict=True)),
        "ms": {n: [round(q, 4) for q in statistics.quantiles(t, n=10)[1::3]] for n, t in times.items()},
        "peak_GiB": peaks,
        "skipped": skipped,
        "gradient_error": error,
        "bytes": ids.numel() * (dim * 4 + 8) + 3 * rows * dim * 4 + count * dim * 4 + 2 * ids.numel() * 4,
    }


def bandwidth() -> float:
    """Return bytes per second of a copy of 1 GiB, best of ten."""
    source = torch.randn(2**28, device="cuda")
    target = torch.empty_like(source)
    return max(8 * 2**28 / (milliseconds(lambda: target.copy_(source)) / 1e3) for _ in range(10))


def main() -> None:
    """Read the arguments, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=5, action="append", metavar=("B", "N", "D", "K", "L"))
    parser.add_argument("--loss", choices=("relaxed_ranking", "listnet"), action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("skipped: needs a CUDA device")
    speed, device = bandwidth(), torch.cuda.get_device_name()
    print(json.dumps({"device": device, "torch": torch.__version__, "copy_bytes_per_s": speed}), flush=True)
    for loss in given.loss or ("relaxed_ranking", "listnet"):
        for shape in given.shape or SHAPES:
            row = measure(tuple(shape), loss, given.rounds, not given.no_compile)
            row["floor_ms"] = round(1e3 * row["bytes"] / speed, 4)
            ours = row["ms"]["fastkd"][1]
            row["times_floor"] = round(ours / row["floor_ms"], 3)
            row["peers_over_fastkd"] = {n: round(t[1] / ours, 2) for n, t in row["ms"].items() if n != "fastkd"}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
