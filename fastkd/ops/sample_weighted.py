"""Positions of a short list drawn without replacement, by a weight for each."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import sample_weighted as reference
from fastkd.ops._checks import check_device, check_float, check_rows, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.sample_ranked import _check_count, _users


def sample_weighted(
    users: int | Tensor,
    log_weights: Tensor,
    n: int,
    *,
    order: Literal["list", "drawn"] = "list",
    seed: int,
    epoch: int,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` positions per user, drawn without replacement with weights ``exp(log_weights[b, r])``.

    Drawn by the Gumbel top-n trick in log-space, so weights neither underflow nor need a sum. The Gumbel of (user,
    position r) comes from Philox4x32-10 with key ``Seeds(seed).key("sample_weighted", epoch)``, counter
    ``(r // 4, user low word, user high word, 0)``, word ``r % 4``: a user's draw depends on his weights and on neither
    the batch, nor threads, device or backend.

    Args:
        users: Int64[B] (or int32) user ids, or a number U for users 0 to U - 1 on the CPU.
        log_weights: Float[B, M], on the device of ``users``; -inf is never drawn (padding).
        n: positions per user.
        order: ``"list"`` returns positions ascending, ``"drawn"`` the same ones as successive draws found them.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        backend: ``"auto"``, ``"numba"`` or ``"reference"``, which runs on any device.

    Returns:
        Int64[B, n]: 0-based positions, -1 at the end of rows with fewer than ``n`` to draw.

    Raises:
        TypeError, ValueError: arguments that do not fit, a weight that is NaN or +inf (CPU; elsewhere undefined).
        BackendError: a backend that cannot run here.

    Source: Kool et al., "Stochastic beams and where to find them" (ICML'19).
    """
    _check_count("n", n)
    _check_count("epoch", epoch)
    check_seed(seed)
    if order not in ("list", "drawn"):
        raise ValueError(f"order must be 'list' or 'drawn', got {order!r}")
    check_float("log_weights", log_weights, "B M")
    ids = _users(users)
    check_rows("users", ids, "log_weights", log_weights)
    check_device("users", ids, "log_weights", log_weights)
    weights = log_weights.detach()
    weights = (weights if weights.dtype == torch.float64 else weights.float()).contiguous()
    if weights.device.type == "cpu" and not torch.compiler.is_compiling() and not bool((weights < torch.inf).all()):
        row, column = (int(v) for v in (~(weights < torch.inf)).nonzero()[0])
        raise ValueError(f"log_weights[{row}, {column}] is {weights[row, column].item()}; numbers below inf would work")
    chosen = choose("sample_weighted", backend, ids.device.type)
    drawn: Tensor = _native(ids, weights, n, order == "drawn", seed, epoch, chosen)
    return drawn


def _launch(users: Tensor, weights: Tensor, n: int, drawn: bool, seed: int, epoch: int, backend: str) -> Tensor:
    key = Seeds(seed).key("sample_weighted", epoch)
    draw: Any = reference.sample_weighted
    if backend != "reference":
        draw = launch("sample_weighted", backend, users.device)
    positions: Tensor = draw(users, weights, n, drawn, key)
    return positions


def _fake(users: Tensor, weights: Tensor, n: int, *_: Any) -> Tensor:
    return users.new_empty((users.shape[0], n))


_native = define(
    "sample_weighted(Tensor users, Tensor weights, SymInt n, bool drawn, int seed, int epoch, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
