"""Rank-discrepancy, softmax and rank-decay draws against the published dense forms, in one run.

    python benchmarks/sampling_ops.py                      # N = 100k and 1M, 8 users, 2 threads
    python benchmarks/sampling_ops.py --items 100000 --users 16

Published form of rank discrepancy: both score rows, two argsorts each, weights, ``torch.multinomial``. It draws
from the same distribution: the op's test compares draws with the formula by chi-square.
Prints seconds (median of the repeats)
and ratios; inputs are random normal.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from fastkd import ops
from fastkd.core.capability import cpu_count
from fastkd.core.interactions import Interactions

TEACHER_DIM, STUDENT_DIM, DRAWS = 64, 16, 10


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds after one call that compiles."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def published(teacher: Any, student: Any, direction: str, epsilon: float) -> torch.Tensor:
    """Return draws by two argsorts per model and torch.multinomial, as the authors' notebooks make them."""
    ranks = []
    for users, items in (teacher, student):
        order = (users @ items.t()).argsort(dim=1, descending=True)
        ranks.append(order.argsort(dim=1))
    gap = (ranks[1] - ranks[0]).double()
    if direction == "teacher_to_student":
        weights = torch.tanh((gap * epsilon).clamp(min=0))
    else:
        weights = torch.exp(-gap * epsilon)
    return torch.multinomial(weights.float(), DRAWS, replacement=True)


def dense_softmax(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Return draws without replacement by torch.multinomial over the dense softmax."""
    return torch.multinomial(torch.softmax(users @ items.t(), dim=1), DRAWS)


def measure(num_items: int, users: int, repeats: int) -> None:
    """Measure one catalogue size and print."""
    random = torch.Generator().manual_seed(0)

    def model(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (torch.randn(rows, dim, generator=random) / dim**0.5 for rows in (users, num_items))
        return first, second

    teacher, student = model(TEACHER_DIM), model(STUDENT_DIM)
    options: dict[str, Any] = {"exclude": Interactions.empty(users, num_items), "seed": 0, "epoch": 0}

    def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        fast, slow = timed(ours, repeats), timed(theirs, 1)
        print(f"N={num_items} {name}: {fast:.3f} s, dense form {slow:.3f} s, {slow / fast:.1f} x")

    for direction, c in (("teacher_to_student", 252.0), ("student_to_teacher", 2.5)):
        chosen: dict[str, Any] = {"direction": direction, "epsilon": c / num_items}
        compare(
            direction,
            functools.partial(ops.sample_rank_discrepancy, teacher, student, DRAWS, **chosen, **options),
            functools.partial(published, teacher, student, **chosen),
        )
    compare(
        "softmax without replacement",
        lambda: ops.sample_softmax(teacher[0], teacher[1], DRAWS, temperature=1.0, seed=0, epoch=0),
        lambda: dense_softmax(teacher[0], teacher[1]),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(cpu_count())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.users} users, {DRAWS} draws")
    for num_items in arguments.items:
        measure(num_items, arguments.users, arguments.repeats)


if __name__ == "__main__":
    main()
