"""Which implementation of an op runs: the first backend that has a kernel file and no obstacle.

A backend has the op if ``fastkd/kernels/<backend>/<op>.py`` exists. Nothing is imported to find out, so neither
numba nor triton loads before the first call that needs it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

from fastkd.core.capability import BACKENDS, backend_obstacle
from fastkd.core.errors import BackendError, did_you_mean


@functools.cache
def has_kernel(op: str, backend: str) -> bool:
    """Return whether ``backend`` has a kernel file for ``op``, without importing it."""
    return importlib.util.find_spec(f"fastkd.kernels.{backend}") is not None and (
        importlib.util.find_spec(f"fastkd.kernels.{backend}.{op}") is not None
    )


def obstacle(op: str, backend: str, device_type: str) -> str | None:
    """Return why ``backend`` cannot run ``op`` on tensors of ``device_type``, or None if it can."""
    if not has_kernel(op, backend):
        return f"it has no kernel for {op} (fastkd/kernels/{backend}/{op}.py)"
    return backend_obstacle(backend, device_type)


_CHOSEN: dict[tuple[str, str, str], str] = {}


def choose(op: str, backend: str, device_type: str) -> str:
    """Return the name of the backend that runs ``op``.

    ``op``: name of the op and of its kernel files. ``backend``: ``"auto"`` takes the first of
    :data:`fastkd.core.capability.BACKENDS` without an obstacle (on the CPU never Triton's interpreter); any other is
    obeyed or refused, never replaced.
    ``device_type``: where the tensors are (``"cpu"``, ``"cuda"``).

    Raises: ``ValueError`` for an unknown backend; ``BackendError`` with every obstacle.
    """
    chosen = _CHOSEN.get((op, backend, device_type))
    if chosen is None:
        chosen = _CHOSEN[(op, backend, device_type)] = _choose(op, backend, device_type)
    return chosen


# What torch.compiler.assume_constant_result does, without importing the compiler: the arguments are constants, so
# a traced program carries the answer and does not look inside.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def check_backend(backend: str) -> None:
    """Refuse the name of a backend that there is not."""
    known = ("auto", *BACKENDS)
    if backend not in known:
        raise ValueError(f"unknown backend {backend!r}.{did_you_mean(str(backend), known)} Known: {', '.join(known)}")


def _choose(op: str, backend: str, device_type: str) -> str:
    check_backend(backend)
    obstacles = {name: obstacle(op, name, device_type) for name in BACKENDS}
    wanted = (backend,) if backend != "auto" else _automatic(device_type)
    for name in wanted:
        if obstacles[name] is None:
            return name
    usable = [name for name, reason in obstacles.items() if reason is None]
    reasons = "; ".join(f"{name}: {obstacles[name]}" for name in (BACKENDS if backend == "auto" else wanted))
    would = f" Backends that can: {', '.join(usable)}, or backend='auto'" if usable else ""
    raise BackendError(f"{op} cannot run with backend={backend!r} on {device_type} tensors. {reasons}.{would}")


def _automatic(device_type: str) -> tuple[str, ...]:
    # Triton's interpreter is for tests; nobody wants it by default.
    return tuple(name for name in BACKENDS if name != "triton" or device_type == "cuda")


@functools.cache
def kernel(op: str, backend: str) -> ModuleType:
    """Return the kernel module of ``op`` for a backend named by :func:`choose`; imported on first use."""
    return importlib.import_module(f"fastkd.kernels.{backend}.{op}")
