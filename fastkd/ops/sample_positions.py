"""Positions of a ranked list drawn with replacement, by a law over the ranks."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import sample_positions as reference
from fastkd.ops._checks import check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.sample_ranked import _check_count, _lengths, _users

Law = Literal["uniform", "linear", "exponential"]
_FLAT = 1e-8


def sample_positions(
    users: int | Tensor,
    list_length: int | Tensor,
    n: int,
    *,
    law: Law,
    decay: float = 1.0,
    seed: int,
    epoch: int,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` positions per user of a list of m items, drawn with replacement; r = 1..m is the rank.

    ``"uniform"``: p_r = 1/m. ``"linear"``: p_r = (2 (m - r) + 1) / m^2, proportional to 1 - (r - 1/2) / m: the better
    of two uniform draws. ``"exponential"``: p_r proportional to exp(-decay r / m). The draws are stated in
    ``fastkd/kernels/reference/sample_positions.py``; the key is ``Seeds(seed).key("sample_positions", epoch)``, and a
    draw depends on (seed, epoch, user, slot) and m alone: the same for any batch, threads, device and backend.

    Args:
        users: Int64[B] (or int32) user ids, or a number U for users 0 to U - 1 on the CPU.
        list_length: m, or Int64[B] the length of each user's list.
        n: draws per user.
        law: see above.
        decay: positive, for ``"exponential"``: how much less likely the end of the list is, in powers of e. Below 1e-8
            the law is drawn as uniform, from which it differs by less than that: the formula would lose its digits.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        backend: ``"auto"``, ``"numba"`` or ``"reference"``, which runs on any device.

    Returns:
        Int64[B, n] on the device of ``users``: 0-based positions in the order drawn; -1 where the list is empty.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: the rank-aware sampling of Lee et al., "Collaborative distillation for top-N recommendation" (ICDM'19).
    """
    _check_count("n", n)
    _check_count("epoch", epoch)
    check_seed(seed)
    if law not in reference.LAWS:
        raise ValueError(f"unknown law {law!r}.{did_you_mean(str(law), reference.LAWS)} Known: {reference.LAWS}")
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 < decay < math.inf:
        raise ValueError(f"decay must be a finite number above 0, got {decay!r}")
    ids = _users(users)
    # A bound spares a device the question for the longest list, which nothing here needs.
    lengths, _ = _lengths(list_length, ids, None if ids.device.type == "cpu" else 2**62)
    chosen = choose("sample_positions", backend, ids.device.type)
    if law == "exponential" and decay < _FLAT:
        law = "uniform"
    drawn: Tensor = _native(ids, lengths, n, law, float(decay), seed, epoch, chosen)
    return drawn


def _launch(
    users: Tensor, lengths: Tensor, n: int, law: str, decay: float, seed: int, epoch: int, backend: str
) -> Tensor:
    key = Seeds(seed).key("sample_positions", epoch)
    draw: Any = reference.sample_positions
    if backend != "reference":
        draw = launch("sample_positions", backend, users.device)
    drawn: Tensor = draw(users, lengths, n, law, decay, key)
    return drawn


def _fake(users: Tensor, lengths: Tensor, n: int, *_: Any) -> Tensor:
    return users.new_empty((users.shape[0], n))


_native = define(
    "sample_positions(Tensor users, Tensor lengths, SymInt n, str law, float decay, int seed, int epoch, str backend)"
    " -> Tensor",
    implementation=_launch,
    fake=_fake,
)
