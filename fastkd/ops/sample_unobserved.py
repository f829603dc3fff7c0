"""Items a user has not touched, uniformly: the C++ sampler's draws, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import sample_unobserved as reference
from fastkd.ops._checks import check_device, check_ids, check_range, check_rows, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch

MAX_ITEMS = 2**32 - 1


def sample_unobserved(
    interactions: Interactions,
    users: Tensor,
    n: int,
    *,
    exclude_lists: Tensor | None = None,
    replacement: bool = True,
    seed: int,
    epoch: int,
    validate: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` items per user, each equally likely among those outside his history and ``exclude_lists``.

    The draws are those of ``fastkd.sampling.NegativeSampler(interactions, seed=seed).sample(users, n, epoch=epoch,
    exclude_lists=..., replacement=..., on_exhausted="pad")``, bit for bit, where ``users`` live: nothing is copied to
    the host. The stream is stated in ``csrc/README.md``: key ``Seeds(seed).key("negatives", epoch)``, counter
    ``(user low, user high, slot // 4, attempt)``, word ``slot % 4``.

    Args:
        interactions: what each user touched. Before ``torch.compile``, call ``interactions.to_torch(device)`` once.
        users: Int64[B] (or int32), rows of ``interactions``; the same user twice gets the same items twice.
        n: slots per user.
        exclude_lists: Int64[B, M] (or int32), further items to leave out of each row, in any order; -1: none.
        replacement: False: the items of a row are distinct; its first slots do not depend on ``n``.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        validate: refuse users and items out of range. On a GPU it waits for the device.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"`` (which computes on the CPU).

    Returns:
        Int64[B, n]; slots that find no item left are -1, at the end of the row.

    Raises:
        TypeError, ValueError: arguments that do not fit, ids out of range. BackendError: a backend that cannot run.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC'11); Lemire, "Fast random integer
    generation in an interval" (2019).
    """
    _check(interactions, users, n, epoch, exclude_lists)
    check_seed(seed)
    ids = users.detach().to(torch.int64).contiguous()
    lists = None if exclude_lists is None else exclude_lists.detach().contiguous()
    chosen = choose("sample_unobserved", backend, ids.device.type)
    indptr, indices = interactions.to_torch(ids.device)
    items = interactions.num_items
    drawn: Tensor = _native(ids, n, indptr, indices, items, lists, replacement, seed, epoch, validate, chosen)
    return drawn


def _check(interactions: Interactions, users: Tensor, n: int, epoch: int, lists: Tensor | None) -> None:
    if not isinstance(interactions, Interactions):
        raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
    if interactions.num_items > MAX_ITEMS:
        raise ValueError(f"a catalogue of {interactions.num_items} items is past the sampler's {MAX_ITEMS}")
    check_ids("users", users, "B")
    for name, value in (("n", n), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
    if lists is not None:
        check_ids("exclude_lists", lists, "B M")
        check_rows("users", users, "exclude_lists", lists)
        check_device("users", users, "exclude_lists", lists)


def _check_users(users: Tensor, num_users: int) -> None:
    if users.numel() == 0:
        return
    low, high = users.aminmax()
    if int(low) < 0 or int(high) >= num_users:
        raise ValueError(f"users holds {int(low) if int(low) < 0 else int(high)}, outside [0, {num_users})")


def _launch(
    users: Tensor, n: int, indptr: Tensor, indices: Tensor, num_items: int, lists: Tensor | None, replacement: bool,
    seed: int, epoch: int, validate: bool, backend: str,
) -> Tensor:  # fmt: skip
    if validate:  # here and not above, where a compiled program would leave it out
        _check_users(users, len(indptr) - 1)
        if lists is not None:
            check_range("exclude_lists", lists, num_items)
    key = Seeds(seed).key("negatives", epoch)
    draw: Any = reference.sample_unobserved
    if backend != "reference":
        draw = launch("sample_unobserved", backend, users.device)
    drawn: Tensor = draw(users, n, indptr, indices, num_items, lists, replacement, key)
    return drawn


def _fake(users: Tensor, n: int, *_: Any) -> Tensor:
    return users.new_empty((users.shape[0], n))


_native = define(
    "sample_unobserved(Tensor users, SymInt n, Tensor indptr, Tensor indices, int num_items, Tensor? lists,"
    " bool replacement, int seed, int epoch, bool validate, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
