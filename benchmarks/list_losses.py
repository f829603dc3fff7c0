"""The other losses of lists from embeddings on the CPU: forward and backward, beside torch eager and torch.compile.

    python benchmarks/list_losses.py [--loss NAME]... [--shape B N D C] [--threads 1] [--rounds 5] [--json FILE]

The same random normal tensors for all, in turns, in one process; values are compared before they are timed; median of
the rounds. The floor is that of ``listwise.py``: the traffic that cannot be left out, at a copy's bandwidth measured
in the same run. Rows of a JSON file that other losses left there stay. ``lambda_pairs`` is given a fifth of the list,
for its work grows with the square.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.listwise import bandwidth, seconds
from fastkd import ops


def listnet(s: Tensor, t: Tensor) -> Tensor:
    """Return ListNet's loss as one writes it in torch."""
    return -(t.softmax(1) * s.log_softmax(1)).sum()


def weighted_bce(s: Tensor, t: Tensor) -> Tensor:
    """Return binary cross entropy with soft targets as one writes it in torch."""
    return functional.binary_cross_entropy_with_logits(s, t, reduction="sum")


def soft_bce(s: Tensor, t: Tensor) -> Tensor:
    """Return the same with a teacher's logits."""
    return functional.binary_cross_entropy_with_logits(s, t.sigmoid(), reduction="sum")


def pairwise(s: Tensor, t: Tensor) -> Tensor:
    """Return BPR, one positive against all others of its row."""
    return -functional.logsigmoid(s[:, :1] - s[:, 1:]).mean(1).sum()


def lambda_pairs(s: Tensor, t: Tensor) -> Tensor:
    """Return LambdaRank's pairs, gains of the place, as one writes it in torch."""
    place = torch.arange(s.shape[1])
    gains = 1 / (2.0 + place).log2()
    gains = gains / (gains / (2.0 + place).log2()).sum()
    rank = s.detach().argsort(1, descending=True).argsort(1)
    discount = 1 / (2.0 + rank).log2()
    weight = (gains[:, None] - gains[None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()
    return -(weight * functional.logsigmoid(s[:, :, None] - s[:, None, :])).triu(1).sum()


PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    f.__name__: f for f in (listnet, weighted_bce, soft_bce, pairwise, lambda_pairs)
}


def native(name: str, users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor) -> Tensor:
    """Return the same loss by this library."""
    call = getattr(ops, f"{name}_from_embeddings")
    if name == "pairwise":
        loss: Tensor = call(users, items, ids[:, 0], ids[:, 1:])
    elif name == "lambda_pairs":
        loss = call(users, items, ids)
    else:
        loss = call(users, items, ids, teacher)
    return loss.sum()


def measure(name: str, shape: list[int], rounds: int, speed: float) -> dict[str, Any]:
    """Return milliseconds of each peer, and of the floor at ``speed`` bytes a second."""
    rows, count, dim, width = shape
    width = width // 5 if name == "lambda_pairs" else width
    random = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, dim, generator=random).requires_grad_() for n in (rows, count))
    ids, teacher = torch.randint(count, (rows, width), generator=random), torch.randn(rows, width, generator=random)
    teacher = teacher.sigmoid() if name == "weighted_bce" else teacher
    users.data /= dim**0.5

    def plain(u: Tensor, v: Tensor, listed: Tensor, t: Tensor) -> Tensor:
        return PLAIN[name](torch.einsum("bd,bcd->bc", u, functional.embedding(listed, v)), t)

    inductor = torch.compile(plain, fullgraph=True)
    peers: dict[str, Callable[[], Tensor]] = {
        "fastkd": lambda: native(name, users, items, ids, teacher),
        "torch": lambda: plain(users, items, ids, teacher),
        "torch.compile": lambda: inductor(users, items, ids, teacher),
    }
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    truth = float(peers["torch"]().detach())
    for turn in range(rounds + 1):
        for peer, call in peers.items():
            users.grad = items.grad = None
            if not turn and abs(float(call().detach()) - truth) > 1e-4 * abs(truth):
                raise AssertionError(f"{peer} finds another {name}")
            spent = seconds(lambda call=call: call().backward())  # type: ignore[misc]
            if turn:
                times[peer].append(1e3 * spent)
    ms = {peer: round(statistics.median(spent), 3) for peer, spent in times.items()}
    faster = {peer: round(ms[peer] / ms["fastkd"], 2) for peer in peers if peer != "fastkd"}
    floor = 1e3 * (3 * rows * width * dim * 4 + count * dim * 4 + rows * dim * 8 + 2 * ids.numel() * 4) / speed
    return {
        "shape": dict(zip("BNDC", (rows, count, dim, width), strict=True)),
        "ms": ms,
        "times_faster_than": faster,
        "floor_ms": round(floor, 3),
        "times_floor": {peer: round(spent / floor, 2) for peer, spent in ms.items()},
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", action="append", choices=list(PLAIN))
    parser.add_argument("--shape", type=int, nargs=4, default=[1500, 25_181, 64, 80], metavar=("B", "N", "D", "C"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    old = json.loads(given.json.read_text())["rows"] if given.json and given.json.exists() else {}
    speed = bandwidth()
    for name in given.loss or PLAIN:
        old[name] = measure(name, given.shape, given.rounds, speed)
        print(name, *(f"{k}={v}" for k, v in old[name].items()), sep="  ")
    if given.json:
        about = {"torch": torch.__version__, "threads": given.threads, "GB_per_s": round(speed / 1e9, 2)}
        report = {**about, "rows": old}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
