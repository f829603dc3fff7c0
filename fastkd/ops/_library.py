"""Native ops in the ``torch.library`` namespace ``fastkd``: the profiler, ``torch.compile`` and export see them.

Only native implementations (numba, triton) are torch ops. The reference is plain torch, called as it is: its gradient
is autograd's own, the compiler traces into it, and it can be differentiated twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastkd.core.errors import BackendError
from fastkd.ops._dispatch import choose, kernel

NAMESPACE = "fastkd"
Op = Callable[..., Any]
_LAUNCHERS: dict[tuple[str, str, torch.device, str | None], Op] = {}
_PLAIN = (Tensor, torch.nn.Parameter)
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def define(schema: str, *, implementation: Op, fake: Op, autograd: Op | None = None) -> Op:
    """Define ``fastkd::<schema>`` and return it, callable (``torch.ops.fastkd.<name>.default``).

    ``schema``: torch schema without the namespace, e.g. ``"f(Tensor x, str backend) -> Tensor"``.
    ``implementation``: the launcher; runs on real tensors of any device, usually through :func:`launch`.
    ``fake``: same arguments; returns empty tensors of the right shape, dtype and strides, and reads no values.
    ``autograd``: same arguments; wraps an ``autograd.Function`` whose forward calls the op :func:`below_autograd`.
    None for ops without a gradient: their results require none.
    """
    name = schema.split("(", 1)[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, implementation, device)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    if autograd is not None:
        _LIBRARY.impl(name, autograd, "Autograd")  # type: ignore[no-untyped-call]
    op: Op = getattr(getattr(torch.ops, NAMESPACE), name).default
    return op


def shortcut(op: Op, autograd: Op) -> Op:
    """Return a callable like ``op`` that saves the dispatcher's first hop (4 microseconds) in eager mode.

    The dispatcher would only call ``autograd``, the wrapper ``op`` was defined with. The compiler sees ``op``.
    """

    def call(*args: Any) -> Any:
        return op(*args) if torch.compiler.is_compiling() else autograd(*args)

    return call


def below_autograd() -> Any:
    """Return a context in which an op runs its implementation and not its autograd wrapper."""
    return torch._C._AutoDispatchBelowAutograd()


def record(function: type[torch.autograd.Function], *args: Any) -> Any:
    """Return ``function.apply(*args)``, without its look at every argument: no ``torch.func`` transform may run."""
    if torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            "native fastkd ops have no gradient under functorch transforms (torch.func.grad, vmap, jvp, ...); call the "
            "op with backend='reference' and without sparse_grad"
        )
    return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]


def unwatched(*tensors: Tensor | None) -> bool:
    """Return whether nobody would miss torch's operators: no mode, tensor subclass, ``torch.func`` or forward mode."""
    return (
        all(tensor is None or type(tensor) in _PLAIN for tensor in tensors)
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def quick(op: Op, implementation: Op) -> Op:
    """Return a callable like ``op`` below autograd that saves the dispatcher's way (5 microseconds) in eager mode.

    The dispatcher would only call ``implementation``. Whoever watches it (compiler, profiler, a dispatch mode, a tensor
    subclass) sees ``op``.
    """

    def call(*args: Any) -> Any:
        if (
            type(args[0]) in _PLAIN
            and not torch.compiler.is_compiling()
            and not torch._C._len_torch_dispatch_stack()
            and not torch._C._are_functorch_transforms_active()
            and not torch._C._autograd._profiler_enabled()
        ):
            return implementation(*args)
        with below_autograd():
            return op(*args)

    return call


def launch(op: str, backend: str, device: torch.device, function: str | None = None) -> Op:
    """Return the launcher ``function`` (default: the op's own name) of the native kernel chosen for ``op``."""
    key = (op, backend, device, function)
    launcher = _LAUNCHERS.get(key)
    if launcher is None:
        launcher = _LAUNCHERS[key] = _launcher(op, backend, device, function)
    return launcher


def _launcher(op: str, backend: str, device: torch.device, function: str | None) -> Op:
    chosen = choose(op, backend, device.type)
    if chosen == "reference":
        raise BackendError(
            f"torch.ops.{NAMESPACE}.{op} runs native kernels, and backend={backend!r} on {device.type} is the "
            f"reference; call fastkd.ops.{op}, which runs it too"
        )
    launcher: Op = getattr(kernel(op, chosen), function or op)
    return _on(device, launcher) if device.type == "cuda" and torch.cuda.device_count() > 1 else launcher


def _on(device: torch.device, launcher: Op) -> Op:
    # Triton starts kernels on the current device and its stream, wherever their tensors are.
    @functools.wraps(launcher)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with torch.cuda.device(device):
            return launcher(*args, **kwargs)

    return guarded


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype an op computes in and returns: that of its floats, float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Return whether autograd records a call with these tensors, or forward mode would carry their tangents on."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    # Below autograd a tangent would be lost without a word; an ``autograd.Function`` without one refuses it.
    return forward_ad._current_level >= 0 and any(
        tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
        for tensor in tensors
    )


def define_row_loss(schema: str, *, differentiable: int) -> Callable[..., Tensor]:
    """Define a loss that is one number per row, with its gradient made by the forward pass.

    ``schema``: ``"name(Tensor a, ..., bool gradient, str backend) -> (Tensor, ...)"``; the first ``differentiable``
    arguments get a gradient. Results: the loss, Float[rows], then one *unit gradient* (for an upstream gradient of 1)
    per differentiable argument, empty where ``gradient`` is false. Where autograd records the call, it asks for the
    unit gradients itself and keeps them. Returns the op cut down to its loss.
    Launcher: ``kernels/<backend>/<name>.py: name(a, ..., gradient=) -> (loss, unit gradient, ...)``.
    """
    name = schema.split("(", 1)[0]

    def implementation(*args: Any) -> tuple[Tensor, ...]:
        *values, gradient, backend = args
        results: tuple[Tensor, ...] = launch(name, backend, values[0].device)(*values, gradient=gradient)
        return results

    def fake(*args: Any) -> tuple[Tensor, ...]:
        dtype, gradient = compute_dtype(*args[:differentiable]), args[-2]
        units = [t.new_empty(t.shape if gradient else [0] * t.dim(), dtype=dtype) for t in args[:differentiable]]
        return args[0].new_empty(args[0].shape[:1], dtype=dtype), *units

    def autograd(*args: Any) -> Any:
        scores = args[:differentiable]
        if not needs_gradient(*scores):
            with below_autograd():
                return op(*args)
        dtype = compute_dtype(*scores)
        return loss_of(*args), *[t.new_empty([0] * t.dim(), dtype=dtype) for t in scores]

    def loss_of(*args: Any) -> Any:
        if needs_gradient(*args[:differentiable]):
            return record(_RowLoss, direct, args[differentiable:], *args[:differentiable])[0]
        return direct(*args)[0]

    op = define(schema, implementation=implementation, fake=fake, autograd=autograd)
    direct = quick(op, implementation)
    return shortcut(lambda *args: op(*args)[0], loss_of)


def once(backward: Op) -> Op:
    """Make a native ``backward`` run outside autograd and refuse, rather than drop, second derivatives.

    The function must have saved every input that may want a gradient, or a :func:`handle` among its results: the
    refusal hangs on them. On a leaf of its own, as that of ``torch.autograd.function.once_differentiable``, it is not
    on the way from a gradient to an input, and ``autograd.grad`` or a Hessian would find 0.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, *upstream: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            gradients = backward(ctx, *upstream)
        # The compiler refuses second derivatives by itself.
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return tuple(gradients)
        ways = [t for t in (*ctx.saved_tensors, *upstream) if t is not None and t.requires_grad]
        return tuple(None if g is None else _Once.apply(g, *ways) for g in gradients)  # type: ignore[no-untyped-call]

    return wrapper


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *ways: Tensor) -> Tensor:
        return gradient.detach() if gradient.is_sparse else gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError("native fastkd ops have no second derivative; call the op with backend='reference'")


def handle(like: Tensor) -> Tensor:
    """Return a further, empty result of a function that keeps none of its inputs, to be saved: see :func:`once`.

    It holds no memory, and nobody can change it in place, as a loss may be.
    """
    return like.new_empty(0)


class _RowLoss(torch.autograd.Function):
    """Forward keeps the unit gradients; backward scales each row by what comes from above."""

    @staticmethod
    def forward(ctx: Any, op: Op, constants: tuple[Any, ...], *scores: Tensor) -> Any:
        *others, _, backend = constants
        results = op(*scores, *others, True, backend)
        end = handle(results[0])
        ctx.save_for_backward(*results[1:], end)
        ctx.dtypes = [t.dtype for t in scores]
        return results[0], end

    @staticmethod
    @once
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> Any:
        needed = zip(ctx.needs_input_grad[2:], ctx.saved_tensors[:-1], ctx.dtypes, strict=True)
        return None, None, *[scale_rows(unit, upstream, dtype) if need else None for need, unit, dtype in needed]


def scale_rows(unit: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``upstream[b] * unit[b, ...]`` in ``dtype``."""
    return (unit * upstream.reshape(-1, *[1] * (unit.dim() - 1))).to(dtype)
