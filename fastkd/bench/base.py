"""``--base GIT_REF``: the present fastkd and that of another commit, each in a process of its own, timed in turns.

The other commit is unpacked (``git archive``: the repository is not touched) below the cache folder and kept, so its
kernels compile once. Its native module is a copy of ours where ``csrc`` and ``CMakeLists.txt`` are the same, else it is
built. Both sides run this registry and this clock.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fastkd.bench import _worker, clock, gate
from fastkd.bench.case import Case, Pass, Point
from fastkd.bench.roofline import Roofline
from fastkd.bench.run import Row, Settings, figures, rates, threads_of
from fastkd.bench.where import SOURCE, checkout, git
from fastkd.core.errors import ConfigError

NATIVE = ("csrc", "CMakeLists.txt")


class Base:
    """Two sides and the cases that both have."""

    def __init__(self, ref: str, settings: Settings, roof: Roofline) -> None:
        root = checkout()
        if root is None:
            raise ConfigError("--base needs a checkout with git: this fastkd is installed")
        head = git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        if not head:
            raise ConfigError(f"git knows no commit {ref!r}")
        self.settings, self.roof = settings, roof
        self.name = f"fastkd@{head[:10]}"
        threads = torch.get_num_threads()
        other = unpacked(root, head)
        self.sides = {"fastkd": Worker(SOURCE, settings.device, threads)}
        try:
            self.sides[self.name] = Worker(other, settings.device, threads)
        except SideError as error:
            self.close()
            raise ConfigError(f"{ref} cannot be timed by this registry: {error}") from error

    def rows(self, case: Case, points: Sequence[Point]) -> Iterator[Row]:
        """Yield a row per point, pass and side."""
        verdict = gate.verdict(case, quick=self.settings.quick)
        if not verdict.passed:
            yield {"case": case.name, "contender": "fastkd", "skipped": f"not timed, tests fail: {verdict.why}"}
            return
        for point in points:
            for which in [p for p in case.passes if p in self.settings.passes] or [case.passes[0]]:
                about: Row = {
                    "case": case.name, "point": point.label(), "sizes": dict(point.sizes), "dtype": point.dtype,
                    "table": point.table, "tags": sorted(point.tags), "pass": which, "gate": verdict.how,
                    "threads": threads_of(case),
                }  # fmt: skip
                try:
                    yield from self._timed(case, point, which, about)
                except SideError as error:
                    yield {**about, "contender": self.name, "skipped": str(error)}

    def _timed(self, case: Case, point: Point, which: Pass, about: Row) -> Iterator[Row]:
        asked = {"case": case.name, "sizes": dict(point.sizes), "dtype": point.dtype, "table": point.table}
        first = {}
        for name, side in self.sides.items():
            side.ask({"do": "open", **asked, "pass": which})
            first[name] = side.seconds()
        second = max(side.seconds() for side in self.sides.values())
        rounds = max(clock.FEWEST, min(clock.MOST, int(self.settings.seconds / (2 * second * len(self.sides)))))
        spent: dict[str, list[float]] = {name: [] for name in self.sides}
        for turn in range(rounds):
            for name in list(self.sides)[:: 1 if turn % 2 else -1]:
                if second < clock.SHORT:
                    self.sides[name].seconds()
                spent[name].append(self.sides[name].seconds())
        times = {name: clock.summary(took, first[name]) for name, took in spent.items()}
        for name, took in times.items():
            row = {**about, "contender": name, "variant": "", **figures(took)}
            row |= {"over_fastkd": took.p50 / times["fastkd"].p50, "peak_bytes": self.sides[name].peak()}
            yield row | rates(case, point, which, took, self.roof)

    def close(self) -> None:
        """End both processes."""
        for side in self.sides.values():
            side.close()


class SideError(Exception):
    """A side could not do what it was asked; the message says which and why."""


class Worker:
    """A process that holds one fastkd."""

    def __init__(self, parent: Path, device: str, threads: int) -> None:
        self.parent = parent
        command = [sys.executable, _worker.__file__, str(parent), device, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=parent)
        try:
            self._read()
        except SideError:
            self.close()
            raise

    def ask(self, what: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SideError(f"the process of {self.parent} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer

    def seconds(self) -> float:
        """Time one call."""
        return float(self.ask({"do": "time"})["seconds"])

    def peak(self) -> int | None:
        """Return the bytes of one call."""
        found: int | None = self.ask({"do": "peak"})["bytes"]
        return found

    def close(self) -> None:
        """Close the pipe; the process ends by itself."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def unpacked(root: Path, commit: str) -> Path:
    """Return a folder with that commit's package and its native module."""
    folder = gate.cache_folder() / f"base-{commit[:10]}"
    done = folder / ".complete"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", str(root), "archive", commit, "fastkd", "pyproject.toml", *NATIVE],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    native = importlib.util.find_spec("fastkd._native")
    same = git("diff", "--name-only", commit, "--", *NATIVE, folder=root) == ""
    if same and native is not None and native.origin is not None:
        shutil.copy2(native.origin, folder / "fastkd")
    else:
        build(folder)
    done.touch()
    return folder


def build(folder: Path) -> None:
    """Build a commit's native module in place with CMake; raises ``ConfigError`` with the compiler's last words."""
    import sysconfig

    found = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=False
    )
    where, made = found.stdout.strip(), folder / "build"
    configure = ["cmake", "-S", str(folder), "-B", str(made), "-DCMAKE_BUILD_TYPE=Release", f"-Dpybind11_DIR={where}"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-DPython_ROOT_DIR={sysconfig.get_config_var('prefix')}"]
    for command in (configure, ["cmake", "--build", str(made), "--target", "_native", "-j"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ConfigError(f"the native module of the base must be built, and {command[0]} is not there") from error
        if done.returncode != 0:
            raise ConfigError(f"building the base failed: {(done.stderr or done.stdout).strip()[-400:]}")
    for library in made.glob("_native*"):
        shutil.copy2(library, folder / "fastkd")
