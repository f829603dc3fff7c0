"""No figure without green tests: a case is timed only after they passed here, in this environment.

Two gates. The numeric one always runs: the op against its reference at a small odd point, value and gradients. The
other runs the case's test files with pytest in a process of its own, wherever there is a checkout; its verdict is kept
under a hash of the package, the tests and the versions, so it costs nothing until one of them changes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastkd.bench.case import Case
from fastkd.bench.same import close, exactly
from fastkd.bench.where import PACKAGES, SOURCE, checkout
from fastkd.core.capability import cpu_count, has_module, version_of
from fastkd.core.files import write_text

QUICK = "(formula or hand or reference or exact or oracle or same_bits or published) and not compiles"
"""What of the test files a quick run takes, where no full verdict is kept (pytest's ``-k``)."""

BELOW_OPS = {"core", "kernels", "ops", "sampling"}
"""Rooms that decide what an op or a sampler computes; a case whose tests lie there is not judged anew for others."""


@dataclass(frozen=True)
class Verdict:
    """Whether a case may be timed; ``how``: ``tests``, ``quick tests``, ``check alone``; ``why``: the first failure."""

    passed: bool
    how: str
    why: str = ""


def numeric(case: Case, device: str) -> str | None:
    """Compare a case with its reference at its small odd point; return what is wrong, or None."""
    if case.check is None:
        return None
    results = []
    for backend in ("auto", "reference"):
        inputs = case.make(case.check, 1, device)
        found = case.call(inputs, backend)
        if case.leaves:
            total = found.double().sum()
            gradients = torch.autograd.grad(total, [inputs[name] for name in case.leaves], allow_unused=True)
            results.append([found.detach(), *(g for g in gradients if g is not None)])
        else:
            results.append([getattr(found, "ids", found)])
    for ours, truth in zip(*results, strict=True):
        real = isinstance(ours, torch.Tensor) and ours.is_floating_point()
        wrong = close(ours, truth, {}) if real else exactly(ours, truth, {})
        if wrong is not None:
            return f"{case.name} at {case.check.label()} against its reference: {wrong}"
    return None


@functools.cache
def fingerprint(root: Path, tests: tuple[str, ...]) -> str:
    """Return a hash of the sources, the native module, the tests and the versions."""
    digest = hashlib.blake2b(digest_size=16)
    low = all(Path(test).parts[1] in BELOW_OPS for test in tests)
    rooms = BELOW_OPS if low else {p.name for p in (root / "fastkd").iterdir() if p.name not in ("cli", "bench")}
    package = [path for room in rooms for path in (root / "fastkd" / room).rglob("*.py")]
    suites = [root / "tests" / "conftest.py", *(root / "tests" / "contracts").glob("*.py"), *(root / t for t in tests)]
    for path in sorted({*package, *suites, *(root / "fastkd").glob("_native*.so"), *_installed_native()}):
        digest.update(str(path.name).encode() + b"\0" + path.read_bytes() + b"\0")
    versions = [f"{name} {version_of(name)}" for name in PACKAGES]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    digest.update("\n".join([*versions, platform.python_version(), platform.machine(), device]).encode())
    return digest.hexdigest()


def _installed_native() -> list[Path]:
    import importlib.util

    spec = importlib.util.find_spec("fastkd._native")
    return [Path(spec.origin)] if spec is not None and spec.origin else []


def verdict(case: Case, *, quick: bool = False) -> Verdict:
    """Return whether the case's tests pass here; runs them unless the same sources have been judged before."""
    root = checkout()
    if root is None or not has_module("pytest"):
        return Verdict(True, "check alone")
    found = _known(root, case, quick)
    if found is None:
        found = _run(root, case.tests, quick)
        _keep(root, [case], found)
    return found


def judge_together(cases: Sequence[Case], *, quick: bool) -> None:
    """Run the tests of all cases that have no verdict together; each alone is asked later where that fails.

    On the CPU several processes share the files of a quick run: most of its time goes to compiling kernels.
    """
    root = checkout()
    if root is None or not has_module("pytest"):
        return
    open_ = [case for case in cases if _known(root, case, quick) is None]
    if len(open_) < 2:
        return
    tests = tuple(dict.fromkeys(test for case in open_ for test in case.tests))
    parts = _shared(root, tests, parallel_tests() if quick else 1)
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(lambda part: _run(root, part, quick), parts))
    if all(one.passed for one in found):
        how = "quick tests" if any(one.how == "quick tests" for one in found) else "tests"
        _keep(root, open_, Verdict(True, how))


def parallel_tests() -> int:
    """Return how many processes share the tests of a quick run; on a GPU one, which has the memory to itself."""
    return 1 if torch.cuda.is_available() else min(cpu_count(), 4)


def _shared(root: Path, tests: Sequence[str], parts: int) -> list[tuple[str, ...]]:
    """Share test files among processes, the longest first, each to whom has least."""
    shares: list[list[str]] = [[] for _ in range(min(parts, len(tests)))]
    sizes = [0] * len(shares)
    for test in sorted(tests, key=lambda test: (-(root / test).stat().st_size, test)):
        least = sizes.index(min(sizes))
        shares[least].append(test)
        sizes[least] += (root / test).stat().st_size
    return [tuple(share) for share in shares]


def _known(root: Path, case: Case, quick: bool) -> Verdict | None:
    known, stamp = _kept(root), fingerprint(root, case.tests)
    for how in ("tests", "quick tests") if quick else ("tests",):
        held = known.get(f"{case.name}, {how}", {})
        if held.get("stamp") == stamp:
            return Verdict(held["passed"], how, held["why"])
    return None


def _keep(root: Path, cases: Sequence[Case], found: Verdict) -> None:
    known, path = _kept(root), _kept_in(root)
    for case in cases:
        stamp = fingerprint(root, case.tests)
        known[f"{case.name}, {found.how}"] = {"stamp": stamp, "passed": found.passed, "why": found.why}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(known, indent=1) + "\n")


def cache_folder() -> Path:
    """Return where verdicts and other checkouts are kept: ``FASTKD_CACHE`` or the user's cache."""
    given = os.environ.get("FASTKD_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastkd"


def _kept_in(root: Path) -> Path:
    name = hashlib.blake2b(f"{root} {sys.prefix}".encode(), digest_size=8).hexdigest()
    return cache_folder() / f"verdicts-{name}.json"


def _kept(root: Path) -> dict[str, dict[str, Any]]:
    try:
        held = json.loads(_kept_in(root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _run(root: Path, tests: Sequence[str], quick: bool) -> Verdict:
    if quick:
        done = _pytest(root, tests, ["-k", QUICK])
        if done.returncode != 5:  # 5: nothing was chosen
            return _judged(done, "quick tests")
    return _judged(_pytest(root, tests, []), "tests")


def _pytest(root: Path, tests: Sequence[str], more: Sequence[str]) -> subprocess.CompletedProcess[str]:
    marks = ["-m", "not slow"] if torch.cuda.is_available() else []
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pytest", "-q", "-x", *marks, *more, "-o", f"cache_dir={cache}", *tests]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=_environment())


def _environment() -> dict[str, str]:
    """Return the environment without what would change a test's process: the peers' folders stay."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (str(SOURCE), os.environ.get("PYTHONPATH")) if p)}


def _judged(done: subprocess.CompletedProcess[str], how: str) -> Verdict:
    if done.returncode == 0:
        return Verdict(True, how)
    lines = (done.stdout + done.stderr).splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return Verdict(False, how, (failed or lines[-1:] or [f"pytest ended with {done.returncode}"])[0])
