"""Positions of a ranked list drawn without replacement, the better the likelier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.ops._checks import check_ids
from fastkd.ops._dispatch import choose, kernel


def sample_ranked(
    users: int | Tensor,
    list_length: int | Tensor,
    n: int,
    *,
    temperature: float,
    seed: int,
    epoch: int,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` positions per user, drawn without replacement with weights ``w_r = exp(-(r + 1) / temperature)``.

    Drawn by the Gumbel top-n trick: the n largest of ``-(r + 1) / temperature + Gumbel_ur``, in log-space, so weights
    of long lists do not underflow. The Gumbel of (user, position r) comes from Philox4x32-10 with key
    ``Seeds(seed).key("sample_ranked", epoch)``, counter ``(r // 4, user low word, user high word, 0)``, word ``r % 4``:
    a user's draw depends neither on the batch nor on threads or backend.

    Args:
        users: Int64[B] user ids, or a number U for users 0 to U - 1.
        list_length: M, or Int64[B] the length of each user's list.
        n: positions per user.
        temperature: T > 0, in ranks; small draws the head of the list, ``inf`` draws uniformly.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        backend: ``"auto"``, ``"numba"`` or ``"reference"``; both run on the CPU.

    Returns:
        Int64[B, n] on the device of ``users``: 0-based positions in ascending order (the list's order is kept), -1
        at the end of rows whose list is shorter than ``n``.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: the sampling of RRD's interesting items, Kang et al., "DE-RRD" (CIKM'20).
    """
    ids, lengths = _rows(users, list_length)
    _check_count("n", n)
    _check_count("epoch", epoch)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
        raise ValueError(f"temperature must be a number above 0, got {temperature!r}")
    chosen = kernel("sample_ranked", choose("sample_ranked", backend, "cpu"))
    drawn = chosen.sample_ranked(ids, lengths, n, float(temperature), Seeds(seed).key("sample_ranked", epoch))
    device = users.device if isinstance(users, Tensor) else torch.device("cpu")
    return torch.from_numpy(drawn).to(device)


def _rows(users: int | Tensor, list_length: int | Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return users and list lengths as Int64[B] arrays, checked."""
    if isinstance(users, Tensor):
        check_ids("users", users, "B")
        ids = _array(users)
    else:
        _check_count("users", users)
        ids = np.arange(users, dtype=np.int64)
    if len(ids) and ids.min() < 0:
        raise ValueError(f"users holds {ids.min()}; user ids are not negative")
    if not isinstance(list_length, Tensor):
        _check_count("list_length", list_length)
        return ids, np.full(len(ids), list_length, dtype=np.int64)
    check_ids("list_length", list_length, "B")
    lengths = _array(list_length)
    if len(lengths) != len(ids):
        raise ValueError(f"list_length has {len(lengths)} rows for {len(ids)} users")
    if len(lengths) and lengths.min() < 0:
        raise ValueError(f"list_length holds {lengths.min()}; lengths are not negative")
    return ids, lengths


def _array(tensor: Tensor) -> NDArray[np.int64]:
    values: NDArray[Any] = tensor.detach().cpu().to(torch.int64).contiguous().numpy()
    return values


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
