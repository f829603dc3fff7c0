"""Instructions of the C++ samplers and of numba's hot loops, by callgrind: figures that noise does not move.

    python benchmarks/callgrind.py            # count and compare with benchmarks/results/callgrind.json
    python benchmarks/callgrind.py --check    # and fail where a sampler needs over 3 % more than is recorded
    python benchmarks/callgrind.py --update   # and record
    python benchmarks/callgrind.py --only numba [--update]   # one kind alone: samplers, numba

Needs a C++20 compiler and valgrind. Users have 100 of 100,000 items (``_all``: none) and take 64 draws each;
``shuffled`` is per entry of an order of 16,384, ``in_batch`` per row of a batch of 256. ``numba/...``: per number
that a loop of ``callgrind_numba.py`` goes through, loss and gradient where there is one, compiled for Haswell on every
machine (valgrind knows no AVX-512). Counts belong to compilers, which are recorded; it is said where they differ.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "results" / "callgrind.json"
SAMPLERS = (
    "uniform",
    "uniform_all",
    "without_replacement",
    "popularity",
    "popularity_all",
    "mixed",
    "stratified",
    "hard",
    "in_batch",
    "shuffled",
)
LOOPS = ("relaxed_ranking", "listnet", "rank_topk_filter", "select")
HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
ALLOWED_GROWTH = 0.03
FEW, MANY = 1, 5
REPEATS = 1000
"""Of a numba loop: starting Python takes 2.6 thousand million instructions, give or take a million."""


def build(folder: Path) -> tuple[Path, str]:
    """Compile the core and the driver as the package is compiled; return the program and the compiler's name."""
    compiler = os.environ.get("CXX", "c++")
    program = folder / "callgrind_driver"
    sources = [*sorted((ROOT / "csrc" / "samplers").glob("*.cpp")), ROOT / "benchmarks" / "callgrind_driver.cpp"]

    def compile_one(source: Path) -> str:
        target = str(folder / f"{source.stem}.o")
        flags = ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", f"-I{ROOT / 'csrc'}"]
        subprocess.run([compiler, *flags, "-c", str(source), "-o", target], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    subprocess.run([compiler, *objects, "-pthread", "-o", str(program)], check=True)
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    return program, version.splitlines()[0]


def instructions(program: Path, sampler: str, repeats: int, folder: Path) -> tuple[int, int]:
    """Return the instructions of a whole run, and the draws of one repeat."""
    out = folder / f"{sampler}-{repeats}.out"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program), sampler, str(repeats)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return total(out), int(done.stdout)


def measure_numba() -> tuple[dict[str, float], str]:
    """Return the instructions per number of each loop, and the compiler; compiled outside valgrind, run inside."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, **HASWELL, "NUMBA_CACHE_DIR": name, "PYTHONPATH": str(ROOT)}

        def once(loop: str, repeats: int, *tool: str) -> str:
            command = [*tool, sys.executable, str(ROOT / "benchmarks" / "callgrind_numba.py"), loop, str(repeats)]
            return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

        def per_number(loop: str) -> float:
            numbers, counted = int(once(loop, 1)), []
            for repeats in (FEW, REPEATS):
                out = folder / f"{loop}-{repeats}.out"
                once(loop, repeats, "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
                counted.append(total(out))
            return round((counted[1] - counted[0]) / ((REPEATS - FEW) * numbers), 2)

        found = {f"numba/{loop}": per_number(loop) for loop in LOOPS}
    return found, f"numba {importlib.metadata.version('numba')}, llvmlite {importlib.metadata.version('llvmlite')}"


def total(out: Path) -> int:
    """Return the instructions in callgrind's file."""
    totals = [line for line in out.read_text().splitlines() if line.startswith(("summary:", "totals:"))]
    return int(totals[-1].split()[1])


def measure() -> tuple[dict[str, float], str]:
    """Return the instructions per draw of each sampler, and the compiler."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, compiler = build(folder)

        def per_draw(sampler: str) -> float:
            few, draws = instructions(program, sampler, FEW, folder)
            many, _ = instructions(program, sampler, MANY, folder)
            return round((many - few) / ((MANY - FEW) * draws), 2)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return dict(zip(SAMPLERS, pool.map(per_draw, SAMPLERS), strict=True)), compiler


KINDS: dict[str, tuple[str, str, Callable[[], tuple[dict[str, float], str]]]] = {
    "samplers": ("compiler", "instructions_per_draw", measure),
    "numba": ("numba_compiler", "instructions_per_number", measure_numba),
}


def main() -> int:
    """Count, print, and compare or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail on growth of over 3 %%")
    parser.add_argument("--update", action="store_true", help="record the counts")
    parser.add_argument("--only", choices=("samplers", "numba"), help="one kind alone")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing was counted", file=sys.stderr)
        return 2
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    counts: dict[str, float] = {}
    known: dict[str, float] = {}
    for kind, (compiler, figures, work) in KINDS.items():
        if arguments.only not in (None, kind):
            continue
        found, by = work()
        counts |= found
        known |= record.get(figures, {})
        if record.get(compiler) not in (None, by):
            print(f"recorded with {record[compiler]}, counted with {by}")
        if arguments.update:
            record |= {compiler: by, figures: found}
    grown = []
    print(f"{'sampler':<22}{'now':>10}{'recorded':>10}{'change':>9}")
    for sampler, now in counts.items():
        before = known.get(sampler)
        change = f"{now / before - 1:+.1%}" if before else "new"
        print(f"{sampler:<22}{now:>10.2f}{before if before else '-':>10}{change:>9}")
        if before and now > before * (1 + ALLOWED_GROWTH):
            grown.append(sampler)
    if arguments.update:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    if arguments.check and not known:
        print(f"nothing is recorded in {RECORD}; run with --update", file=sys.stderr)
        return 2
    if grown and arguments.check:
        print(f"more than {ALLOWED_GROWTH:.0%} over the record: {', '.join(grown)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
