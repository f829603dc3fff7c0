"""What this machine can run. The only module that probes; nothing heavy is imported to find out."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

BACKENDS = ("triton", "numba", "reference")
"""Kernel backends, fastest first: ``backend="auto"`` takes the first without an obstacle."""


@dataclass(frozen=True)
class Finding:
    """One line of ``fastkd doctor``."""

    name: str
    active: bool
    detail: str


@functools.cache
def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def has_module(name: str) -> bool:
    """Return whether a top-level module could be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


@functools.cache
def backend_obstacle(backend: str, device_type: str) -> str | None:
    """Return why ``backend`` cannot run tensors on ``device_type``, or None if it can."""
    if backend == "reference":
        return None
    if backend == "numba":
        if device_type != "cpu":
            return f"numba runs CPU tensors, these are on {device_type}"
        return None if has_module("numba") else "the package numba is not installed"
    if backend == "triton":
        if not has_module("triton"):
            return "the package triton is not installed"
        if device_type != "cuda" and not interpreting():
            return f"triton runs CUDA tensors, these are on {device_type}"
        return None
    return f"unknown backend; known: {', '.join(BACKENDS)}"


def interpreting() -> bool:
    """Return whether Triton's interpreter is on (it runs kernels on CPU tensors, slowly)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def cpu_count() -> int:
    """Return the number of CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def findings() -> list[Finding]:
    """Return what is active on this machine and why, for ``fastkd doctor`` and reports."""
    rows = [
        Finding("fastkd", True, version_of("fastkd") or "source tree, not installed"),
        Finding("python", True, f"{platform.python_version()} ({sys.platform}, {platform.machine()})"),
        Finding("cpu", True, f"{cpu_count()} usable cores"),
    ]
    native = importlib.util.find_spec("fastkd._native") is not None
    rows.append(Finding("native samplers", native, "fastkd._native" if native else "not built: pip install -e ."))
    for package in ("torch", "numba", "triton"):
        version = version_of(package)
        rows.append(Finding(package, version is not None, version or "not installed"))
    gpu = _cuda()
    rows.append(gpu)
    devices = ("cpu", "cuda") if gpu.active else ("cpu",)
    for backend in BACKENDS:
        obstacles = [backend_obstacle(backend, device) for device in devices]
        usable = [d for d, o in zip(devices, obstacles, strict=True) if o is None]
        rows.append(
            Finding(f"backend {backend}", bool(usable), f"for {', '.join(usable)}" if usable else str(obstacles[0]))
        )
    return rows


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("gpu", False, "torch sees no CUDA device" if torch.version.cuda else "this torch is a CPU build")
    major, minor = torch.cuda.get_device_capability()
    return Finding("gpu", True, f"{torch.cuda.get_device_name()} (sm_{major}{minor}, CUDA {torch.version.cuda})")
