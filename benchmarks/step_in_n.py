"""Time of a training step against the size of the catalogue: row-sparse and dense gradients and optimisers.

    python benchmarks/step_in_n.py [--items 100000 1000000 10000000] [--dim 32] [--json FILE]

A step: BPR on B interactions plus relaxed ranking distillation on B users with K ranked and L unranked items, backward
and update of the item table (Adam) and of the user vectors. Items are drawn uniformly, the worst case for caches.

    fastkd row-sparse     sparse_grad=True, RowAdam
    fastkd in backward    the same, updated inside backward()
    torch sparse          Embedding(sparse=True), gather, einsum, logcumsumexp, SparseAdam
    fastkd dense          dense gradient, fused torch Adam
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.training.row_optimisers import RowAdam

B, K, L = 2048, 40, 40


def main() -> None:
    """Measure every way at every size and print milliseconds and the growth from the smallest size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument(
        "--dense-up-to", type=int, default=1_000_000, help="largest N for the ways that touch all of it"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for name, way in WAYS.items():
        first = None
        for items in given.items:
            if name == "fastkd dense" and items > given.dense_up_to:
                continue
            median = measure(way, items, given.dim, given.steps)
            first = first or median
            rows.append({"way": name, "items": items, "ms": median, "growth": median / first})
            print(f"{name:20s} N={items:>11,d} {median:9.2f} ms   x{median / first:.2f}", flush=True)
    if given.json:
        about = {"torch": torch.__version__, "machine": platform.processor(), "threads": torch.get_num_threads()}
        given.json.write_text(json.dumps({"about": about, "B": B, "K": K, "L": L, "dim": given.dim, "rows": rows}))


def measure(way: Callable[[nn.Parameter], Callable[[int], None]], items: int, dim: int, steps: int) -> float:
    """Return the median milliseconds of a step on fresh ids."""
    table = nn.Parameter(torch.empty(items, dim).normal_(0, 0.1, generator=torch.Generator().manual_seed(0)))
    step = way(table)
    for seed in range(3):
        step(seed)
    times = []
    for seed in range(3, 3 + steps):
        started = time.perf_counter()
        step(seed)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def draw(items: int, seed: int, width: int) -> Tensor:
    """Return ids Int64[B, width], outside the timed work's meaning but inside its time: a step needs fresh ones."""
    return torch.randint(0, items, (B, width), generator=torch.Generator().manual_seed(seed))


def fastkd_rows(table: nn.Parameter, *, in_backward: bool = False) -> Callable[[int], None]:
    """Row-sparse gradients and lazy Adam."""
    users = nn.Parameter(torch.randn(B, table.shape[1]) * 0.1)
    optimizer = RowAdam([table, users], lr=1e-3, in_backward=in_backward)

    def step(seed: int) -> None:
        loss = losses(users, table, draw(len(table), seed, 2 + K + L), sparse_grad=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def fastkd_dense(table: nn.Parameter) -> Callable[[int], None]:
    """Train on the same losses with a dense gradient and torch's fused Adam."""
    users = nn.Parameter(torch.randn(B, table.shape[1]) * 0.1)
    optimizer = torch.optim.Adam([table, users], lr=1e-3, fused=True)

    def step(seed: int) -> None:
        losses(users, table, draw(len(table), seed, 2 + K + L), sparse_grad=False).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def losses(users: Tensor, table: Tensor, ids: Tensor, *, sparse_grad: bool) -> Tensor:
    """BPR on the first two columns, relaxed ranking on the others."""
    scores = ops.gather_dot(users, table, ids[:, :2], sparse_grad=sparse_grad)
    base = ops.pairwise(scores[:, 0], scores[:, 1:], loss="bpr").sum()
    ranked, unranked = ids[:, 2 : 2 + K], ids[:, 2 + K :]
    kd = ops.relaxed_ranking_from_embeddings(users, table, ranked, unranked, sparse_grad=sparse_grad).sum()
    return base + 0.1 * kd


def torch_sparse(table: nn.Parameter) -> Callable[[int], None]:
    """Train with what torch brings: sparse embedding gradients and SparseAdam."""
    users = nn.Parameter(torch.randn(B, table.shape[1]) * 0.1)
    sparse, dense = torch.optim.SparseAdam([table], lr=1e-3), torch.optim.Adam([users], lr=1e-3, fused=True)

    def step(seed: int) -> None:
        ids = draw(len(table), seed, 2 + K + L)
        vectors = nn.functional.embedding(ids, table, sparse=True)
        scores = torch.einsum("bd,bcd->bc", users, vectors)
        base = -nn.functional.logsigmoid(scores[:, 0] - scores[:, 1]).sum()
        ranked, unranked = scores[:, 2 : 2 + K], scores[:, 2 + K :]
        tail = torch.cat([ranked, unranked.logsumexp(1, keepdim=True)], 1).flip(1)
        kd = (tail.logcumsumexp(1).flip(1)[:, :K] - ranked).sum()
        (base + 0.1 * kd).backward()  # type: ignore[no-untyped-call]
        for optimizer in (sparse, dense):
            optimizer.step()  # type: ignore[no-untyped-call]
            optimizer.zero_grad(set_to_none=True)

    return step


WAYS: dict[str, Callable[[nn.Parameter], Callable[[int], None]]] = {
    "fastkd row-sparse": fastkd_rows,
    "fastkd in backward": lambda table: fastkd_rows(table, in_backward=True),
    "torch sparse": torch_sparse,
    "fastkd dense": fastkd_dense,
}

if __name__ == "__main__":
    main()
