"""Time of a training step against the size of the catalogue: row-sparse and dense gradients and optimisers.

    python benchmarks/step_in_n.py [--items 100000 1000000 10000000] [--batch 256 2048] [--dim 32] [--json FILE]

A step: BPR on B interactions plus relaxed ranking distillation on B users with K ranked and L unranked items, backward
and update of the item table (Adam) and of the user vectors. Items are drawn uniformly, the worst case for caches. A
small catalogue repeats items in a batch: ``rows`` is how many distinct ones a step touched.

    fastkd row-sparse     sparse_grad=True, RowAdam
    fastkd in backward    the same, updated inside backward()
    fastkd Adagrad        the same with row-wise Adagrad: one accumulator a row
    torch sparse          Embedding(sparse=True), gather, einsum, logcumsumexp, SparseAdam
    fbgemm Adagrad        FBGEMM's fused table with row-wise Adagrad, the same losses (it has no Adam on the CPU)
    fastkd dense          dense gradient, fused torch Adam
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.training.row_optimisers import RowAdagrad, RowAdam

K, L = 40, 40
Step = Callable[[Tensor], None]


def main() -> None:
    """Measure every way at every size and print milliseconds and the growth from the smallest size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument(
        "--dense-up-to", type=int, default=1_000_000, help="largest N for the ways that touch all of it"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for batch in given.batch:
        for name, way in WAYS.items():
            first = None
            for items in given.items:
                if name == "fastkd dense" and items > given.dense_up_to:
                    continue
                try:
                    row = measure(way, items, batch, given.dim, given.steps)
                except ImportError as missing:
                    print(f"{name}: skipped, {missing}")
                    break
                first = first or row["ms"]
                rows.append({"way": name, "B": batch, "items": items, **row, "growth": round(row["ms"] / first, 3)})
                told = f"{row['ms']:9.2f} ms  x{row['ms'] / first:.2f}  {row['rows']:,d} rows"
                print(f"B={batch:<5d} {name:20s} N={items:>11,d} {told}", flush=True)
    if given.json:
        about = {
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        }
        given.json.write_text(json.dumps({"about": about, "K": K, "L": L, "dim": given.dim, "rows": rows}, indent=1))


def measure(way: Callable[[nn.Parameter, int], Step], items: int, batch: int, dim: int, steps: int) -> dict[str, Any]:
    """Return the median milliseconds of a step on fresh ids, and how many distinct rows one touched."""
    table = nn.Parameter(vectors(items, dim))
    step, times, ids = way(table, batch), [], torch.empty(0)
    for seed in range(4 + steps):
        ids = draw(items, seed, batch)
        started = time.perf_counter()
        step(ids)
        times.append(time.perf_counter() - started)
    return {"ms": round(1e3 * statistics.median(times[4:]), 3), "rows": len(torch.unique(ids))}


def vectors(items: int, dim: int, block: int = 100_000) -> Tensor:
    """Return a table of normal numbers that repeats every ``block`` rows: to draw 10M rows takes seconds."""
    table = torch.empty(items, dim)
    some = torch.randn(block, dim, generator=torch.Generator().manual_seed(0)) * 0.1
    for start in range(0, items, block):
        table[start : start + block] = some[: items - start]
    return table


def draw(items: int, seed: int, batch: int) -> Tensor:
    """Return ids Int64[B, 2 + K + L]: a positive, a negative, the ranked and the unranked."""
    return torch.randint(0, items, (batch, 2 + K + L), generator=torch.Generator().manual_seed(seed))


def fastkd_rows(table: nn.Parameter, batch: int, *, in_backward: bool = False, adagrad: bool = False) -> Step:
    """Row-sparse gradients and a lazy optimiser."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    optimizer: torch.optim.Optimizer
    if adagrad:
        optimizer = RowAdagrad([table, users], lr=1e-3, rowwise=True, in_backward=in_backward)
    else:
        optimizer = RowAdam([table, users], lr=1e-3, in_backward=in_backward)

    def step(ids: Tensor) -> None:
        loss = losses(users, table, ids, sparse_grad=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return settled(step, optimizer, ids=draw(len(table), 0, batch))


def settled(step: Step, optimizer: torch.optim.Optimizer, ids: Tensor) -> Step:
    """Return ``step`` after one call, all of the optimiser's state in memory: zeros come from the system lazily."""
    step(ids)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.add_(0)
    return step


def fastkd_dense(table: nn.Parameter, batch: int) -> Step:
    """Train on the same losses with a dense gradient and torch's fused Adam."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    optimizer = torch.optim.Adam([table, users], lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        losses(users, table, ids, sparse_grad=False).backward()  # type: ignore[no-untyped-call]
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


def plain_losses(users: Tensor, vectors: Tensor) -> Tensor:
    """Return the same from gathered vectors Float[B, 2 + K + L, D], in torch."""
    scores = torch.einsum("bd,bcd->bc", users, vectors)
    base = -nn.functional.logsigmoid(scores[:, 0] - scores[:, 1]).sum()
    ranked, unranked = scores[:, 2 : 2 + K], scores[:, 2 + K :]
    tail = torch.cat([ranked, unranked.logsumexp(1, keepdim=True)], 1).flip(1)
    return base + 0.1 * (tail.logcumsumexp(1).flip(1)[:, :K] - ranked).sum()


def torch_sparse(table: nn.Parameter, batch: int) -> Step:
    """Train with what torch brings: sparse embedding gradients and SparseAdam."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    sparse, dense = torch.optim.SparseAdam([table], lr=1e-3), torch.optim.Adam([users], lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        loss = plain_losses(users, nn.functional.embedding(ids, table, sparse=True))
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in (sparse, dense):
            optimizer.step()  # type: ignore[no-untyped-call]
            optimizer.zero_grad(set_to_none=True)

    return settled(step, sparse, ids=draw(len(table), 0, batch))


def fbgemm(table: nn.Parameter, batch: int) -> Step:
    """Train with FBGEMM's table, which is updated inside backward."""
    try:
        importlib.import_module("fbgemm_gpu")
        made = importlib.import_module("fbgemm_gpu.split_table_batched_embeddings_ops_training")
        common = importlib.import_module("fbgemm_gpu.split_table_batched_embeddings_ops_common")
    except (ImportError, OSError) as missing:
        raise ImportError(f"fbgemm-gpu-cpu for torch {torch.__version__} is not installed") from missing
    bag = made.SplitTableBatchedEmbeddingBagsCodegen(
        [(len(table), table.shape[1], common.EmbeddingLocation.HOST, made.ComputeDevice.CPU)],
        optimizer=made.OptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=1e-3,
        pooling_mode=common.PoolingMode.NONE,
    )
    bag.split_embedding_weights()[0].copy_(table.detach())
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    dense = torch.optim.Adam([users], lr=1e-3, fused=True)

    def step(ids: Tensor) -> None:
        vectors = bag(ids.reshape(-1), torch.tensor([0, ids.numel()]))
        plain_losses(users, vectors.view(*ids.shape, -1)).backward()  # type: ignore[no-untyped-call]
        dense.step()
        dense.zero_grad(set_to_none=True)

    return step


WAYS: dict[str, Callable[[nn.Parameter, int], Step]] = {
    "fastkd row-sparse": fastkd_rows,
    "fastkd in backward": lambda table, batch: fastkd_rows(table, batch, in_backward=True),
    "fastkd Adagrad": lambda table, batch: fastkd_rows(table, batch, in_backward=True, adagrad=True),
    "torch sparse": torch_sparse,
    "fbgemm Adagrad": fbgemm,
    "fastkd dense": fastkd_dense,
}

if __name__ == "__main__":
    main()
