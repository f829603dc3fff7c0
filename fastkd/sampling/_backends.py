"""Who draws: the C++ module where it is built, else numba. The draws are the same bit for bit."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastkd.core import BackendError, ConfigError, Interactions
from fastkd.core.capability import backend_obstacle
from fastkd.core.errors import did_you_mean

_MODULES = {
    "native": "fastkd._native",
    "numba": "fastkd.kernels.numba.sample_unobserved",
    "reference": "fastkd.kernels.reference.sample_unobserved",
}
BACKENDS = tuple(_MODULES)
"""Fastest first: ``backend="auto"`` takes the first without an obstacle."""


class Draws(Protocol):
    """The face that ``fastkd._native.UniformSampler`` and its twins share; ``out`` is filled in place."""

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[np.int64],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
    ) -> int:
        """Fill int64[B, n]; return the first row with fewer items left than slots, or -1."""
        ...

    def sample_epoch(self, key: int, out: NDArray[Any], threads: int = 1) -> int:
        """Fill [nnz, n]; return the first user with no item left, or -1."""
        ...


@functools.cache
def obstacle(backend: str) -> str | None:
    """Return why a backend cannot draw here, or None if it can."""
    if backend == "native":
        built = importlib.util.find_spec("fastkd._native") is not None
        return None if built else "the C++ module fastkd._native is not built (pip install -e .)"
    return backend_obstacle(backend, "cpu")


def choose(backend: str) -> str:
    """Return the backend that ``backend`` names or, for ``"auto"``, the first without an obstacle."""
    if backend == "auto":
        return next(name for name in _MODULES if obstacle(name) is None)
    if backend not in _MODULES:
        known = ("auto", *_MODULES)
        raise ConfigError(f"unknown backend {backend!r}.{did_you_mean(backend, known)} Known: {', '.join(known)}")
    reason = obstacle(backend)
    if reason is not None:
        raise BackendError(f"backend {backend!r} cannot draw negatives: {reason}")
    return backend


def build(backend: str, interactions: Interactions) -> Draws:
    """Return the uniform sampler of a backend over the arrays of ``interactions``."""
    module = importlib.import_module(_MODULES[backend])
    indptr, indices = (np.require(a, requirements=["C", "A"]) for a in (interactions.indptr, interactions.indices))
    draws: Draws = module.UniformSampler(indptr, indices, interactions.num_items)
    return draws
