"""Losses over a whole catalogue on the CPU, forward and backward, against plain torch.

    python benchmarks/catalogue.py [--rows 256] [--items 100000] [--width 64] [--threads 1] [--compile] [--json FILE]

Prints milliseconds (median), the ratio to fastkd, and the share of the time that the products alone take. Peers: torch
with all scores, torch in chunks of users (recomputed in backward), and the same compiled.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastkd.ops import catalogue_divergence, catalogue_softmax

TARGETS = 50


def plain(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
    """Return the sum of losses with all scores at once."""
    scores = users @ items.T
    return (scores.logsumexp(1) - (probs * scores.gather(1, ids)).sum(1)).sum()


def chunked(users: Tensor, items: Tensor, ids: Tensor, probs: Tensor) -> Tensor:
    """Return the same from 64 users at a time, scores made again in backward."""
    losses = [
        checkpoint(plain, u, items, i, q, use_reentrant=False)
        for u, i, q in zip(torch.split(users, 64), torch.split(ids, 64), torch.split(probs, 64), strict=True)
    ]
    return torch.stack(losses).sum()


def median(call: Callable[[], object], repeats: int) -> float:
    """Return milliseconds, after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def products(users: Tensor, items: Tensor) -> Callable[[], None]:
    """Return a call of the four products alone, tile by tile, in memory that stays in a cache."""
    tile, row = torch.empty(256, 512), torch.empty(256, users.shape[1])

    def run() -> None:
        for u in torch.split(users, 256):
            for v in torch.split(items, 512):
                scores = tile[: len(u), : len(v)]
                for _ in range(2):
                    torch.mm(u, v.T, out=scores)
                torch.mm(scores, v, out=row[: len(u)])
                torch.mm(scores.T, u)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 256), ("items", 100_000), ("width", 64), ("threads", 1), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="torch.compile as a peer too (takes a minute)")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    users = torch.randn(given.rows, given.width).requires_grad_()
    items = torch.randn(given.items, given.width).requires_grad_()
    teacher = torch.randn(given.rows, 128), torch.randn(given.items, 128)
    ids = torch.randint(0, given.items, (given.rows, TARGETS))
    probs = torch.softmax(torch.randn(given.rows, TARGETS), 1)

    def step(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), (users, items))

    def reverse(backend: str) -> Callable[[], Tensor]:
        return lambda: catalogue_divergence((users, items), teacher, kind="reverse_kl", backend=backend).sum()

    calls: dict[str, Callable[[], object]] = {
        "fastkd catalogue_softmax": step(lambda: catalogue_softmax(users, items, ids, probs).sum()),
        "torch, all scores": step(lambda: plain(users, items, ids, probs)),
        "torch, 64 users at a time": step(lambda: chunked(users, items, ids, probs)),
        "the four products alone": products(users.detach(), items.detach()),
        "fastkd reverse KL, teacher of width 128": step(reverse("auto")),
        "torch reverse KL": step(reverse("reference")),
    }
    if given.compile:
        compiled = torch.compile(plain)
        calls["torch.compile, all scores"] = step(lambda: compiled(users, items, ids, probs))
    print(f"B={given.rows} N={given.items} D={given.width} K={TARGETS} float32, {given.threads} thread(s)")
    found = {name: round(median(call, given.repeats), 2) for name, call in calls.items()}
    base = found["fastkd catalogue_softmax"]
    for name, took in found.items():
        print(f"{name:42s} {took:9.1f} ms  {took / base:6.2f} x")
    if given.json:
        about = {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "torch": torch.__version__}
        shape = {"B": given.rows, "N": given.items, "D": given.width, "K": TARGETS, "threads": given.threads}
        given.json.write_text(json.dumps({**about, **shape, "ms": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
