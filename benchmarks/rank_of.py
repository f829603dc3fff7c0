"""Exact ranks of given items against the published way, two argsorts of the score matrix, and against one sort.

    python benchmarks/rank_of.py                              1M items, D = 64, C = 1, 10, 100, 1000
    python benchmarks/rank_of.py --items 100000 --dim 32
    python benchmarks/rank_of.py --device cuda --users 1024

Per user, all in one run, after the ranks have been found equal (peers rank float32 scores of a matrix product, so ranks
may differ where scores are closer than it rounds; how many do is printed, and by how much at most). Peers score and
sort a few users at a time, which is all their memory allows. ``random``: items anywhere in the ranking; ``top``: the
items that a user scores highest.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fastkd import ops


def double_argsort(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """Return ranks as published code does."""
    order = torch.argsort(users @ items.T, dim=1, descending=True, stable=True)
    return 1 + torch.argsort(order, dim=1).gather(1, ids)


def one_sort(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """Return ranks (of the first of equal scores) by one sort and a search."""
    scores = users @ items.T
    ordered = torch.sort(-scores, dim=1).values
    return 1 + torch.searchsorted(ordered, -scores.gather(1, ids))


def seconds(call: Callable[[], Tensor], device: str, repeats: int) -> float:
    """Return the median time of a call."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def main() -> None:
    """Read the arguments, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--peer-users", type=int, default=4, help="users whom the peers rank at a time")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    random = torch.Generator().manual_seed(0)
    users = torch.randn(given.users, given.dim, generator=random).to(given.device)
    items = torch.randn(given.items, given.dim, generator=random).to(given.device)
    few = users[: given.peer_users]
    print(f"{given.users} users x {given.items} items x {given.dim}, {given.device}, {torch.get_num_threads()} threads")
    best = ops.rank_topk(users, items, min(1000, given.items)).ids
    peers: dict[Callable[..., Tensor], float] = {}
    for kind in ("random", "top"):
        for columns in (1, 10, 100, 1000):
            ids = best[:, :columns]
            if kind == "random":
                ids = torch.randint(0, given.items, (given.users, columns), generator=random).to(given.device)
            ours, theirs = ops.rank_of(few, items, ids[: len(few)]), double_argsort(few, items, ids[: len(few)])
            apart = (ours - theirs).abs()
            assert int(apart.max()) <= 2 + given.items // 100_000, "the ranks disagree by more than rounding explains"
            ops.rank_of(users, items, ids)
            call = functools.partial(ops.rank_of, users, items, ids)
            ms = 1e3 * seconds(call, given.device, given.repeats) / len(users)
            for peer in (double_argsort, one_sort) if not peers else ():
                call = functools.partial(peer, few, items, ids[: len(few)])
                peers[peer] = 1e3 * seconds(call, given.device, 2) / len(few)
            print(
                f"{kind:6} C={columns:<5} {ms:8.3f} ms/user   argsort of argsort {peers[double_argsort]:8.1f}"
                f" ({peers[double_argsort] / ms:5.1f}x)"
                f"   one sort {peers[one_sort]:7.1f} ({peers[one_sort] / ms:5.1f}x)"
                f"   differ {int((apart > 0).sum())} of {apart.numel()}, by {int(apart.max())} at most"
            )


if __name__ == "__main__":
    main()
