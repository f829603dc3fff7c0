"""What one call costs beside its work: a forward pass that records a gradient, on the CPU, at sizes of nothing.

    python benchmarks/call_overhead.py [--rounds 9] [--calls 1000] [--json FILE]

4 users, 5 to 6 ids, 8 dimensions, 50 items, random normal; ``backend="numba"``, all else at its default (ids and values
checked). Best of the rounds: a call cannot be quicker than it is, only disturbed. ``launcher`` is the kernel's launcher
alone (arrays made, kernel started and run); the rest is checks, dispatch, autograd and the look for NaN. The goal is 25
microseconds.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastkd import ops
from fastkd.ops._dispatch import kernel

Calls = dict[str, tuple[Callable[[], Any], Callable[[], Any]]]


def cases() -> Calls:
    """Return (call of the op, call of its launcher) by name."""
    random = torch.Generator().manual_seed(0)
    users, items, scores = (torch.randn(*s, generator=random).requires_grad_() for s in ((4, 8), (50, 8), (4, 5)))
    first, floats = torch.randn(4, generator=random).requires_grad_(), torch.rand(4, 5, generator=random)
    ids, more = torch.randint(50, (4, 5), generator=random), torch.randint(50, (4, 6), generator=random)
    one, native = ids[:, 0].clone(), {"backend": "numba"}
    column = one.unsqueeze(1)

    def launcher(name: str) -> Callable[..., Any]:
        run: Callable[..., Any] = getattr(kernel(name, "numba"), name)
        return run

    listed = {"validate": True, "need_users": True, "need_items": True}
    scored = {"gradient": True}
    ways: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[Any, ...], dict[str, Any]]] = {
        # op: arguments, options, arguments of the launcher, its options
        "relaxed_ranking": ((scores, scores), {}, (scores, scores, None), scored),
        "listnet": ((scores, floats), {}, (scores, floats, 1.0), scored),
        "weighted_bce": ((scores, floats), {}, (scores, floats, None), scored),
        "soft_bce": ((scores, floats), {}, (scores, floats, None, 1.0, 0.0), scored),
        "pairwise": ((first, scores), {}, (first, scores, None, "bpr", 1.0), scored),
        "lambda_pairs": ((scores,), {}, (scores, None, None, "lambdarank", 1.0), scored),
        "gather_dot": ((users, items, ids), {}, (users, items, ids), {"validate": True}),
        "relaxed_ranking_from_embeddings": ((users, items, ids, more), {}, (users, items, ids, more, None), listed),
        "listnet_from_embeddings": ((users, items, ids, floats), {}, (users, items, ids, floats, 1.0), listed),
        "weighted_bce_from_embeddings": ((users, items, ids, floats), {}, (users, items, ids, floats, None), listed),
        "soft_bce_from_embeddings": (
            (users, items, ids, floats), {}, (users, items, ids, floats, None, 1.0, 0.0), listed,
        ),
        "pairwise_from_embeddings": (
            (users, items, one, more), {}, (users, items, column, more, None, "bpr", 1.0), listed,
        ),
        "lambda_pairs_from_embeddings": (
            (users, items, ids), {}, (users, items, ids, None, None, "lambdarank", 1.0), listed,
        ),
    }  # fmt: skip
    return {
        name: (
            functools.partial(getattr(ops, name), *given, **options, **native),
            functools.partial(launcher(name), *below, **flags),
        )
        for name, (given, options, below, flags) in ways.items()
    }


def microseconds(call: Callable[[], Any], calls: int, rounds: int) -> float:
    """Return what one of ``calls`` calls in a row takes, best of the rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, time.perf_counter() - start)
    return round(1e6 * best / calls, 1)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, (call, below) in cases().items():
        for warm in (call, below):
            microseconds(warm, 20, 1)
        found[name] = {
            "call_us": microseconds(call, given.calls, given.rounds),
            "launcher_us": microseconds(below, given.calls, given.rounds),
        }
        print(f"{name:34} call {found[name]['call_us']:6.1f} us   launcher {found[name]['launcher_us']:6.1f} us")
    if given.json:
        about = {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "torch": torch.__version__}
        given.json.write_text(json.dumps({"about": about, "goal_us": 25, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
