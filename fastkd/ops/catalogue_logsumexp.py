"""Log-sum-exp of a user's scores over the whole catalogue, less what is excluded."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import catalogue_logsumexp as reference
from fastkd.ops._catalogue import Exclude, check_bias, check_tables, define_catalogue, exclusion, scale_of
from fastkd.ops._dispatch import choose
from fastkd.ops._refuse import catalogue_reads, refuse_nan


def catalogue_logsumexp(
    users: Tensor,
    items: Tensor,
    exclude: Exclude = None,
    *,
    temperature: float = 1.0,
    item_bias: Tensor | None = None,
    validate: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return ``log sum_{i in A_b} exp(<users_b, items_i> / temperature + item_bias_i)``, A_b the items not excluded.

    ``users``: Float[B, D]. ``items``: Float[N, D], the whole catalogue.
    ``exclude``: items left out of the sum, exactly and not subtracted afterwards: Int[B, E], padded with -1, in any
    order, repeats allowed; or :class:`~fastkd.core.Interactions`, row b for ``users[b]``; or a pair (Interactions,
    rows Int64[B]), row ``rows[b]`` for ``users[b]``: a batch of users points into everybody's lists, nothing is copied.
    ``temperature``: positive. ``item_bias``: Float[N], a constant; -inf leaves an item out for everybody.
    ``validate``: refuse excluded ids outside [-1, N), for which a GPU is waited for; on the CPU also a value that comes
    out NaN, naming the NaN or infinity that made it.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns Float[B], float32 at least, -inf where nothing is allowed. Differentiable to users and items (dense). One
    sweep over the catalogue gives the value and the gradient of users, a second one that of items; no [B, N] is made,
    save by the reference. The same bits in every run. NaN in a user's vector makes his value NaN.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    """
    check_tables(users, items)
    check_bias(item_bias, items)
    scale = scale_of(temperature)
    bounds, indices = exclusion(exclude, users, items.shape[0], validate=validate)
    chosen = choose("catalogue_logsumexp", backend, users.device.type)
    if chosen == "reference":
        value = reference.catalogue_logsumexp(users, items, bounds, indices, item_bias, scale=scale)
    else:
        value = _call(users, items, bounds, indices, item_bias, scale, chosen)
    if validate:
        tables = [("users", users, "items", items)]
        refuse_nan(value, lambda b: catalogue_reads(b, tables, bounds, indices, item_bias))
    return value


_call = define_catalogue("catalogue_logsumexp", "")
