"""Exact top-K on the CPU beside its peers, same tables, same threads; ids are compared before anything is timed.

    python benchmarks/rank_topk.py                                all shapes
    python benchmarks/rank_topk.py --quick                        small shapes, a few seconds
    python benchmarks/rank_topk.py --peers torch,faiss,implicit   which peers (torch is always there)
    python benchmarks/rank_topk.py --only 0,2 --out rank.json     some shapes; figures as JSON, others in it are kept

``sgemm``: the bare matrix product in the same tiles, nothing selected. Torch's chunk is swept and its best one shown.
``predicted``: what ``explain_rank_topk`` says of the shape, and how far that is from what was measured.
Tables: ``normal``; ``skewed``, rows scaled by lognormal lengths; ``sorted``, ascending by nearly every user's score;
``equal``, every score the same: what breaks a filter, so all of it is ranked by canonical scores.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rank_topk_record import surroundings
from torch import Tensor

from fastkd import ops
from fastkd.core import Interactions, Seeds
from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._topk_plan import plan_rank_topk, spans_of

ROUNDS = 5
SHORT = 100.0
"""Milliseconds."""
SEED = 0
PEERS = {"torch", "faiss", "implicit"}
Ids = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """B users, N items, D dimensions, K results; ``seen`` items left out per user; how the table is made."""

    B: int
    N: int
    D: int
    K: int
    seen: int = 0
    table: str = "normal"


SHAPES = (
    Shape(256, 1_000_000, 64, 100),
    Shape(256, 1_000_000, 64, 100, seen=100),
    Shape(256, 1_000_000, 64, 100, table="skewed"),
    Shape(256, 1_000_000, 64, 100, table="sorted"),
    Shape(256, 1_000_000, 128, 1000),
    Shape(1024, 100_000, 64, 100),
    Shape(1024, 100_000, 64, 100, seen=100),
    Shape(1024, 25_181, 20, 20),
    Shape(1024, 25_181, 20, 100),
    Shape(1024, 25_181, 20, 100, seen=30),
    Shape(1, 1_000_000, 64, 100),
    Shape(8, 1_000_000, 64, 100),
    Shape(256, 200_000, 64, 100, table="equal"),
)
QUICK = (Shape(128, 50_000, 32, 20), Shape(128, 50_000, 32, 20, seen=50), Shape(1, 50_000, 32, 10))


def inputs(shape: Shape) -> tuple[Tensor, Tensor, Interactions | None]:
    """Return users, items and what is left out."""
    seeds = Seeds(SEED)
    users = torch.randn(shape.B, shape.D, generator=seeds.torch("users"))
    items = torch.randn(shape.N, shape.D, generator=seeds.torch("items"))
    if shape.table == "skewed":
        items *= torch.exp(torch.randn(shape.N, 1, generator=seeds.torch("lengths")))
    if shape.table == "equal":
        items = items[:1].repeat(shape.N, 1)
    if shape.table == "sorted":
        users = users * 0.01
        users[:, 0] += 1
        items = items[items[:, 0].argsort()].contiguous()
    if not shape.seen:
        return users, items, None
    picked = seeds.numpy("seen").integers(0, shape.N, shape.B * shape.seen)
    rows = np.repeat(np.arange(shape.B), shape.seen)
    seen = Interactions.from_pairs(rows, picked, num_users=shape.B, num_items=shape.N, duplicates="merge")
    return users, items, seen


def bare_product(shape: Shape, users: Tensor, items: Tensor) -> Ids:
    """Return the tiles' matrix products alone, on as many threads."""
    plan = plan_rank_topk(shape.B, shape.N, shape.D, shape.K, 4, torch.get_num_threads())
    units = [(start, span) for start in range(0, shape.B, plan.block) for span in spans_of(shape.N, plan.spans)]

    def product(unit: int) -> None:
        start, (first, last) = units[unit]
        block = users[start : start + plan.block]
        out = torch.empty(len(block) * plan.width)
        for tile in range(first, last, plan.width):
            part = items[tile : min(tile + plan.width, last)]
            torch.mm(block, part.t(), out=out[: len(block) * len(part)].view(len(block), len(part)))

    return lambda: run_blocks(product, range(len(units)))


def with_torch(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None, chunk: int) -> Ids:
    """Return matmul, mask and topk over chunks of users."""
    parts = []
    for start in range(0, shape.B, chunk):
        rows = slice(start, min(start + chunk, shape.B))
        mask = None
        if seen is not None:
            indptr, indices = seen.rows(np.arange(rows.start, rows.stop)).to_torch()
            owner = torch.repeat_interleave(torch.arange(rows.stop - rows.start), indptr.diff())
            mask = owner, indices.long()
        parts.append((users[rows], mask))

    def run() -> Tensor:
        found = []
        for block, mask in parts:
            scores = block @ items.T
            if mask is not None:
                scores[mask] = -torch.inf
            found.append(torch.topk(scores, shape.K).indices)
        return torch.cat(found)

    return run


def with_faiss(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None) -> Ids | None:
    """Return IndexFlatIP; it has no mask per user."""
    faiss: Any = importlib.import_module("faiss")
    if seen is not None:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(shape.D)
    index.add(items.numpy())
    return lambda: index.search(users.numpy(), shape.K)[1]


def with_implicit(shape: Shape, users: Tensor, items: Tensor, seen: Interactions | None) -> Ids:
    """Return implicit's CPU top-K, with its own filter of seen items."""
    import scipy.sparse

    topk: Any = importlib.import_module("implicit.cpu.topk").topk
    table, vectors, mask = items.numpy(), users.numpy(), None
    if seen is not None:
        indptr, indices = seen.to_torch()
        values = np.ones(len(indices), dtype=np.float32)
        mask = scipy.sparse.csr_matrix((values, indices.numpy(), indptr.numpy()), shape=(shape.B, shape.N))
    threads = torch.get_num_threads()
    return lambda: topk(table, vectors, shape.K, filter_query_items=mask, num_threads=threads)[0]


def check(name: str, found: Any, ours: ops.TopK, users: Tensor, items: Tensor) -> None:
    """Stop unless the ids are ours, or stand for scores that tie within float32 rounding."""
    ids = torch.as_tensor(np.asarray(found), dtype=torch.int64)
    different = (ids != ours.ids).nonzero()
    if len(different) == 0:
        return
    rows, places = different.T
    theirs = (users[rows].double() * items[ids[rows, places]].double()).sum(1)
    mine = ours.scores[rows, places].double()
    scale = users[rows].double().norm(dim=1) * items.double().norm(dim=1).max()
    if ((theirs - mine).abs() > 1e-5 * scale).any():
        raise SystemExit(f"{name} ranks other items than rank_topk: not timed")


def timed(work: dict[str, Ids], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds of each contender, taken in turns: what disturbs the machine disturbs all of them.

    Short work runs once untimed in its turn (caches and threads are another contender's), and more often.
    """
    first = {name: once(run) for name, run in work.items()}
    rounds = max(rounds, min(4 * rounds, int(1500 / max(first.values()))))
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            time.sleep(0.1)  # threads of the last one may still spin
            if first[name] < SHORT:
                run()
            times[name].append(once(run))
    return times


def once(work: Ids) -> float:
    """Return the milliseconds of one run."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def measure(shape: Shape, peers: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return a row per contender: median, best, 20th and 80th percentile of milliseconds."""
    users, items, seen = inputs(shape)
    ours = ops.rank_topk(users, items, shape.K, exclude=seen)
    work: dict[str, Ids | None] = {
        "sgemm": bare_product(shape, users, items),
        "fastkd": lambda: ops.rank_topk(users, items, shape.K, exclude=seen).ids,
    }
    if "torch" in peers:
        chunks = [c for c in (32, 64, 256, 1024) if c <= shape.B or c == 32]
        swept = {c: with_torch(shape, users, items, seen, min(c, shape.B)) for c in chunks if c * shape.N <= 1 << 28}
        best = min(swept, key=lambda c: min(once(swept[c]) for _ in range(2)))
        work[f"torch, chunk {min(best, shape.B)}"] = swept[best]
    if "faiss" in peers:
        work["faiss"] = with_faiss(shape, users, items, seen)
    if "implicit" in peers:
        work["implicit"] = with_implicit(shape, users, items, seen)
    able = {name: run for name, run in work.items() if run is not None}
    for name, run in able.items():
        if name != "sgemm":
            check(name, run(), ours, users, items)
    rows = []
    for name, times in timed(able, rounds).items():
        low, middle, high = np.percentile(times, [20, 50, 80])
        rows.append({"name": name, "ms": middle, "best": min(times), "p20": low, "p80": high, "rounds": len(times)})
    return rows


def predicted(shape: Shape) -> float:
    """Return milliseconds by the model of ``explain_rank_topk``."""
    return 1e3 * ops.explain_rank_topk(shape.B, shape.N, shape.D, shape.K, exclude=shape.seen).seconds


def compared(shape: Shape, rows: list[dict[str, Any]], guess: float) -> dict[str, Any]:
    """Return the shape's figures with ratios and the prediction beside them; printed too."""
    cost = {row["name"]: row["ms"] for row in rows}
    print(shape, flush=True)
    for row in rows:
        row["over_sgemm"], row["over_fastkd"] = row["ms"] / cost["sgemm"], row["ms"] / cost["fastkd"]
        print(
            f"  {row['name']:18s} {row['ms']:9.1f} ms ({row['p20']:.1f} - {row['p80']:.1f}, best {row['best']:.1f})"
            f"  {row['over_sgemm']:6.2f} x sgemm  {row['over_fastkd']:6.2f} x fastkd",
            flush=True,
        )
    print(f"  {'predicted':18s} {guess:9.1f} ms, {guess / cost['fastkd']:.2f} x measured", flush=True)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"shape": vars(shape), "date": when, "predicted_ms": guess, "rows": rows}


def write(path: Path, results: list[dict[str, Any]]) -> None:
    """Write the results; those that the file has of other shapes stay, if they come from surroundings like these."""
    here, shapes = surroundings(SEED), [result["shape"] for result in results]
    if path.exists():
        before = json.loads(path.read_text())
        if {key: before.get(key) for key in here} == here:
            results = [result for result in before["results"] if result["shape"] not in shapes] + results
    known = [vars(shape) for shape in (*SHAPES, *QUICK)]
    results.sort(key=lambda result: known.index(result["shape"]))
    path.write_text(json.dumps({**here, "results": results}, indent=1) + "\n")


def main() -> int:
    """Read the arguments, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--peers", default="torch", help="comma-separated: torch, faiss, implicit")
    parser.add_argument("--only", help="comma-separated positions of shapes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="where to write the figures")
    given = parser.parse_args()
    peers = given.peers.split(",")
    if set(peers) - PEERS:
        parser.error(f"peers are torch, faiss, implicit; got {given.peers}")
    shapes = QUICK if given.quick else SHAPES
    chosen = range(len(shapes)) if given.only is None else [int(i) for i in given.only.split(",")]
    results = []
    for shape in (shapes[i] for i in chosen):
        guess = predicted(shape)
        results.append(compared(shape, measure(shape, peers, given.rounds), guess))
    if given.out is not None:
        write(given.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
