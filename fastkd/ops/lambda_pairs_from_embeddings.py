"""Lambda-weighted pairs from vectors: gather, inner products, loss and the user's gradient in one pass.

Burges, "From RankNet to LambdaRank to LambdaMART: an overview" (MSR-TR-2010-82); see ``lambda_pairs``.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from fastkd.kernels.reference import lambda_pairs_from_embeddings as reference
from fastkd.ops._checks import check_constant, check_number, check_range
from fastkd.ops._dispatch import choose
from fastkd.ops._listwise import check_tables, define_listwise
from fastkd.ops._refuse import WEIGHT, list_reads, refuse_empty, refuse_nan, refuse_outside
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.lambda_pairs import READS_GAINS, PairWeights, check_pairs, lambda_pairs

_native = define_listwise(
    "lambda_pairs_from_embeddings",
    "Tensor ids, Tensor? gains, Tensor? pair_weights, str weights, float sigma",
    lists=1,
)


def lambda_pairs_from_embeddings(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    gains: Tensor | None = None,
    *,
    weights: PairWeights | Tensor = "lambdarank",
    sigma: float = 1.0,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return :func:`fastkd.ops.lambda_pairs` of the inner products of users with their listed items.

    ``users``: Float[B, D]. ``items``: Float[N, D], the whole table. ``ids``: Int64[B, K] (or int32), best first; -1 is
    padding, repeated ids are allowed. ``gains``, ``weights``, ``sigma``: see :func:`fastkd.ops.lambda_pairs`.
    ``validate``: refuse K = 0 and ids outside [-1, N), see :func:`fastkd.ops.gather_dot`; on the CPU also negative
    gains, where they mean something, and a loss that comes out NaN, naming the NaN or infinity that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.

    Returns Float[B]. Raises what :func:`fastkd.ops.lambda_pairs` and :func:`fastkd.ops.gather_dot` raise.
    """
    check_tables(users, items, ("ids", ids, "B K"))
    check_constant("gains", gains, "ids", ids)
    kind, given = check_pairs(weights, "ids", ids)
    sigma = check_number("sigma", sigma, positive=True)
    chosen = choose("lambda_pairs_from_embeddings", backend, users.device.type)
    if validate:
        refuse_empty("ids", ids)
        if kind in READS_GAINS:
            refuse_outside("gains", gains, WEIGHT, lambda: ids >= 0)
    if chosen == "reference":
        rows = _reference(
            users, items, ids, gains, given, kind, sigma, validate=validate, sparse_grad=sparse_grad
        )  # fmt: skip
    else:
        rows = _native(users, items, ids, gains, given, kind, sigma, validate, chosen, sparse_grad=sparse_grad)
    if validate:
        refuse_nan(rows, lambda b: list_reads(b, users, items, [("ids", ids)], [("gains", gains, ids)]))
    return rows


def _reference(
    users: Tensor, items: Tensor, ids: Tensor, gains: Tensor | None, given: Tensor | None, kind: str, sigma: float,
    *, validate: bool, sparse_grad: bool,
) -> Tensor:  # fmt: skip
    if validate:
        check_range("ids", ids, items.shape[0])
    if not sparse_grad:
        return reference.lambda_pairs_from_embeddings(users, items, ids, gains, given, weights=kind, sigma=sigma)
    scores = gather_dot(users, items, ids, validate=False, sparse_grad=True, backend="reference")
    weights = cast("PairWeights", kind) if given is None else given
    return lambda_pairs(scores, gains, weights=weights, sigma=sigma, backend="reference")
