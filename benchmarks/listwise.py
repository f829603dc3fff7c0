"""Listwise losses from embeddings on the CPU: forward and backward, beside torch eager, torch.compile and the bytes.

    python benchmarks/listwise.py [--shape B N D K L]... [--threads 1] [--rounds 5] [--no-compile] [--json FILE]

Peers run the same loss on the same random normal tensors, alternating, in one process; median of the rounds. The floor
is the traffic that cannot be left out (each listed row read once, its gradient row read and written, the dense gradient
written once) at the memory bandwidth measured in the same run. ``coefficients`` is the call without the dense gradient
of the items: loss, coefficients and the gradient of the users, as a row-sparse optimiser takes it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastkd import ops

SHAPES = [(1500, 25_181, 20, 100, 200), (1500, 25_181, 64, 40, 40), (2048, 1_000_000, 64, 40, 200)]


def plain(users: Tensor, items: Tensor, ids: Tensor, ranked: int) -> Tensor:
    """Return the loss as one writes it in torch."""
    scores = torch.einsum("bd,bcd->bc", users, torch.nn.functional.embedding(ids, items))
    rest = torch.logsumexp(scores[:, ranked:], 1, keepdim=True)
    tail = torch.logcumsumexp(torch.cat([scores[:, :ranked], rest], 1).flip(1), 1).flip(1)
    return (tail[:, :ranked] - scores[:, :ranked]).sum()


def bandwidth(numbers: int = 32_000_000) -> float:
    """Return bytes read and written per second by a copy of 128 MB, best of five."""
    source, target = torch.ones(numbers), torch.ones(numbers)
    return max(8 * numbers / seconds(lambda: target.copy_(source)) for _ in range(5))


def seconds(call: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(shape: tuple[int, ...], rounds: int, compiled: bool) -> dict[str, Any]:
    """Return milliseconds of each peer, and the floor's bytes."""
    rows, count, dim, ranked, unranked = shape
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, dim, generator=random).requires_grad_() for n in (rows, count))
    ids = torch.randint(count, (rows, ranked + unranked), generator=random)
    lists = ids[:, :ranked].contiguous(), ids[:, ranked:].contiguous()
    fixed = items.detach()

    def fused(table: Tensor) -> Callable[[], None]:
        return lambda: ops.relaxed_ranking_from_embeddings(users, table, *lists).sum().backward()  # type: ignore[no-untyped-call]

    native = torch.ops.fastkd.relaxed_ranking_from_embeddings.default
    peers: dict[str, Callable[[], Any]] = {
        "fastkd": fused(items),
        "coefficients": lambda: native(users.detach(), fixed, *lists, None, True, True, True, "numba"),
        "torch": lambda: plain(users, items, ids, ranked).backward(),  # type: ignore[no-untyped-call]
    }
    if compiled:
        inductor = torch.compile(plain, fullgraph=True)
        peers["torch.compile"] = lambda: inductor(users, items, ids, ranked).backward()  # type: ignore[no-untyped-call]
    times: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(rounds + 1):
        for name, call in peers.items():
            users.grad = items.grad = None
            spent = seconds(call)
            if turn:
                times[name].append(1e3 * spent)
    gathered = rows * (ranked + unranked) * dim * 4
    return {
        "shape": dict(zip("BNDKL", shape, strict=True)),
        "ms": {name: round(statistics.median(t), 3) for name, t in times.items()},
        "floor_bytes": 3 * gathered + count * dim * 4 + rows * dim * 8 + 2 * ids.numel() * 4,
        "floor_bytes_without_items": gathered + rows * dim * 8 + ids.numel() * 4,
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=5, action="append", metavar=("B", "N", "D", "K", "L"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    speed = bandwidth()
    found = [measure(tuple(s), given.rounds, not given.no_compile) for s in given.shape or SHAPES]
    for row in found:
        ms = row["ms"]
        row["floor_ms"] = round(1e3 * row["floor_bytes"] / speed, 3)
        row["coefficients_floor_ms"] = round(1e3 * row["floor_bytes_without_items"] / speed, 3)
        row["times_faster_than"] = {n: round(ms[n] / ms["fastkd"], 2) for n in ("torch", "torch.compile") if n in ms}
        row["times_floor"] = round(ms["fastkd"] / row["floor_ms"], 2)
        row["coefficients_times_floor"] = round(ms["coefficients"] / row["coefficients_floor_ms"], 2)
    report = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "torch": torch.__version__,
        "threads": given.threads,
        "GB_per_s": round(speed / 1e9, 2),
        "rows": found,
    }
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"torch {report['torch']}, {given.threads} thread(s), copy {report['GB_per_s']} GB/s")
    for row in found:
        print(*(f"{k}={v}" for k, v in row.items() if k != "floor_bytes"), sep="  ")


if __name__ == "__main__":
    main()
