"""Positions of a ranked list drawn without replacement, the better the likelier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import sample_ranked as reference
from fastkd.ops._checks import check_device, check_ids, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch


def sample_ranked(
    users: int | Tensor,
    list_length: int | Tensor,
    n: int,
    *,
    temperature: float,
    seed: int,
    epoch: int,
    max_length: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` positions per user, drawn without replacement with weights ``w_r = exp(-(r + 1) / temperature)``.

    Drawn by the Gumbel top-n trick: the n largest of ``-(r + 1) / temperature + Gumbel_ur``, in log-space, so weights
    of long lists do not underflow. The Gumbel of (user, position r) comes from Philox4x32-10 with key
    ``Seeds(seed).key("sample_ranked", epoch)``, counter ``(r // 4, user low word, user high word, 0)``, word ``r % 4``:
    a user's draw depends neither on the batch nor on threads or backend.

    Args:
        users: Int64[B] user ids, or a number U for users 0 to U - 1 on the CPU.
        list_length: M, or Int64[B] the length of each user's list.
        n: positions per user.
        temperature: T > 0, in ranks; small draws the head of the list, ``inf`` draws uniformly.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        max_length: with lengths on a GPU, a bound on them; without it the call waits for the device to find one.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"`` (which computes on the CPU).

    Returns:
        Int64[B, n] on the device of ``users``: 0-based positions in ascending order (the list's order is kept), -1
        at the end of rows whose list is shorter than ``n``.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: the sampling of RRD's interesting items, Kang et al., "DE-RRD" (CIKM'20).
    """
    _check_count("n", n)
    _check_count("epoch", epoch)
    check_seed(seed)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not temperature > 0:
        raise ValueError(f"temperature must be a number above 0, got {temperature!r}")
    ids = _users(users)
    lengths, longest = _lengths(list_length, ids, max_length)
    chosen = choose("sample_ranked", backend, ids.device.type)
    drawn: Tensor = _native(ids, lengths, longest, n, float(temperature), seed, epoch, chosen)
    return drawn


def _users(users: int | Tensor) -> Tensor:
    if not isinstance(users, Tensor):
        _check_count("users", users)
        return torch.arange(users)
    check_ids("users", users, "B")
    _check_not_negative("users", users, "user ids are not negative")
    return users.detach().to(torch.int64).contiguous()


def _lengths(list_length: int | Tensor, ids: Tensor, max_length: int | None) -> tuple[Tensor, int]:
    """Return Int64[B] and a bound on them."""
    if not isinstance(list_length, Tensor):
        _check_count("list_length", list_length)
        return torch.full_like(ids, list_length), list_length
    check_ids("list_length", list_length, "B")
    if list_length.shape[0] != ids.shape[0]:
        raise ValueError(f"list_length has {list_length.shape[0]} rows for {ids.shape[0]} users")
    check_device("users", ids, "list_length", list_length)
    lengths = list_length.detach().to(torch.int64).contiguous()
    if max_length is not None:
        _check_count("max_length", max_length)
        return lengths.clamp(max=max_length), max_length
    _check_not_negative("list_length", lengths, "lengths are not negative")
    return lengths, int(lengths.max()) if lengths.numel() else 0


def _check_not_negative(name: str, values: Tensor, why: str) -> None:
    # On a GPU this would wait for the device; a wrong user id there only draws another stream.
    if values.device.type == "cpu" and values.numel() and not torch.compiler.is_compiling():
        least = int(values.min())
        if least < 0:
            raise ValueError(f"{name} holds {least}; {why}")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")


def _launch(
    users: Tensor, lengths: Tensor, longest: int, n: int, temperature: float, seed: int, epoch: int, backend: str
) -> Tensor:
    key = Seeds(seed).key("sample_ranked", epoch)
    if backend == "triton":
        drawn: Tensor = launch("sample_ranked", backend, users.device)(users, lengths, longest, n, temperature, key)
        return drawn
    ids, sizes = users.cpu().numpy(), lengths.cpu().numpy()
    draw = reference.sample_ranked
    if backend != "reference":
        draw = launch("sample_ranked", backend, users.device)
    return torch.from_numpy(draw(ids, sizes, n, temperature, key)).to(users.device)


def _fake(users: Tensor, lengths: Tensor, longest: int, n: int, *_: Any) -> Tensor:
    return users.new_empty((users.shape[0], n))


_native = define(
    "sample_ranked(Tensor users, Tensor lengths, SymInt longest, SymInt n, float temperature, int seed, int epoch,"
    " str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
