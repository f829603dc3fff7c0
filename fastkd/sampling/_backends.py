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
from fastkd.sampling import _tables
from fastkd.sampling._hard import HardDraws, vectors
from fastkd.sampling.distributions import Distribution, Hard, Mixed, Popularity, Stratified, Uniform

_FOLDERS = {
    "native": "fastkd._native",
    "numba": "fastkd.kernels.numba.",
    "reference": "fastkd.kernels.reference.",
}
_FILES = {
    "UniformSampler": "sample_unobserved",
    "PopularitySampler": "sample_popularity",
    "MixedSampler": "sample_mixed",
    "StratifiedSampler": "sample_stratified",
}
BACKENDS = tuple(_FOLDERS)
"""Fastest first: ``backend="auto"`` takes the first without an obstacle."""


class Draws(Protocol):
    """The face that the samplers of ``fastkd._native`` and their twins share; ``out`` is filled in place."""

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[Any],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
        first_slots: NDArray[np.int64] | None = None,
        log_prob: NDArray[np.float32] | None = None,
    ) -> int:
        """Fill [B, n]; return the first row with fewer items left than slots, or -1."""
        ...

    def sample_epoch(
        self, key: int, out: NDArray[Any], threads: int = 1, indptr: NDArray[np.int64] | None = None
    ) -> int:
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
        return next(name for name in BACKENDS if obstacle(name) is None)
    if backend not in BACKENDS:
        known = ("auto", *BACKENDS)
        raise ConfigError(f"unknown backend {backend!r}.{did_you_mean(backend, known)} Known: {', '.join(known)}")
    reason = obstacle(backend)
    if reason is not None:
        raise BackendError(f"backend {backend!r} cannot draw negatives: {reason}")
    return backend


def build(
    backend: str,
    excluded: Interactions,
    distribution: Distribution | None = None,
    counts: NDArray[np.int64] | None = None,
    threads: int = 1,
) -> Draws:
    """Return the sampler of a backend outside ``excluded``; ``counts``: how popular each item is."""
    distribution = Uniform() if distribution is None else distribution
    indptr, indices = (np.require(a, requirements=["C", "A"]) for a in (excluded.indptr, excluded.indices))
    table = (indptr, indices, excluded.num_items)
    match distribution:
        case Popularity():
            masses = _tables.masses(_counts(excluded, counts), distribution.alpha)
            return _of(backend, "PopularitySampler", *table, masses, threads)
        case Mixed():
            masses = _tables.masses(_counts(excluded, counts), distribution.alpha)
            share = round(distribution.share * _tables.FULL)
            return _of(backend, "MixedSampler", *table, masses, share, threads)
        case Stratified():
            return _of(backend, "StratifiedSampler", *table, *_tables.strata(distribution, _counts(excluded, counts)))
        case Hard() if backend == "native" and not callable(distribution.scores):
            tables = vectors(distribution, excluded.num_users, excluded.num_items)
            return _of(backend, "HardSampler", *table, *tables, distribution.candidates)
    uniform = _of(backend, "UniformSampler", *table)
    if isinstance(distribution, Hard):
        return HardDraws(uniform, distribution, excluded.num_users, excluded.num_items)
    return uniform


def _counts(excluded: Interactions, counts: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return _tables.item_counts(excluded) if counts is None else counts


def _of(backend: str, name: str, *arguments: Any) -> Draws:
    module = importlib.import_module(_FOLDERS[backend] + ("" if backend == "native" else _FILES[name]))
    draws: Draws = getattr(module, name)(*arguments)
    return draws
