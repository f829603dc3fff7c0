"""ListNet's cross entropy from vectors: gather, inner products, loss and the user's gradient in one pass.

Cao et al., "Learning to rank: from pairwise approach to listwise approach" (ICML'07); see ``listnet``.
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import listnet_from_embeddings as reference
from fastkd.ops._checks import check_constant, check_number, check_range
from fastkd.ops._dispatch import choose
from fastkd.ops._listwise import check_tables, define_listwise
from fastkd.ops._refuse import list_reads, refuse_empty, refuse_nan
from fastkd.ops.gather_dot import gather_dot
from fastkd.ops.listnet import listnet

_native = define_listwise("listnet_from_embeddings", "Tensor ids, Tensor teacher, float temperature", lists=1)


def listnet_from_embeddings(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    validate: bool = True,
    sparse_grad: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return :func:`fastkd.ops.listnet` of the inner products of users with their listed items.

    ``loss_b = -sum_c softmax(t_b / T)_c log softmax(s_b / T)_c`` with ``s_bc = <users_b, items_i>``, ``i = ids[b, c]``.

    ``users``: Float[B, D], one vector per row. ``items``: Float[N, D], the whole table.
    ``ids``: Int64[B, C] (or int32), the list; -1 is padding. An id listed twice has two places.
    ``teacher``: t, Float[B, C], the teacher's scores; -inf is padding. A constant.
    ``temperature``: T > 0.
    ``validate``: refuse C = 0 and ids outside [-1, N), see :func:`fastkd.ops.gather_dot`; on the CPU also a loss that
    comes out NaN, naming the NaN or infinity that made it.
    ``sparse_grad``: give ``items``, a leaf parameter, a row-sparse gradient; see :func:`fastkd.ops.gather_dot`.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns Float[B] in the dtype of the tables, float32 at least. Nothing of size B x C x D is made, save by the
    reference. Gradients have the same bits in every run.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    """
    check_tables(users, items, ("ids", ids, "B C"))
    check_constant("teacher", teacher, "ids", ids)
    temperature = check_number("temperature", temperature, positive=True)
    chosen = choose("listnet_from_embeddings", backend, users.device.type)
    if validate:
        refuse_empty("ids", ids)
    if chosen == "reference":
        loss = _reference(users, items, ids, teacher, temperature, validate=validate, sparse_grad=sparse_grad)
    else:
        loss = _native(users, items, ids, teacher, temperature, validate, chosen, sparse_grad=sparse_grad)
    if validate:
        refuse_nan(loss, lambda b: list_reads(b, users, items, [("ids", ids)], [("teacher", teacher, ids)]))
    return loss


def _reference(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, temperature: float, *, validate: bool, sparse_grad: bool
) -> Tensor:
    if validate:
        check_range("ids", ids, items.shape[0])
    if not sparse_grad:
        return reference.listnet_from_embeddings(users, items, ids, teacher, temperature)
    scores = gather_dot(users, items, ids, validate=False, sparse_grad=True, backend="reference")
    return listnet(scores, teacher, temperature=temperature, backend="reference")
