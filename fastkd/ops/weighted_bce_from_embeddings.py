"""Binary cross entropy from vectors: gather, inner products, loss and the user's gradient in one pass."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import weighted_bce_from_embeddings as reference
from fastkd.ops._checks import check_constant, check_range
from fastkd.ops._dispatch import choose
from fastkd.ops._listwise import check_tables, define_listwise
from fastkd.ops._refuse import PROBABILITY, WEIGHT, list_reads, refuse_empty, refuse_nan, refuse_outside
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.weighted_bce import weighted_bce

_native = define_listwise("weighted_bce_from_embeddings", "Tensor ids, Tensor targets, Tensor? weights", lists=1)


def weighted_bce_from_embeddings(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return :func:`fastkd.ops.weighted_bce` of the inner products of users with their listed items.

    ``users``: Float[B, D]. ``items``: Float[N, D], the whole table. ``ids``: Int64[B, C] (or int32); -1 is padding.
    ``targets``, ``weights``: Float[B, C], see :func:`fastkd.ops.weighted_bce`.
    ``validate``: refuse C = 0 and ids outside [-1, N), see :func:`fastkd.ops.gather_dot`; on the CPU also targets
    outside [0, 1] (1e-3 above is let pass), negative weights, and a loss that comes out NaN, naming the NaN or infinity
    that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.

    Returns Float[B]. Raises what :func:`fastkd.ops.weighted_bce` and :func:`fastkd.ops.gather_dot` raise.
    """
    check_tables(users, items, ("ids", ids, "B C"))
    check_constant("targets", targets, "ids", ids)
    check_constant("weights", weights, "ids", ids)
    chosen = choose("weighted_bce_from_embeddings", backend, users.device.type)
    if validate:
        refuse_empty("ids", ids)
        refuse_outside("targets", targets, PROBABILITY, lambda: ids >= 0)
        refuse_outside("weights", weights, WEIGHT, lambda: ids >= 0)
    if chosen == "reference":
        rows = _reference(users, items, ids, targets, weights, validate=validate, sparse_grad=sparse_grad)
    else:
        rows = _native(users, items, ids, targets, weights, validate, chosen, sparse_grad=sparse_grad)
    if validate:
        constants = [("targets", targets, ids), ("weights", weights, ids)]
        refuse_nan(rows, lambda b: list_reads(b, users, items, [("ids", ids)], constants))
    return rows


def _reference(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None,
    *, validate: bool, sparse_grad: bool,
) -> Tensor:  # fmt: skip
    if validate:
        check_range("ids", ids, items.shape[0])
    if not sparse_grad:
        return reference.weighted_bce_from_embeddings(users, items, ids, targets, weights)
    scores = gather_dot(users, items, ids, validate=False, sparse_grad=True, backend="reference")
    return weighted_bce(scores, targets, weights=weights, backend="reference")
