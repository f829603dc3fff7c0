"""Time of a training step against the size of the catalogue: row-sparse and dense gradients and optimisers.

    python benchmarks/step_in_n.py [--way NAME]... [--items N]... [--batch B]... [--dim 32] [--json FILE]

A step: BPR on B interactions plus relaxed ranking distillation on B users with K ranked and L unranked items, backward
and update of the item table (Adam) and of the user vectors. Items are drawn uniformly, the worst case for caches. A
small catalogue repeats items in a batch: ``rows`` is how many distinct ones a step touched. The sizes take turns, step
by step. ``ms``: steps one after another. ``swept``: 256 MB are read before each step, as by whatever a job does between
its steps; only the step is timed. Rows of a JSON file that other ways or batches left there stay.

    rows alone            the least a step can do: read the listed rows, read and write weight, two moments and the step
                          count of the distinct ones; in one pass, their order known, nothing computed, large pages
    fastkd row-sparse     sparse_grad=True, RowAdam
    fastkd small pages    the same without large memory pages
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
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numba
import numpy as np
import torch
from torch import Tensor, nn

from fastkd.bench.cases._rows import losses
from fastkd.bench.peers._torch import step_losses
from fastkd.core import pages, use_large_pages
from fastkd.kernels.numba._prefetch import AHEAD, prefetch_row
from fastkd.kernels.numba._threads import run_rows
from fastkd.training.row_optimisers import RowAdagrad, RowAdam

K, L = 40, 40


class Batch(NamedTuple):
    """Ids Int64[B, 2 + K + L]: a positive, a negative, the ranked, the unranked; and the distinct ones, ascending."""

    ids: Tensor
    distinct: Tensor


Step = Callable[[Batch], None]
Made = Callable[[nn.Parameter, int], Step]
SWEPT = 64_000_000
"""Numbers of 4 bytes that drive everything else out of the caches."""


def main() -> None:
    """Measure every way at every size and print milliseconds and the growth from the smallest size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument(
        "--dense-up-to", type=int, default=1_000_000, help="largest N of the way that touches all of it"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = json.loads(given.json.read_text())["rows"] if given.json and given.json.exists() else []
    for batch in given.batch:
        for name in given.way or WAYS:
            sizes = [n for n in given.items if name != "fastkd dense" or n <= given.dense_up_to]
            try:
                found = measure(WAYS[name], sizes, batch, given.dim, given.steps)
            except ImportError as missing:
                print(f"{name}: skipped, {missing}")
                continue
            rows = [row for row in rows if (row["way"], row["B"]) != (name, batch)]
            rows += [{"way": name, "B": batch, **row} for row in found]
            for row in found:
                warm, swept = (
                    f"{row[k]:9.2f} ms x{row[g]:.2f}" for k, g in (("ms", "growth"), ("swept_ms", "swept_growth"))
                )
                print(
                    f"B={batch:<5d} {name:20s} N={row['items']:>11,d} {warm}  swept {swept}  {row['rows']:,d} rows",
                    flush=True,
                )
    if given.json:
        order = list(WAYS)
        rows.sort(key=lambda row: (row["B"], order.index(row["way"]), row["items"]))
        about = {
            "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        }
        text = json.dumps({"about": about, "K": K, "L": L, "dim": given.dim, "rows": rows}, indent=1)
        given.json.write_text(text + "\n")


def measure(way: Made, sizes: Sequence[int], batch: int, dim: int, steps: int) -> list[dict[str, Any]]:
    """Return for each size the median milliseconds of a step on fresh ids, warm and swept, and the distinct rows."""
    made = {items: way(nn.Parameter(vectors(items, dim)), batch) for items in sizes}
    other, times = torch.ones(SWEPT), {(items, swept): list[float]() for items in sizes for swept in (False, True)}
    for seed, items, swept in itertools.product(range(3 + steps), sizes, (False, True)):
        if not swept:
            for before in range(2):  # what another size left in the caches goes first
                made[items](draw(items, 1000 * (1 + before) + seed, batch))
        given = draw(items, seed + 100 * swept, batch)
        if swept:
            other.sum()
        started = time.perf_counter()
        made[items](given)
        times[items, swept].append(1e3 * (time.perf_counter() - started))
    ms = {key: statistics.median(spent[3:]) for key, spent in times.items()}
    rows = []
    for n in sizes:
        row = {"items": n, "ms": ms[n, False], "swept_ms": ms[n, True]}
        growth = {"growth": ms[n, False] / ms[sizes[0], False], "swept_growth": ms[n, True] / ms[sizes[0], True]}
        rounded = {name: round(value, 3) for name, value in {**row, **growth}.items()}
        rows.append({**rounded, "rows": len(draw(n, 0, batch).distinct)})
    return rows


def vectors(items: int, dim: int, block: int = 100_000) -> Tensor:
    """Return a table of normal numbers that repeats every ``block`` rows: to draw 10M rows takes seconds."""
    table = torch.empty(items, dim)
    some = torch.randn(block, dim, generator=torch.Generator().manual_seed(0)) * 0.1
    for start in range(0, items, block):
        table[start : start + block] = some[: items - start]
    return table


def draw(items: int, seed: int, batch: int) -> Batch:
    """Return a batch of ids drawn uniformly."""
    ids = torch.randint(0, items, (batch, 2 + K + L), generator=torch.Generator().manual_seed(seed))
    return Batch(ids, torch.unique(ids))


def rows_alone(table: nn.Parameter, batch: int) -> Step:
    """Touch what no step can leave untouched, on the threads that the kernels run on."""
    use_large_pages(table)
    weight = table.detach().numpy()
    mean, square, count = np.ones_like(weight), np.ones_like(weight), np.ones((len(weight), 1), np.int32)
    total = np.zeros(batch * (2 + K + L), np.float32)

    def step(given: Batch) -> None:
        listed, distinct = given.ids.numpy().ravel(), given.distinct.numpy()
        run_rows(read_rows, len(listed), 30.0, weight, listed, total)
        run_rows(write_rows, len(distinct), 100.0, weight, mean, square, count, distinct)

    return step


@numba.njit(nogil=True, fastmath={"reassoc"})
def read_rows(table: Any, listed: Any, out: Any, start: int, stop: int) -> None:
    """Read the listed rows."""
    for j in range(start, stop):
        if j + AHEAD < stop:
            prefetch_row(table, listed[j + AHEAD])
        row, total = table[listed[j]], np.float32(0)
        for d in range(len(row)):
            total += row[d]
        out[j] = total


@numba.njit(nogil=True)
def write_rows(weight: Any, mean: Any, square: Any, count: Any, rows: Any, start: int, stop: int) -> None:
    """Read and write the listed rows of everything that Adam keeps."""
    for j in range(start, stop):
        if j + AHEAD < stop:
            for table in (weight, mean, square):
                prefetch_row(table, rows[j + AHEAD])
            prefetch_row(count, rows[j + AHEAD])
        i = rows[j]
        count[i, 0] += 1
        for table in (weight, mean, square):
            row = table[i]
            for d in range(len(row)):
                row[d] = -row[d]


def fastkd_rows(table: nn.Parameter, batch: int, *, in_backward: bool = False, adagrad: bool = False) -> Step:
    """Row-sparse gradients and a lazy optimiser."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    optimizer: torch.optim.Optimizer
    if adagrad:
        optimizer = RowAdagrad([table, users], lr=1e-3, rowwise=True, in_backward=in_backward)
    else:
        optimizer = RowAdam([table, users], lr=1e-3, in_backward=in_backward)

    def step(given: Batch) -> None:
        loss = losses(users, table, given.ids, K, sparse_grad=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return settled(step, optimizer, draw(len(table), 0, batch))


def small_pages(table: nn.Parameter, batch: int) -> Step:
    """Return the row-sparse step with the table and the optimiser's state in the system's usual pages."""
    with mock.patch.object(pages, "SMALLEST", 1 << 62):
        return fastkd_rows(table, batch)


def settled(step: Step, optimizer: torch.optim.Optimizer, first: Batch) -> Step:
    """Return ``step`` after one call, all of the optimiser's state in memory: zeros come from the system lazily."""
    step(first)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.add_(0)
    return step


def fastkd_dense(table: nn.Parameter, batch: int) -> Step:
    """Train on the same losses with a dense gradient and torch's fused Adam."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    optimizer = torch.optim.Adam([table, users], lr=1e-3, fused=True)

    def step(given: Batch) -> None:
        losses(users, table, given.ids, K, sparse_grad=False).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def torch_sparse(table: nn.Parameter, batch: int) -> Step:
    """Train with what torch brings: sparse embedding gradients and SparseAdam."""
    users = nn.Parameter(torch.randn(batch, table.shape[1]) * 0.1)
    sparse, dense = torch.optim.SparseAdam([table], lr=1e-3), torch.optim.Adam([users], lr=1e-3, fused=True)

    def step(given: Batch) -> None:
        loss = step_losses(users, nn.functional.embedding(given.ids, table, sparse=True), K)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in (sparse, dense):
            optimizer.step()  # type: ignore[no-untyped-call]
            optimizer.zero_grad(set_to_none=True)

    return settled(step, sparse, draw(len(table), 0, batch))


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

    def step(given: Batch) -> None:
        ids = given.ids
        vectors = bag(ids.reshape(-1), torch.tensor([0, ids.numel()]))
        step_losses(users, vectors.view(*ids.shape, -1), K).backward()  # type: ignore[no-untyped-call]
        dense.step()
        dense.zero_grad(set_to_none=True)

    return step


WAYS: dict[str, Made] = {
    "rows alone": rows_alone,
    "fastkd row-sparse": fastkd_rows,
    "fastkd small pages": small_pages,
    "fastkd in backward": lambda table, batch: fastkd_rows(table, batch, in_backward=True),
    "fastkd Adagrad": lambda table, batch: fastkd_rows(table, batch, in_backward=True, adagrad=True),
    "torch sparse": torch_sparse,
    "fbgemm Adagrad": fbgemm,
    "fastkd dense": fastkd_dense,
}

if __name__ == "__main__":
    main()
