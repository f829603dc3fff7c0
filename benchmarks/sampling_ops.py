"""Rank-discrepancy and softmax draws against the published dense forms, in one run.

    python -m benchmarks.sampling_ops                      # N = 100k and 1M, 32 users (peers: 2 at a time)
    python -m benchmarks.sampling_ops --items 100000 --models trained-like
    python -m benchmarks.sampling_ops --data citeulike.inter.parquet   # one refresh of BD on real interactions

Published form of rank discrepancy: both score rows, two argsorts each, weights, ``torch.multinomial``. It has another
random stream, so ids cannot be equal. Before anything is timed, ours are compared id by id with the reference (at 2,000
items; softmax at all) and counted by tenths of the dense weights in ascending order, which must be even (chi-square,
p > 1e-4, kept as ``agree``). Milliseconds per user, in turns, median of the rounds. Writes results/sampling_ops.json.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from scipy import stats
from torch import Tensor

from benchmarks._ranks import MODELS, Model, in_turns, write
from fastkd import ops
from fastkd.core.capability import cpu_count
from fastkd.core.interactions import Interactions
from fastkd.data import DataConfig, load_dataset

Direction = Literal["teacher_to_student", "student_to_teacher"]

DIMS, DRAWS = (64, 16), 10
EPSILONS: tuple[tuple[Direction, float], ...] = (("teacher_to_student", 252.0), ("student_to_teacher", 2.5))
"""Published epsilon times N."""


def dense_weights(teacher: Model, student: Model, direction: Direction, epsilon: float) -> Tensor:
    """Return Float64[B, N] weights from two argsorts per model, as the authors' notebooks make ranks."""
    ranks = []
    for users, items in (teacher, student):
        order = (users @ items.t()).argsort(dim=1, descending=True)
        ranks.append(order.argsort(dim=1))
    gap = (ranks[1] - ranks[0]).double()
    return torch.tanh((gap * epsilon).clamp(min=0)) if direction == "teacher_to_student" else torch.exp(-gap * epsilon)


def published(teacher: Model, student: Model, direction: Direction, epsilon: float) -> Tensor:
    """Return draws by torch.multinomial over dense weights."""
    return torch.multinomial(dense_weights(teacher, student, direction, epsilon).float(), DRAWS, replacement=True)


def dense_softmax(users: Tensor, items: Tensor) -> Tensor:
    """Return draws without replacement by torch.multinomial over the dense softmax."""
    return torch.multinomial(torch.softmax(users @ items.t(), dim=1), DRAWS)


def evenness(drawn: Tensor, weights: Tensor) -> float:
    """Return the p of a chi-square test that draws Int64[n] follow Float64[N], by tenths of the running weight."""
    order = weights.argsort()
    middle = weights[order].cumsum(0) - weights[order] / 2
    tenth = torch.empty_like(order).scatter_(0, order, (10 * middle / weights.sum()).long().clamp(max=9))
    expected = torch.zeros(10, dtype=torch.float64).scatter_add_(0, tenth, weights / weights.sum()) * len(drawn)
    counts = torch.bincount(tenth[drawn], minlength=10).double()
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


def first(model: Model, users: int, items: int | None = None) -> Model:
    """Return a model of its first users and items."""
    return model[0][:users], model[1][:items]


def check(teacher: Model, student: Model, direction: Direction, c: float) -> float:
    """Compare draws with the reference and with the formula; return the p."""
    small = first(teacher, 4, 2000), first(student, 4, 2000)
    options: dict[str, Any] = {"direction": direction, "seed": 3, "epoch": 0}
    few = {**options, "epsilon": c / 2000, "exclude": Interactions.empty(4, 2000)}
    native = ops.sample_rank_discrepancy(*small, DRAWS, **few)
    assert torch.equal(native, ops.sample_rank_discrepancy(*small, DRAWS, backend="reference", **few))
    num_items = len(teacher[1])
    one, other = first(teacher, 1), first(student, 1)
    drawn = ops.sample_rank_discrepancy(
        one, other, 2000, epsilon=c / num_items, exclude=Interactions.empty(1, num_items), **options
    )
    p = evenness(drawn[0], dense_weights(one, other, direction, c / num_items)[0])
    assert p > 1e-4, f"{direction}: draws do not follow the formula, p = {p:.2g}"
    return p


def compare(name: str, case: dict[str, Any], ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int,
            users: int, peer_users: int) -> dict[str, Any]:  # fmt: skip
    """Time both in turns; print and return a case with milliseconds per user."""
    spent = in_turns({"fastkd": ours, "dense": theirs}, rounds)
    ms = {"fastkd": 1e3 * spent["fastkd"] / users, "dense": 1e3 * spent["dense"] / peer_users}
    ratio = ms["dense"] / ms["fastkd"]
    print(f"{case['model']:12} N={case['N']} {name}: {ms['fastkd']:.1f} ms/user, dense {ms['dense']:.1f}, {ratio:.1f}x")
    return {"draws": name, **case, "ms per user": ms, "ratio": round(ratio, 2)}


def measure(model: str, num_items: int, users: int, peer_users: int, rounds: int) -> list[dict[str, Any]]:
    """Compare and time one catalogue."""
    teacher, student = MODELS[model](users, num_items, DIMS)
    few = first(teacher, peer_users), first(student, peer_users)
    case = {"model": model, "B": users, "N": num_items, "D": DIMS, "n": DRAWS}
    cases = []
    for direction, c in EPSILONS:
        p = check(teacher, student, direction, c)
        chosen: dict[str, Any] = {"direction": direction, "epsilon": c / num_items}
        options: dict[str, Any] = {"exclude": Interactions.empty(users, num_items), "seed": 0, "epoch": 0, **chosen}
        ours = functools.partial(ops.sample_rank_discrepancy, teacher, student, DRAWS, **options)
        theirs = functools.partial(published, *few, **chosen)
        cases.append(compare(direction, {**case, "agree": p}, ours, theirs, rounds, users, peer_users))
    softmax = functools.partial(ops.sample_softmax, n=DRAWS, temperature=1.0, seed=0, epoch=0)
    some = first(teacher, 4)
    assert torch.equal(softmax(*some), softmax(*some, backend="reference"))
    ours, theirs = functools.partial(softmax, *teacher), functools.partial(dense_softmax, *few[0])
    return [*cases, compare("softmax, distinct", case, ours, theirs, rounds, users, peer_users)]


def refresh(path: Path, dims: tuple[int, int]) -> list[dict[str, Any]]:
    """Time both directions of one refresh of BD (10 epochs, one draw per interaction) on real interactions."""
    seen = load_dataset(DataConfig(path=path, split="column", split_column="split", keep_ids=True)).train
    counts = torch.from_numpy(seen.degrees() * 10)
    cases = []
    for model in MODELS:
        teacher, student = MODELS[model](seen.num_users, seen.num_items, dims)
        for direction, c in EPSILONS:
            options: dict[str, Any] = {
                "direction": direction, "epsilon": c / seen.num_items, "exclude": seen, "seed": 0, "epoch": 0,
            }  # fmt: skip
            ops.sample_rank_discrepancy(teacher, student, 1, users=torch.arange(16), **options)
            start = time.perf_counter()
            ops.sample_rank_discrepancy(teacher, student, counts, **options)
            seconds = time.perf_counter() - start
            draws = round(int(counts.sum()) / seen.num_users)
            told = ops.explain_sample_rank_discrepancy(
                seen.num_users, seen.num_items, *dims, draws, direction=direction, epsilon=c / seen.num_items
            ).seconds
            print(f"refresh {model:12} {direction}: {seconds:.1f} s ({told:.1f} predicted), {int(counts.sum())} draws")
            shape = {"U": seen.num_users, "N": seen.num_items, "D": dims, "draws": int(counts.sum())}
            cases.append({"refresh": direction, "model": model, **shape, "seconds": seconds, "predicted": told})
    return cases


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--models", choices=list(MODELS), nargs="*", default=list(MODELS))
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--peer-users", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--data", type=Path, help="parquet with user, item, split: one refresh of BD on its training part"
    )
    parser.add_argument("--dims", type=int, nargs=2, default=[400, 20], help="teacher's and student's, with --data")
    given = parser.parse_args()
    torch.set_num_threads(cpu_count())
    if given.data:
        cases = refresh(given.data, tuple(given.dims))
    else:
        cases = [
            case
            for model in given.models
            for num_items in given.items
            for case in measure(model, num_items, given.users, given.peer_users, given.rounds)
        ]
    write("sampling_ops", " ".join(["python -m benchmarks.sampling_ops", *sys.argv[1:]]), cases)


if __name__ == "__main__":
    main()
