"""Optimisers over the student's parameters and the groups a method trains beside it.

Measured on two cores with 25 000 x 400 float32 parameters: fused Adam steps several times faster than the
``foreach`` form and tens of times faster than the loop over single operations, so fused is taken wherever torch has
it. Gradients are dropped after a step (``set_to_none``): the backward pass then writes a fresh one instead
of adding to a zeroed one, which halves its traffic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastkd.core.errors import ConfigError
from fastkd.distillation.method import OptimizerGroup
from fastkd.training.config import TrainingConfig
from fastkd.training.row_optimisers import RowAdagrad, RowAdam, RowOptimizer, RowSGD

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
_ROW_CLASSES: dict[str, Callable[..., RowOptimizer]] = {
    "row_adam": RowAdam,
    "row_adamw": functools.partial(RowAdam, decoupled=True),
    "row_adagrad": RowAdagrad,
    "row_sgd": RowSGD,
}
_FUSED_DEVICES = ("cpu", "cuda")

STUDENT = "student"
"""Name of the first group."""


def build_optimizer(
    student: nn.Module, groups: Iterable[OptimizerGroup], config: TrainingConfig
) -> torch.optim.Optimizer:
    """Return one optimiser whose first group is the student, then the method's groups in order.

    ``groups``: a ``None`` learning rate or weight decay takes the student's. Raises ``ConfigError`` for a
    group name used twice, a parameter in two groups, or nothing to train.
    """
    param_groups = [_group(STUDENT, [p for p in student.parameters() if p.requires_grad], config, None)]
    param_groups += [_group(g.name, g.parameters, config, g) for g in groups]
    _check_groups(param_groups)
    parameters = [p for group in param_groups for p in group["params"]]
    if not parameters:
        raise ConfigError("nothing to train: neither the student nor the method has a parameter that requires grad")
    # An empty group (a method without projectors) is legal for torch, but it would only confuse a checkpoint.
    kept = [group for group in param_groups if group["params"]]
    if config.optimizer in _ROW_CLASSES:
        return _ROW_CLASSES[config.optimizer](kept, lr=config.lr)
    return _CLASSES[config.optimizer](kept, lr=config.lr, fused=fused_is_supported(parameters))  # type: ignore[call-arg]


def fused_is_supported(parameters: Iterable[Tensor]) -> bool:
    """Return whether torch's fused kernels take these parameters."""
    return all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in parameters)


def clip_groups(optimizer: torch.optim.Optimizer, clip_norm: float) -> dict[str, Tensor]:
    """Scale each group's gradient to a norm of at most ``clip_norm``.

    Groups are clipped apart, so that a projector's large gradient does not slow the student. Returns group
    name -> norm before clipping, Float[Tensor, ""], on the device.
    """
    norms = {}
    for group in optimizer.param_groups:
        parameters = [p for p in group["params"] if p.grad is not None]
        if parameters:
            norms[str(group["name"])] = nn.utils.clip_grad_norm_(parameters, clip_norm)
    return norms


def _group(
    name: str, parameters: list[nn.Parameter], config: TrainingConfig, given: OptimizerGroup | None
) -> dict[str, Any]:
    lr = given.lr if given is not None and given.lr is not None else config.lr
    decay = given.weight_decay if given is not None and given.weight_decay is not None else config.weight_decay
    return {"name": name, "params": parameters, "lr": lr, "weight_decay": decay}


def _check_groups(groups: list[dict[str, Any]]) -> None:
    owner: dict[int, str] = {}
    names: set[str] = set()
    for group in groups:
        if group["name"] in names:
            raise ConfigError(f"two optimiser groups are called {group['name']!r}; names must differ")
        names.add(group["name"])
        for parameter in group["params"]:
            if id(parameter) in owner:
                first = owner[id(parameter)]
                raise ConfigError(
                    f"a parameter of shape {tuple(parameter.shape)} is in the optimiser groups {first!r} and "
                    f"{group['name']!r}; each belongs to one"
                )
            owner[id(parameter)] = group["name"]
