"""Items drawn without replacement by the softmax of their scores over the whole catalogue."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import sample_softmax as reference
from fastkd.ops._checks import check_device, check_float, check_ids, check_rows, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.rank_topk import check_exclude


def sample_softmax(
    users: Tensor,
    items: Tensor,
    n: int,
    *,
    temperature: float,
    seed: int,
    epoch: int,
    exclude: Interactions | None = None,
    item_bias: Tensor | None = None,
    user_ids: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``n`` items per user, one after the other without replacement, by ``p_i = softmax(s_u / temperature)_i``.

    Exact, over all allowed items: the n largest of ``s_i / temperature + Gumbel_ui``. The noise of a group of 128 items
    is made from its largest down, so native backends meet only groups whose best item could win, and never make the
    noise of the rest. The stream is stated in ``fastkd/kernels/reference/sample_softmax.py``; its key is
    ``Seeds(seed).key("sample_softmax", epoch)``. Scores are those of :func:`fastkd.ops.rank_topk`, keys are float64
    and their logarithm our own, so a draw depends on (seed, epoch, user id) alone: the same ids for any batch, threads
    and backend, and the first slots do not depend on ``n``.

    Args:
        users: Float[B, D]; float32, float64, bfloat16 or float16, any strides.
        items: Float[N, D].
        n: items per user.
        temperature: T > 0, finite.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        exclude: items never drawn, row b for ``users[b]``. Before ``torch.compile``, call ``exclude.to_torch(device)``
            once.
        item_bias: Float[N], added to every user's scores; an item at -inf is never drawn.
        user_ids: Int64[B], the random counter of each row; None: 0 to B - 1. Rows of one id have the same noise.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns:
        Int64[B, n] in the order drawn; -1 at the end of a row with fewer than ``n`` items to draw. Not differentiable.
        Memory beyond the tables: B N / 128 numbers of a block of users and a tile; the reference makes dense chunks.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: the Gumbel top-k trick, Kool et al., "Stochastic beams and where to find them" (ICML'19).
    """
    _check(users, items, exclude, item_bias)
    _check_options(n, temperature, epoch)
    check_seed(seed)
    ids = _ids(user_ids, users)
    dtype = torch.promote_types(users.dtype, items.dtype)
    vectors, table = users.detach().to(dtype), items.detach().to(dtype)
    bias = None if item_bias is None else item_bias.detach()
    indptr, indices = (None, None) if exclude is None else exclude.to_torch(users.device)
    chosen = choose("sample_softmax", backend, users.device.type)
    drawn: Tensor = _native(vectors, table, n, float(temperature), ids, indptr, indices, bias, seed, epoch, chosen)
    return drawn


def _check(users: Tensor, items: Tensor, exclude: Interactions | None, item_bias: Tensor | None) -> None:
    check_float("users", users, "B D")
    check_float("items", items, "N D")
    check_device("users", users, "items", items)
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"users and items must have the same width D, got {list(users.shape)} and {list(items.shape)}")
    check_exclude(exclude, users.shape[0], items.shape[0])
    if item_bias is not None:
        check_float("item_bias", item_bias, "N")
        check_device("items", items, "item_bias", item_bias)
        if item_bias.shape[0] != items.shape[0]:
            raise ValueError(f"item_bias must have one value for each of {items.shape[0]} items, got {len(item_bias)}")


def _check_options(n: int, temperature: float, epoch: int) -> None:
    for name, value in (("n", n), ("epoch", epoch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")


def _ids(user_ids: Tensor | None, users: Tensor) -> Tensor:
    if user_ids is None:
        return torch.arange(users.shape[0], device=users.device)
    check_ids("user_ids", user_ids, "B")
    check_rows("users", users, "user_ids", user_ids)
    return user_ids.detach().to(torch.int64).contiguous()


def _launch(
    users: Tensor, items: Tensor, n: int, temperature: float, ids: Tensor, indptr: Tensor | None,
    indices: Tensor | None, bias: Tensor | None, seed: int, epoch: int, backend: str,
) -> Tensor:  # fmt: skip
    key = Seeds(seed).key("sample_softmax", epoch)
    draw: Any = reference.sample_softmax
    if backend != "reference":
        draw = launch("sample_softmax", backend, users.device)
    drawn: Tensor = draw(users, items, n, temperature, ids, indptr, indices, bias, key)
    return drawn


def _fake(users: Tensor, items: Tensor, n: int, *_: Any) -> Tensor:
    return users.new_empty((users.shape[0], n), dtype=torch.int64)


_native = define(
    "sample_softmax(Tensor users, Tensor items, SymInt n, float temperature, Tensor ids, Tensor? indptr,"
    " Tensor? indices, Tensor? bias, int seed, int epoch, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
