"""Exact ranks of given items against the published way, two argsorts of the score matrix, and against one sort.

    python -m benchmarks.rank_of                              1M items, D = 64, C = 1, 10, 100, 1000
    python -m benchmarks.rank_of --items 100000 --models trained-like
    python -m benchmarks.rank_of --device cuda --users 1024

Milliseconds per user, in turns in one process, after the ranks have been found equal. (Peers rank float32 scores of a
matrix product, so ranks may differ where scores are closer than it rounds: how many do is kept, and by how much at
most.) Peers score and sort a few users at a time, which is all that memory allows. ``random`` items lie anywhere in the
ranking, ``top`` are those that a user scores highest. Writes results/rank_of.json.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks._ranks import MODELS, in_turns, write
from fastkd import ops
from fastkd.core.capability import cpu_count


def double_argsort(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """Return ranks as published code does."""
    order = torch.argsort(users @ items.T, dim=1, descending=True, stable=True)
    return 1 + torch.argsort(order, dim=1).gather(1, ids)


def one_sort(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """Return ranks (of the first of equal scores) by one sort and a search."""
    scores = users @ items.T
    ordered = torch.sort(-scores, dim=1).values
    return 1 + torch.searchsorted(ordered, -scores.gather(1, ids))


def measure(
    users: Tensor, items: Tensor, ids: Tensor, peer_users: int, rounds: int, device: str
) -> dict[str, float | int]:
    """Return milliseconds per user of ours and of the peers, and how their ranks differ."""
    few, some = users[:peer_users], ids[:peer_users]
    apart = (ops.rank_of(few, items, some) - double_argsort(few, items, some)).abs()
    assert int(apart.max()) <= 2 + len(items) // 100_000, "the ranks disagree by more than rounding explains"
    calls: dict[str, Callable[[], Tensor]] = {
        "fastkd": functools.partial(ops.rank_of, users, items, ids),
        "argsort of argsort": functools.partial(double_argsort, few, items, some),
        "one sort": functools.partial(one_sort, few, items, some),
    }
    spent = in_turns(calls, rounds, device)
    return {
        **{name: 1e3 * s / (len(users) if name == "fastkd" else len(few)) for name, s in spent.items()},
        "compared": apart.numel(),
        "differ": int((apart > 0).sum()),
        "differ by": int(apart.max()),
    }


def main() -> None:
    """Read the arguments, compare, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--peer-users", type=int, default=2, help="users whom the peers rank at a time")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--columns", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--models", choices=list(MODELS), nargs="*", default=list(MODELS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(cpu_count())
    random, cases = torch.Generator().manual_seed(1), []
    for model in given.models:
        ((users, items),) = MODELS[model](given.users, given.items, (given.dim,))
        users, items = users.to(given.device), items.to(given.device)
        best = ops.rank_topk(users, items, min(max(given.columns), given.items)).ids
        for kind in ("random", "top"):
            for columns in given.columns:
                ids = best[:, :columns]
                if kind == "random":
                    ids = torch.randint(0, given.items, (given.users, columns), generator=random).to(given.device)
                found = measure(users, items, ids, given.peer_users, given.rounds, given.device)
                shape = {"B": given.users, "N": given.items, "D": given.dim, "C": columns}
                cases.append({"model": model, "items": kind, **shape, "ms per user": found})
                ratios = ", ".join(
                    f"{n} {found[n]:.1f} ({found[n] / found['fastkd']:.1f}x)"
                    for n in ("argsort of argsort", "one sort")
                )
                print(
                    f"{model:12} {kind:6} C={columns:<5} {found['fastkd']:8.3f} ms/user   {ratios}"
                    f"   differ {found['differ']} of {found['compared']}, by {found['differ by']} at most"
                )
    write("rank_of", " ".join(["python -m benchmarks.rank_of", *sys.argv[1:]]), cases, given.device)


if __name__ == "__main__":
    main()
