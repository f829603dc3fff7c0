"""The registry's first CUDA points without the program's own dependencies: torch, triton and numpy are enough.

    python benchmarks/gpu_bench.py --out DIR [--seconds 110] [--against torch,cce,...] [CASE]...
    python benchmarks/gpu_bench.py --check      every case at its small odd point against its reference, nothing timed

What ``fastkd bench --device cuda --quick`` does, for a bare machine (``gpu_check.sh``) where neither typer nor rich may
be installed. Starts no case after ``--seconds``; rows are appended case by case: a run that is stopped leaves figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from fastkd.bench import CASES, Settings, case_named, chosen, gate, measure, run_case
from fastkd.bench.record import append, completed
from fastkd.bench.where import surroundings

SLOW = ("compile",)
"""Peers whose first call compiles for tens of seconds."""


def check(names: Sequence[str]) -> int:
    """Compare cases (all, if none is named) with their references on the device; one that breaks hides no other."""
    wrong, taken = 0, 0
    for case in [case_named(name) for name in names] or CASES.values():
        if case.check is None or case.name.startswith("negatives"):
            continue
        began = time.monotonic()
        try:
            found = gate.numeric(case, "cuda")
        except Exception as error:
            found = f"{case.name} failed: {type(error).__name__}: {error}"
        taken, wrong = taken + 1, wrong + (found is not None)
        print(found or f"{case.name} agrees, {time.monotonic() - began:.1f} s", flush=True)
    print(f"{taken - wrong} of {taken} cases agree with their references")
    return 1 if wrong else 0


def main() -> int:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--out", type=Path, default=Path("gpu-bench"))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seconds", type=float, default=110.0)
    parser.add_argument("--against", default="torch,compile,cce,liger,cuvs,implicit,flashlib,product,graph")
    parser.add_argument("--whole", action="store_true", help="all CUDA points, not the first ones")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch sees no CUDA device")
        return 77
    if given.check:
        return check(given.cases)
    torch.backends.cuda.matmul.allow_tf32 = False
    began, failed = time.monotonic(), 0
    about, roof = surroundings("cuda"), measure("cuda", seconds=1.0)
    peers = tuple(given.against.split(","))
    cases = [case_named(name) for name in given.cases] or list(CASES.values())
    # A second round for what takes minutes to compile: no case waits for it.
    rounds = [(case, tuple(name for name in peers if name not in SLOW)) for case in cases]
    rounds += [(case, tuple(name for name in peers if name in SLOW)) for case in cases if case.leaves]
    for case, against in rounds:
        points = chosen(case, "cuda", quick=not given.whole, sweep=False, slow=False)
        if not against or not points:
            continue
        if time.monotonic() - began > given.seconds:
            print(f"{case.name} against {','.join(against)} left out: {given.seconds:g} s are over", flush=True)
            continue
        settings = Settings(device="cuda", against=against, seconds=1.0, quick=True)
        try:
            for row in run_case(case, points, settings, roof, tests=False):
                append(given.out, [completed(row, about, roof)])
                told = f"{row['p50_ms']:.4g} ms" if "p50_ms" in row else f"skipped: {row['skipped']}"
                print(case.name, row.get("point", ""), row.get("pass", ""), row["contender"], told, flush=True)
        except Exception as error:  # the other cases are still worth having
            failed += 1
            print(f"{case.name} failed: {type(error).__name__}: {error}", flush=True)
        torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
