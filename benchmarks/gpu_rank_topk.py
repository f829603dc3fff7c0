"""Time ``rank_topk`` on a GPU beside torch and other exact rankers, in one process.

    python benchmarks/gpu_rank_topk.py --out results.json          all shapes, the most telling first
    python benchmarks/gpu_rank_topk.py --quick                     the first two
    python benchmarks/gpu_rank_topk.py --seconds 240               start no shape after that; those left out are named

Inputs are on the device before the clock starts and random (never zeros): ``normal`` Gaussian, ``skewed`` with norms
as a trained table has them (log-normal, popular items longer), ``sorted`` items by ascending score for the first user.
Each ranker runs on the same tensors; rounds are interleaved; CUDA events; p20, p50, p80. ``floor`` is the matrix
product at 790 bf16 TFLOP/s or one read of the table at 4.3 TB/s (H200), whichever is longer.
``matmul`` is torch's product alone, scores written, nothing selected; ``fastkd-graph`` replays a captured call;
``scratch`` is the peak beyond inputs and results. Before timing, ids of 8 users are compared with a float64 ranking;
``agreement`` is the share they have in common.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastkd.core import Interactions
from fastkd.ops import rank_topk

Ranker = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Shape:
    """B users, N items, D dimensions, K results, seen items per user, kind of table."""

    B: int
    N: int
    D: int
    K: int
    seen: int = 0
    table: str = "normal"
    dtype: str = "bfloat16"


SHAPES = (
    Shape(4096, 1_000_000, 64, 100, seen=100),
    Shape(4096, 1_000_000, 64, 100),
    Shape(1024, 10_000_000, 64, 100, seen=100),
    Shape(4096, 1_000_000, 64, 100, seen=100, table="skewed"),
    Shape(4096, 1_000_000, 64, 100, seen=100, dtype="float32"),
    Shape(4096, 1_000_000, 64, 1000),
    Shape(1, 10_000_000, 128, 100),
    Shape(1024, 10_000_000, 64, 1000),
    Shape(4096, 1_000_000, 128, 100),
    Shape(1024, 1_000_000, 128, 100),
    Shape(4096, 100_000, 64, 50),
    Shape(256, 10_000_000, 64, 100),
    Shape(4096, 1_000_000, 64, 100, table="sorted"),
    Shape(64, 10_000_000, 128, 100),
)


def make(shape: Shape) -> tuple[Tensor, Tensor, Interactions | None]:
    """Return users, items and what each user has seen."""
    torch.manual_seed(0)
    users = torch.randn(shape.B, shape.D, device="cuda")
    items = torch.randn(shape.N, shape.D, device="cuda")
    if shape.table == "skewed":
        items *= torch.exp(0.5 * torch.randn(shape.N, 1, device="cuda"))
        items += 0.3 * torch.randn(1, shape.D, device="cuda")
    if shape.table == "sorted":
        items = items[torch.argsort(items @ users[0])]
        users = users[:1] + 0.1 * users
    seen = None
    if shape.seen:
        ids = torch.randint(shape.N, (shape.B, shape.seen))
        rows = torch.arange(shape.B)[:, None].expand_as(ids)
        seen = Interactions.from_pairs(
            rows.flatten().numpy(), ids.flatten().numpy(), num_users=shape.B, num_items=shape.N, duplicates="merge"
        )
    dtype = getattr(torch, shape.dtype)
    return users.to(dtype), items.to(dtype), seen


def torch_chunked(users: Tensor, items: Tensor, k: int, seen: Interactions | None, chunk: int) -> Ranker:
    """Return matmul, scatter of -inf, topk, ``chunk`` users at a time."""
    rows = None if seen is None else seen.to_torch(users.device)

    def rank() -> tuple[Tensor, Tensor]:
        parts = []
        for start in range(0, len(users), chunk):
            scores = users[start : start + chunk] @ items.T
            if rows is not None:
                starts = rows[0][start : start + len(scores) + 1]
                first, end = (int(seen.indptr[row]) for row in (start, start + len(scores)))  # type: ignore[union-attr]
                lanes = torch.arange(len(scores), device="cuda")
                row = torch.repeat_interleave(lanes, starts.diff(), output_size=end - first)
                scores[row, rows[1][first:end].long()] = -torch.inf
            parts.append(scores.topk(k, dim=1))
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])

    return rank


def matmul(users: Tensor, items: Tensor, chunk: int) -> Ranker:
    """Return the product alone, written to memory ``chunk`` users at a time."""

    def rank() -> tuple[Tensor, Tensor]:
        for part in torch.split(users, chunk):
            scores = part @ items.T
        return scores, scores

    return rank


def captured(users: Tensor, items: Tensor, k: int, seen: Interactions | None) -> Ranker:
    """Return the replay of a captured call; it is captured at the first one."""
    kept: list[Any] = []

    def rank() -> tuple[Tensor, Tensor]:
        if not kept:
            rank_topk(users, items, k, exclude=seen)  # compiles, and moves ``seen`` to the device
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = rank_topk(users, items, k, exclude=seen)
            kept.extend((graph, result))
        kept[0].replay()
        return kept[1].scores, kept[1].ids

    return rank


def rankers(
    shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None
) -> tuple[dict[str, Ranker], dict[str, str]]:
    """Return what can be timed, and why the others cannot."""
    skipped: dict[str, str] = {}
    found: dict[str, Ranker] = {"fastkd": lambda: tuple(rank_topk(users, items, shape.K, exclude=seen))}  # type: ignore[dict-item,return-value]
    found["fastkd-graph"] = captured(users, items, shape.K, seen)
    for chunk in (128, 512, 2048, 4096):
        if chunk <= max(shape.B, 128) and chunk * shape.N * users.element_size() < 24 << 30:
            found[f"torch-{shape.dtype}-chunk{chunk}"] = torch_chunked(users, items, shape.K, seen, chunk)
            found["matmul"] = matmul(users, items, chunk)  # the largest chunk that fits
    for name, build in (("cuvs", _cuvs), ("implicit", _implicit), ("flashlib", _flashlib)):
        try:
            found[name] = build(shape, users, items, seen)
        except Exception as error:  # a peer that is missing or cannot run the shape is named with its reason
            skipped[name] = f"{type(error).__name__}: {error}"
    return found, skipped


def _cuvs(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None) -> Ranker:
    if seen is not None:
        raise NotImplementedError("its per-user filter is a bitmap of B x N bits; not compared")
    brute = importlib.import_module("cuvs.neighbors.brute_force")
    kind = torch.float32 if shape.dtype == "float32" else torch.float16
    index, queries = brute.build(items.to(kind), metric="inner_product"), users.to(kind)

    def rank() -> tuple[Tensor, Tensor]:
        scores, ids = brute.search(index, queries, shape.K)
        return torch.as_tensor(scores, device="cuda"), torch.as_tensor(ids, device="cuda")

    return rank


def _implicit(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None) -> Ranker:
    if seen is not None:
        raise NotImplementedError("compared without masks only")
    gpu = importlib.import_module("implicit.gpu")
    left, right = (gpu.Matrix(table.float().cpu().numpy()) for table in (users, items))
    query = gpu.KnnQuery()

    return lambda: tuple(torch.as_tensor(part) for part in reversed(query.topk(right, left, shape.K)))  # type: ignore[return-value]


def _flashlib(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None) -> Ranker:
    if seen is not None or shape.K > 128:
        raise NotImplementedError("no masks, K <= 128")
    knn = importlib.import_module("flashlib").flash_knn
    unit = torch.nn.functional.normalize(items.float(), dim=1).to(items.dtype)  # L2 only: same ranking at equal norms

    return lambda: knn(users, unit, shape.K)


def agreement(found: Tensor, users: Tensor, items: Tensor, seen: Interactions | None, k: int) -> float:
    """Return the share of ids that a float64 ranking of 8 users has too."""
    some = torch.linspace(0, len(users) - 1, min(8, len(users))).long()
    shares = []
    for row in some.tolist():
        scores = torch.cat([part.double() @ users[row].double() for part in torch.split(items, 1 << 20)])
        if seen is not None:
            scores[torch.from_numpy(seen.row(row)).long().cuda()] = -torch.inf
        truth = scores.topk(k).indices
        shares.append(torch.isin(found[row].to(truth.device).long(), truth).double().mean().item())
    return statistics.fmean(shares)


def clock(rank: Ranker) -> float:
    """Return milliseconds of one call by CUDA events."""
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    rank()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Time every ranker on one shape, interleaved."""
    users, items, seen = make(shape)
    todo, skipped = rankers(shape, users, items, seen)
    rows: dict[str, dict[str, Any]] = {}
    for name, rank in list(todo.items()):
        try:
            torch.cuda.synchronize()
            rank()  # compiles, and caches what the call keeps
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            ids = rank()[1]
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before - 12 * shape.B * shape.K
            compared = name not in ("flashlib", "matmul")
            share = agreement(ids, users, items, seen, shape.K) if compared else None
            rows[name] = {"scratch_mb": max(0, peak) / 2**20, "agreement": share}
            del ids
        except Exception as error:
            skipped[name] = f"{type(error).__name__}: {error}"
            del todo[name]
            torch.cuda.empty_cache()
    times: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(rounds):
        for name, rank in todo.items():
            times[name].append(clock(rank))
    scores = shape.B * shape.N
    floor = max(2 * scores * shape.D / 790e12, shape.N * shape.D * users.element_size() / 4.3e12) * 1e3
    for name, taken in times.items():
        p20, p50, p80 = (statistics.quantiles(taken, n=10)[i] for i in (1, 4, 7))
        rows[name] |= {
            "p20_ms": p20, "p50_ms": p50, "p80_ms": p80, "tera_scores_per_s": scores / p50 / 1e9,
            "tflops": 2 * scores * shape.D / p50 / 1e9, "share_of_floor": floor / p50,
        }  # fmt: skip
    return {"shape": asdict(shape), "floor_ms": floor, "rankers": rows, "skipped": skipped}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("needs a CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = False
    device = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    print(*device.values(), flush=True)
    results: list[dict[str, Any]] = []
    began = time.monotonic()
    for shape in SHAPES[: 2 if given.quick else None]:
        if time.monotonic() - began > given.seconds:
            print(f"{shape}  left out: {given.seconds} s are over", flush=True)
            continue
        try:
            result = measure(shape, given.rounds)
        except Exception as error:  # the other shapes are still worth having
            print(f"{shape}  failed: {type(error).__name__}: {error}", flush=True)
            continue
        results.append(result)
        _print(shape, result)
        torch.cuda.empty_cache()
        if given.out:
            given.out.write_text(json.dumps({**device, "results": results}, indent=1) + "\n")


def _print(shape: Shape, result: dict[str, Any]) -> None:
    rows = result["rankers"]
    own = rows.get("fastkd", {}).get("p50_ms", math.nan)
    print(f"{shape}  floor {result['floor_ms']:.3f} ms", flush=True)
    for name, row in rows.items():
        print(
            f"  {name:24s} {row['p50_ms']:9.3f} ms  {row['p50_ms'] / own:6.2f} x  {row['scratch_mb']:9.1f} MB  "
            f"agreement {row['agreement']}"
        )
    print(
        *(f"  {name:24s} skipped: {reason[:100]}" for name, reason in result["skipped"].items()), sep="\n", flush=True
    )


if __name__ == "__main__":
    main()
