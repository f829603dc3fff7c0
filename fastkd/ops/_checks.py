"""Checks at the border of the ops: each names the values it got and what would have worked."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastkd.core.errors import ConfigError
from fastkd.ops._library import needs_gradient

IDS = (torch.int64, torch.int32)
"""Dtypes of ids."""


def check_float(name: str, tensor: Tensor, axes: str) -> None:
    """Refuse anything but a floating-point tensor with as many dimensions as ``axes`` has words (``"B K"``)."""
    if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() == axes.count(" ") + 1:
        return
    _refuse(name, tensor, f"Float[{axes}]", isinstance(tensor, Tensor) and tensor.is_floating_point())


def check_seed(seed: object) -> None:
    """Refuse a root seed that is none, in the words of :class:`fastkd.Seeds`; a trace may have a symbol for it."""
    if isinstance(seed, torch.SymInt):
        return
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be an integer in [0, 2**63), got {seed!r}")


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
    """Refuse ids outside [-1, num_items); reads the ids, so it waits for the device, and is left out of a trace."""
    if torch.compiler.is_compiling() or ids.numel() == 0:
        return
    low, high = ids.aminmax()
    if int(low) < -1 or int(high) >= num_items:
        wrong = int(low) if int(low) < -1 else int(high)
        raise ValueError(f"{name} holds {wrong}, outside [0, {num_items}) and not -1 (padding)")
