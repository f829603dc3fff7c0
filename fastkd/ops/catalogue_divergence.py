"""Divergences between two softmaxes over the whole catalogue, student and teacher given by embeddings."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.kernels.reference import catalogue_divergence as reference
from fastkd.ops._catalogue import Exclude, check_tables, exclusion, scale_of
from fastkd.ops._checks import check_device
from fastkd.ops._dispatch import choose
from fastkd.ops._library import below_autograd, compute_dtype, define, launch, needs_gradient, once, record, shortcut
from fastkd.ops._refuse import catalogue_reads, refuse_nan

Kind = Literal["cross_entropy", "forward_kl", "reverse_kl", "jensen_shannon"]
KINDS = ("cross_entropy", "forward_kl", "reverse_kl", "jensen_shannon")


def catalogue_divergence(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    kind: Kind = "forward_kl",
    temperature: float = 1.0,
    exclude: Exclude = None,
    validate: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return how far p_b, the student's softmax over the allowed items, is from q_b, the teacher's.

    With ``s_bi = <users_b, items_i> / temperature`` of each, ``p_b = softmax(s)``, ``q_b = softmax(t)``, m = (p + q)/2:

    * ``"cross_entropy"``: ``-sum_i q log p`` (ListNet over the catalogue)
    * ``"forward_kl"``: ``sum_i q log(q / p)``; its gradients are those of the cross entropy
    * ``"reverse_kl"``: ``sum_i p log(p / q)``
    * ``"jensen_shannon"``: ``(KL(p || m) + KL(q || m)) / 2``, at most log 2

    ``student``: (users Float[B, D], items Float[N, D]). ``teacher``: (users Float[B, E], items Float[N, E]), constants,
    of any width; row b and item i mean the same in both. An item bias is one more dimension: a column of ones in users,
    the bias times ``temperature`` in items.
    ``temperature``: positive, divides the scores of both; there is no factor T^2.
    ``exclude``, ``validate``, ``backend``: as in :func:`fastkd.ops.catalogue_logsumexp`.

    Returns Float[B], float32 at least; 0 where nothing is allowed. Differentiable to the student's tables. Scores of
    both are made again tile by tile; no [B, N] is made, save by the reference. The same bits in every run.

    Raises TypeError, ValueError: tensors that do not fit, ids out of range. BackendError: a backend that cannot run.
    Sources: Cao et al. 2007 (ListNet); Lin 1991 (Jensen-Shannon); Gu et al. 2024 (arXiv 2306.08543, reverse KL).
    """
    tables = (*_pair("student", student), *_pair("teacher", teacher))
    _check(*tables)
    check_kind(kind)
    scale = scale_of(temperature)
    bounds, indices = exclusion(exclude, tables[0], tables[1].shape[0], validate=validate)
    chosen = choose("catalogue_divergence", backend, tables[0].device.type)
    if chosen == "reference":
        loss = reference.catalogue_divergence(*tables, bounds, indices, kind=kind, scale=scale)
    else:
        loss = _call(*tables, bounds, indices, kind, scale, chosen)
    if validate:
        pairs = [(f"{who} users", users, f"{who} items", items)
                 for who, (users, items) in (("student", student), ("teacher", teacher))]  # fmt: skip
        refuse_nan(loss, lambda b: catalogue_reads(b, pairs, bounds, indices))
    return loss


def check_kind(kind: str) -> None:
    """Refuse the name of a divergence that there is not."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}.{did_you_mean(str(kind), KINDS)} Known: {', '.join(KINDS)}")


def _pair(name: str, tables: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(tables, (tuple, list)) or len(tables) != 2:
        raise TypeError(f"{name} must be a pair (users, items), got {type(tables).__name__}")
    return tables[0], tables[1]


def _check(users: Tensor, items: Tensor, teacher_users: Tensor, teacher_items: Tensor) -> None:
    check_tables(users, items, ("student users", "student items"))
    check_tables(teacher_users, teacher_items, ("teacher users", "teacher items"))
    check_device("student users", users, "teacher users", teacher_users)
    for what, ours, theirs in (("users", users, teacher_users), ("items", items, teacher_items)):
        if ours.shape[0] != theirs.shape[0]:
            counts = f"{ours.shape[0]} and {theirs.shape[0]}"
            raise ValueError(f"student and teacher must have the same {what}, got {counts}")
        if needs_gradient(theirs):
            raise ValueError(f"teacher {what} are constants of this loss and get no gradient; pass them detached")


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, constants: tuple[Any, ...], users: Tensor, items: Tensor) -> Any:
        *tensors, kind, scale, backend = constants
        with below_autograd():
            loss, stats = _native(users, items, *constants)
        ctx.save_for_backward(users, items, *tensors, stats)
        ctx.options = kind, scale, backend
        return loss

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor) -> Any:
        need_users, need_items = ctx.needs_input_grad[1:]
        kind, scale, backend = ctx.options
        grads = _native_backward(upstream, *ctx.saved_tensors, kind, scale, need_users, need_items, backend)
        return None, grads[0] if need_users else None, grads[1] if need_items else None


def _loss(users: Tensor, items: Tensor, *constants: Any) -> Any:
    if needs_gradient(users, items):
        return record(_Divergence, constants, users, items)
    with below_autograd():
        return _native(users, items, *constants)[0]


def _autograd(users: Tensor, items: Tensor, *constants: Any) -> Any:
    if needs_gradient(users, items):
        loss = _loss(users, items, *constants)
        return loss, loss.new_zeros((6, loss.shape[0]))
    with below_autograd():
        return _native(users, items, *constants)


def _launch(*arguments: Any) -> Any:
    *tensors, kind, scale, backend = arguments
    return launch("catalogue_divergence", backend, tensors[0].device)(*tensors, kind=kind, scale=scale)


def _launch_backward(*arguments: Any) -> Any:
    *tensors, kind, scale, need_users, need_items, backend = arguments
    launcher = launch("catalogue_divergence", backend, tensors[0].device, "catalogue_divergence_backward")
    return launcher(*tensors, kind=kind, scale=scale, need_users=need_users, need_items=need_items)


def _fake(users: Tensor, items: Tensor, teacher_users: Tensor, teacher_items: Tensor, *_: Any) -> Any:
    dtype = compute_dtype(users, items, teacher_users, teacher_items)
    return users.new_empty(users.shape[:1], dtype=dtype), users.new_empty((6, users.shape[0]), dtype=dtype)


def _fake_backward(upstream: Tensor, users: Tensor, items: Tensor, *others: Any) -> Any:
    need_users, need_items = others[-3:-1]
    user_shape, item_shape = users.shape if need_users else (0, 0), items.shape if need_items else (0, 0)
    return users.new_empty(user_shape), items.new_empty(item_shape)


_TABLES = "Tensor users, Tensor items, Tensor teacher_users, Tensor teacher_items, Tensor? bounds, Tensor? indices, "
_native = define(
    f"catalogue_divergence({_TABLES}str kind, float scale, str backend) -> (Tensor, Tensor)",
    implementation=_launch,
    fake=_fake,
    autograd=_autograd,
)
_call = shortcut(lambda *arguments: _native(*arguments)[0], _loss)
_native_backward = define(
    f"catalogue_divergence_backward(Tensor upstream, {_TABLES}Tensor stats, str kind, float scale, bool need_users,"
    " bool need_items, str backend) -> (Tensor, Tensor)",
    implementation=_launch_backward,
    fake=_fake_backward,
)
