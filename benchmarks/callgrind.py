"""Instructions per draw of each C++ sampler, counted by callgrind: figures that the machine's noise does not move.

    python benchmarks/callgrind.py            # count and compare with benchmarks/results/callgrind.json
    python benchmarks/callgrind.py --check    # and fail where a sampler needs over 3 % more than is recorded
    python benchmarks/callgrind.py --update   # and record

Needs a C++20 compiler and valgrind. Users have 100 of 100,000 items (``_all``: none) and take 64 draws each;
``shuffled`` is per entry of an order of 16,384, ``in_batch`` per row of a batch of 256. Counts belong to a compiler,
which is recorded; ``--check`` says so where it differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
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
ALLOWED_GROWTH = 0.03
FEW, MANY = 1, 5


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
    totals = [line for line in out.read_text().splitlines() if line.startswith(("summary:", "totals:"))]
    return int(totals[-1].split()[1]), int(done.stdout)


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


def main() -> int:
    """Count, print, and compare or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail on growth of over 3 %%")
    parser.add_argument("--update", action="store_true", help="record the counts")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing was counted", file=sys.stderr)
        return 2
    counts, compiler = measure()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"compiler": None, "instructions_per_draw": {}}
    known = record["instructions_per_draw"]
    grown = []
    print(f"{'sampler':<22}{'now':>10}{'recorded':>10}{'change':>9}")
    for sampler, now in counts.items():
        before = known.get(sampler)
        change = f"{now / before - 1:+.1%}" if before else "new"
        print(f"{sampler:<22}{now:>10.2f}{before if before else '-':>10}{change:>9}")
        if before and now > before * (1 + ALLOWED_GROWTH):
            grown.append(sampler)
    if record["compiler"] not in (None, compiler):
        print(f"recorded with {record['compiler']}, counted with {compiler}")
    if arguments.update:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps({"compiler": compiler, "instructions_per_draw": counts}, indent=2) + "\n")
    if arguments.check and not known:
        print(f"nothing is recorded in {RECORD}; run with --update", file=sys.stderr)
        return 2
    if grown and arguments.check:
        print(f"more than {ALLOWED_GROWTH:.0%} over the record: {', '.join(grown)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
