"""Checks at the border of the ops: each names the values it got and what would have worked."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.ops._library import needs_gradient

IDS = (torch.int64, torch.int32)
"""Dtypes of ids."""
_NUMBERS = (int, float, np.integer, np.floating, torch.SymInt, torch.SymFloat)


def check_float(name: str, tensor: Tensor, axes: str) -> None:
    """Refuse anything but a floating-point tensor with as many dimensions as ``axes`` has words (``"B K"``)."""
    if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() == axes.count(" ") + 1:
        return
    _refuse(name, tensor, f"Float[{axes}]", isinstance(tensor, Tensor) and tensor.is_floating_point())


def check_seed(seed: object) -> None:
    """Refuse a root seed that is none, as :class:`fastkd.Seeds` does; a trace may have a symbol for it."""
    if not isinstance(seed, torch.SymInt):
        Seeds(int(seed) if isinstance(seed, np.integer) else seed)  # type: ignore[arg-type]


def check_number(name: str, value: object, *, positive: bool = False) -> float:
    """Return a constant of a loss as a float; refuse all but finite real numbers, above 0 if ``positive``.

    A tensor is refused whatever it holds: native kernels have no gradient for it, so no backend has one.
    """
    if isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a number, got a tensor; it is a constant of the loss and gets no gradient: "
            f"pass float({name})"
        )
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (0 if positive else -math.inf) < value < math.inf:
        raise ValueError(f"{name} must be a {'positive ' if positive else ''}finite number, got {value!r}")
    # A trace may have a symbol for it.
    return cast("float", value) if isinstance(value, (torch.SymInt, torch.SymFloat)) else float(value)


def check_integer(name: str, value: object) -> int:
    """Return an integer, also one of numpy's, as an int; refuse a bool, and a tensor, which would be waited for."""
    if type(value) is int:
        return value
    if isinstance(value, torch.SymInt):  # a trace may have a symbol for it
        return cast("int", value)
    if isinstance(value, (bool, np.bool_, Tensor)) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return operator.index(value)


def readable(*tensors: Tensor) -> bool:
    """Return whether there are values to look at: plain tensors, none of them meta, that nobody traces or batches."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    if not all(type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta for tensor in tensors):
        return False
    if not torch._C._are_functorch_transforms_active():
        return True
    return not any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors)


def check_ids(name: str, tensor: Tensor, axes: str) -> None:
    """Refuse anything but int64 or int32 ids with as many dimensions as ``axes`` has words."""
    if isinstance(tensor, Tensor) and tensor.dtype in IDS and tensor.dim() == axes.count(" ") + 1:
        return
    _refuse(name, tensor, f"Int64[{axes}] (or int32)", isinstance(tensor, Tensor) and tensor.dtype in IDS)


def _refuse(name: str, tensor: Tensor, wanted: str, right_dtype: bool) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor {wanted}, got {type(tensor).__name__}")
    if not right_dtype:
        raise TypeError(f"{name} must be {wanted}, got {tensor.dtype}")
    raise ValueError(f"{name} must be {wanted}, got shape {list(tensor.shape)}")


def check_rows(first: str, a: Tensor, second: str, b: Tensor) -> None:
    """Refuse two tensors of different length, or on different devices."""
    if a.shape[0] != b.shape[0]:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise ValueError(f"{first} and {second} must have the same number of rows, got {shapes}")
    check_device(first, a, second, b)


def check_device(first: str, a: Tensor, second: str, b: Tensor) -> None:
    """Refuse two tensors on different devices."""
    if a.device != b.device:
        raise ValueError(f"{first} and {second} must be on the same device, got {a.device} and {b.device}")


def check_one_dtype(first: str, a: Tensor, second: str, b: Tensor) -> None:
    """Refuse two tables of different dtypes, save under autocast, which makes some of them half precision."""
    if a.dtype != b.dtype and not torch.is_autocast_enabled(a.device.type):
        raise TypeError(
            f"{first} and {second} must have one dtype, got {first} {a.dtype} and {second} {b.dtype}; convert one of "
            f"them, for example {first}.to({b.dtype})"
        )


def check_constant(name: str, tensor: Tensor | None, like_name: str, like: Tensor) -> None:
    """Refuse an optional constant (weights, targets) of another shape or device, or one that wants a gradient."""
    if tensor is None:
        return
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name} must be a floating-point tensor shaped like {like_name}, got {got}")
    if tensor.shape != like.shape:
        raise ValueError(f"{name} must be shaped like {like_name}, {list(like.shape)}, got {list(tensor.shape)}")
    check_device(like_name, like, name, tensor)
    if needs_gradient(tensor):
        raise ValueError(f"{name} is a constant of this loss and gets no gradient; pass {name}.detach()")


def check_range(name: str, ids: Tensor, num_items: int) -> None:
    """Refuse ids outside [-1, num_items); reads the ids, so it waits for the device; left out where nobody can."""
    if ids.numel() == 0 or not readable(ids):
        return
    low, high = ids.aminmax()
    if int(low) < -1 or int(high) >= num_items:
        wrong = int(low) if int(low) < -1 else int(high)
        raise ValueError(f"{name} holds {wrong}, outside [0, {num_items}) and not -1 (padding)")
