"""Matrix products of the CPU kernels beside torch's, by shape: GFLOP/s, best of 50 rounds in turns.

    python benchmarks/products.py [--threads 1]

``scores``: users x items tiles, as ranking and the losses over a catalogue make them; one thread. The others run on all
threads: ``rows x rows`` is A B^T, ``rows x columns`` A B, ``columns x columns`` A^T B.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch

from fastkd.kernels.numba import _matmul
from fastkd.kernels.numba._product import has_wide_registers, multiply, ready

ROUNDS = 50


def rates(flops: float, ways: Sequence[Callable[[], object]]) -> list[float]:
    """Return the GFLOP/s of each way, which take turns."""
    best = [float("inf")] * len(ways)
    for round_ in range(ROUNDS + 3):
        for i, way in enumerate(ways):
            start = time.perf_counter()
            way()
            took = time.perf_counter() - start
            if round_ >= 3:
                best[i] = min(best[i], took)
    return [flops / seconds / 1e9 for seconds in best]


def scores(users: int, items: int, dim: int, random: torch.Generator) -> None:
    """Measure a tile of scores on one thread."""
    a, b = (torch.randn(n, dim, generator=random) for n in (users, items))
    out, laid_out = torch.empty(users, items), ready(a)
    ways = [lambda: multiply(laid_out, b, out), lambda: torch.mm(a, b.t(), out=out)]
    show(f"scores {users} x {items} x {dim}, 1 thread", rates(2.0 * users * items * dim, ways))


def matrices(m: int, k: int, n: int, random: torch.Generator) -> None:
    """Measure the three products of M x K and K x N on all threads."""
    a, b = torch.randn(m, k, generator=random), torch.randn(k, n, generator=random)
    turned, across, out = b.t().contiguous(), a.t().contiguous(), torch.zeros(m, n)
    ways: dict[str, list[Callable[[], object]]] = {
        "rows x rows": [lambda: _matmul.rows_by_rows(a, turned), lambda: torch.mm(a, turned.t())],
        "rows x columns": [lambda: _matmul.rows_by_columns(a, b, out, add=True), lambda: out.addmm_(a, b)],
        "columns x columns": [
            lambda: _matmul.add_columns_by_columns(across, b, out), lambda: out.addmm_(across.t(), b),
        ],
    }  # fmt: skip
    for name, pair in ways.items():
        show(f"{name} {m} x {k} x {n}", rates(2.0 * m * k * n, pair))


def show(what: str, found: list[float]) -> None:
    """Print ours, torch's and their ratio."""
    print(f"{what}: {found[0]:.0f}, torch {found[1]:.0f} ({found[0] / found[1]:.1f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    random = torch.Generator().manual_seed(0)
    print(f"512-bit registers: {has_wide_registers()}; {given.threads} threads")
    torch.set_num_threads(1)
    for shape in ((256, 2048, 64), (256, 512, 20), (256, 2048, 128)):
        scores(*shape, random)
    torch.set_num_threads(given.threads)
    for shape in ((332, 6300, 400), (6300, 332, 400), (332, 400, 6300)):
        matrices(*shape, random)


if __name__ == "__main__":
    main()
