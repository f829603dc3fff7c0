"""Compile every Triton kernel for real GPUs on a machine without one, and compare what comes out with the budget.

    python benchmarks/compile_report.py                     table of all configurations, all targets
    python benchmarks/compile_report.py --check             fail on a spill, lost wgmma, growth past compile_budget.json
    python benchmarks/compile_report.py --no-budget         fail on an error, a spill of some size, lost wgmma
    python benchmarks/compile_report.py --update            write compile_budget.json
    python benchmarks/compile_report.py rank_topk --target 90

Counts are of machine code (cuobjdump -sass). ``loop`` is the innermost loop with tensor-core instructions, else the
longest loop; instructions per score = loop instructions x threads / scores of one trip. Both sides of a branch count.
``spill`` counts instructions that touch local memory (STL, LDL); none may be in a default configuration. The budget's
``spills`` is the stack in bytes, which ptxas may reserve without one such instruction. It holds for the version of
triton that made it; ``--no-budget`` (``make older-triton``) asks of another version what any version must give.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # interpreted functions cannot be compiled

ROOM = Path(__file__).parents[1] / "fastkd" / "kernels" / "triton"
BUDGET = Path(__file__).with_name("compile_budget.json")
TARGETS = (80, 90, 100)
SLACK = 1.05
"""How much more registers or instructions than the budget's are no regression."""
PARKED = 8
"""Local memory instructions that ``--no-budget`` lets pass: where 255 registers are far off, ptxas parks up to four
values around a loop to fit one more block on a multiprocessor, and which kernel that meets changes with the version."""

_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?);")
_BRANCH = re.compile(r"\bBRA\S*\s+(?:.*,\s*)?0x([0-9a-f]+)")
_PREDICATE = re.compile(r"^@!?U?P(?:\d+|T)\s+")

Row = dict[str, Any]


def modules() -> list[str]:
    """Return the kernel modules that list configurations."""
    return sorted(p.stem for p in ROOM.glob("*.py") if "\nCONFIGURATIONS" in p.read_text(encoding="utf-8"))


def configurations(module: str) -> tuple[Any, ...]:
    """Return what ``fastkd/kernels/triton/<module>.py`` lists."""
    return tuple(importlib.import_module(f"fastkd.kernels.triton.{module}").CONFIGURATIONS)


def compile_one(job: tuple[str, str, int]) -> Row:
    """Compile one configuration for one target and read its machine code."""
    module, name, target = job
    row: Row = {"module": module, "name": name, "target": target}
    configuration = next(c for c in configurations(module) if c.name == name)
    row["default"] = configuration.default
    try:
        kernel = _compile(configuration, target)
    except Exception as error:  # a report names every failure; one does not hide the others
        return row | {"error": _words(error)}
    return row | _read(kernel, configuration)


def _words(error: BaseException) -> str:
    """Return the last line that says something of an error and of what caused it; compilers end on a caret."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    words = f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
    return words if error.__cause__ is None else f"{words}; {_words(error.__cause__)}"


def _compile(configuration: Any, target: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = configuration.kernel.arg_names
    signature = {n: configuration.signature.get(n, "constexpr") for n in names}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if signature[n] != "constexpr" and not signature[n].startswith("fp") and n not in configuration.unaligned
    }
    source = ASTSource(configuration.kernel, signature, dict(configuration.constants), attributes)
    options = {"num_warps": configuration.num_warps, "num_stages": configuration.num_stages, **configuration.options}
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)


def _read(kernel: Any, configuration: Any) -> Row:
    cubin = kernel.asm["cubin"]
    lines = [(int(m[1], 16), _PREDICATE.sub("", m[2])) for m in map(_LINE.match, _dump(cubin, "-sass")) if m]
    usage = re.search(r"REG:(\d+) STACK:(\d+)", "\n".join(_dump(cubin, "-res-usage")))
    assert usage is not None
    text = [t for _, t in lines]
    body = _main_loop(lines)
    mix = collections.Counter(t.split()[0].split(".")[0] for t in body)
    per_score = None
    if configuration.scores:
        per_score = round(len(body) * 32 * configuration.num_warps / configuration.scores, 3)
    return {
        "registers": int(usage[1]),
        "spills": int(usage[2]),
        "local_memory": sum(t.startswith(("LDL", "STL")) for t in text),
        "shared_bytes": kernel.metadata.shared,
        "wgmma": any(t.startswith(("HGMMA", "QGMMA", "IGMMA")) for t in text),
        "wants_wgmma": configuration.wgmma,
        "loop_instructions": len(body),
        "instructions_per_score": per_score,
        "mix": dict(mix.most_common(8)),
    }


def _dump(cubin: bytes, flag: str) -> list[str]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([str(tool), flag, file.name], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()


def _main_loop(lines: list[tuple[int, str]]) -> list[str]:
    loops = []
    for address, text in lines:
        branch = _BRANCH.search(text)
        if branch and int(branch[1], 16) < address:
            loops.append([t for a, t in lines if int(branch[1], 16) <= a <= address])
    with_mma = [body for body in loops if any("MMA" in t.split()[0] for t in body)]
    return min(with_mma, key=len) if with_mma else max(loops, key=len, default=[])


def faults(row: Row, budget: dict[str, Row] | None) -> list[str]:
    """Return what is wrong with a row: an error, a spill, missing wgmma, or growth past the budget if one is given."""
    if "error" in row:
        return [row["error"]]
    found = []
    if row["default"] and row["local_memory"] > (PARKED if budget is None else 0):
        found.append(f"spills: {row['local_memory']} local memory instructions in a default configuration")
    if row["target"] == 90 and row["wants_wgmma"] and not row["wgmma"]:
        found.append("no wgmma on sm_90")
    if budget is None:
        return found
    kept = budget.get(key_of(row))
    if kept is None:
        return [*found, "not in the budget; run with --update and commit it"]
    for name in ("registers", "shared_bytes", "instructions_per_score"):
        limit = kept.get(name)
        if limit is not None and row[name] is not None and row[name] > limit * SLACK:
            found.append(f"{name} {row[name]}, budget {limit}")
    return found


def key_of(row: Row) -> str:
    """Return a row's name in the budget."""
    return f"{row['module']}/{row['name']}/sm_{row['target']}"


def report(names: Iterable[str], targets: Iterable[int], *, defaults_only: bool, workers: int) -> list[Row]:
    """Compile and return a row per configuration and target."""
    jobs = [
        (module, c.name, target)
        for module in names
        for c in configurations(module)
        for target in targets
        if target in c.targets and (c.default or not defaults_only)
    ]
    if workers <= 1:
        return [compile_one(job) for job in jobs]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(compile_one, jobs))


def main() -> int:
    """Read the arguments, compile, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="kernel files, e.g. rank_topk; all of them if left out")
    parser.add_argument("--target", type=int, action="append", choices=TARGETS)
    parser.add_argument("--defaults", action="store_true", help="only what launchers pick by themselves")
    check = parser.add_mutually_exclusive_group()
    check.add_argument("--check", action="store_true", help="compare with the budget and fail on a regression")
    check.add_argument("--no-budget", action="store_true", help="fail on an error, a spill of some size, lost wgmma")
    parser.add_argument("--update", action="store_true", help="write the budget")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    rows = report(
        given.modules or modules(), given.target or TARGETS, defaults_only=given.defaults, workers=given.workers
    )
    budget: dict[str, Row] = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    if given.update:
        _update(budget, rows, whole=not (given.modules or given.target or given.defaults))
    print(json.dumps(rows) if given.json else _table(rows))
    checked = given.check or given.no_budget
    against = budget if given.check else None
    wrong = [f"{key_of(row)}: {fault}" for row in rows if checked or "error" in row for fault in faults(row, against)]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def _update(budget: dict[str, Row], rows: list[Row], *, whole: bool) -> None:
    if whole:
        budget.clear()
    kept = ("registers", "spills", "local_memory", "shared_bytes", "wgmma", "loop_instructions")
    for row in rows:
        if "error" not in row:
            budget[key_of(row)] = {name: row[name] for name in (*kept, "instructions_per_score")}
    BUDGET.write_text(json.dumps(dict(sorted(budget.items())), indent=1) + "\n")


def _table(rows: list[Row]) -> str:
    lines = [
        f"{'configuration':58s} {'regs':>5s} {'spill':>5s} {'shared':>7s} {'wgmma':>5s} {'loop':>6s} {'i/score':>8s}"
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"{key_of(row):58s} {row['error'][:120]}")
            continue
        per_score = "-" if row["instructions_per_score"] is None else f"{row['instructions_per_score']:.3f}"
        lines.append(
            f"{key_of(row):58s} {row['registers']:5d} {row['local_memory']:5d} {row['shared_bytes']:7d} "
            f"{'yes' if row['wgmma'] else '-':>5s} {row['loop_instructions']:6d} {per_score:>8s}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
