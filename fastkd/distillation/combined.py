"""Several methods at once, as ``"de+rrd"``: one loss, each part as it would be alone.

The pair DE + RRD is DE-RRD: Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.distillation.checks import not_negative, one_of
from fastkd.distillation.cost import Cost, Shape, Work
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import JOINT, METHODS, LossParts, Method, OptimizerGroup, Outlook, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class CombinedConfig:
    """Options of a combination.

    ``methods``: part -> its own options, weights among them; a part left out has its defaults. ``weight`` multiplies
    the sum of the parts. ``reduction``: given to every part; None leaves each its own.
    """

    names: ClassVar[tuple[str, ...]] = ()
    weight: float = 1.0
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reduction: Reduction | None = None

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        if self.reduction is not None:
            one_of("reduction", self.reduction, ("sum", "mean"))
        unknown = sorted(set(self.methods) - set(self.names))
        if unknown:
            raise ConfigError(f"methods.{unknown[0]} is no part of {JOINT.join(self.names)}")
        shared = {} if self.reduction is None else {"reduction": self.reduction}
        made = {}
        for name in self.names:
            kind: Any = METHODS.get(name)
            options = {**self.methods.get(name, {}), **shared}
            made[name] = to_mapping(from_mapping(kind.config_type, options, path=f"methods.{name}"))
        object.__setattr__(self, "methods", made)


class Combined(Method):
    """``kd = weight * sum of the parts' kd``; a part draws, refreshes and trains what it would alone.

    The base loss counts where all parts want it. The student's negatives may come from one part at most. Reported: the
    parts' own terms, ``share_NAME`` of each in the sum of all. Subclasses, one per tuple of parts, come from
    :func:`combination`.
    """

    config_type: ClassVar[type[CombinedConfig]] = CombinedConfig
    config: CombinedConfig

    def __init__(self, config: CombinedConfig, seeds: Seeds) -> None:
        super().__init__(config, seeds)
        self.parts: dict[str, Method] = {}
        for name, options in config.methods.items():
            kind: Any = METHODS.get(name)
            self.parts[name] = kind(from_mapping(kind.config_type, options), seeds)

    @classmethod
    def cost(cls, config: CombinedConfig, at: Shape) -> Cost | None:
        """Return the sum of the parts' costs; refreshes are spread over the epochs of the most frequent one."""
        costs = []
        for name, options in config.methods.items():
            kind: Any = METHODS.get(name)
            found = kind.cost(from_mapping(kind.config_type, options), at)
            if found is None:
                return None
            costs.append(found)
        every = min((c.every for c in costs if c.every > 0), default=0)
        refresh = sum((c.refresh * (every / c.every) for c in costs if c.every > 0), Work())
        step, prepare = (sum((getattr(c, part) for c in costs), Work()) for part in ("step", "prepare"))
        return Cost(step=step, prepare=prepare, refresh=refresh, every=every, memory=sum(c.memory for c in costs))

    def outlook(self, teacher: Teacher, student: Recommender, train: Interactions, *, device: str) -> Outlook | None:
        """Return the outlook of the part whose refresh takes longest."""
        found = [part.outlook(teacher, student, train, device=device) for part in self.parts.values()]
        return max((o for o in found if o is not None), key=lambda o: o.seconds, default=None)

    def remarks(self, teacher: Teacher, train: Interactions) -> tuple[str, ...]:
        """Return the parts' remarks."""
        return tuple(f"{name}: {text}" for name, part in self.parts.items() for text in part.remarks(teacher, train))

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Prepare each part; a teacher must do for all."""
        for part in self._heard():
            part.prepare(teacher, student, train, epochs=epochs)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Begin the epoch of each part."""
        for part in self._heard():
            part.begin_epoch(epoch, student)

    def _heard(self) -> list[Method]:
        """Return the parts, told where to report progress."""
        for part in self.parts.values():
            part.progress = self.progress
        return list(self.parts.values())

    def loss(self, step: Step) -> LossParts:
        """Return weight * the sum, the parts' terms, and the share of each part."""
        found = {name: part.loss(step) for name, part in self.parts.items()}
        kd = torch.stack([one.kd.float() if one.kd.dtype != torch.float64 else one.kd for one in found.values()])
        sizes = kd.detach().abs()
        shares = sizes / sizes.sum().clamp(min=torch.finfo(sizes.dtype).tiny)
        parts: dict[str, Tensor] = {f"share_{name}": share for name, share in zip(found, shares.unbind(), strict=True)}
        for one in found.values():
            parts |= one.parts
        return LossParts(kd=self.config.weight * kd.sum(), parts=parts)

    @property
    def uses_base_loss(self) -> bool:
        """Whether all parts train beside the base loss."""
        return all(part.uses_base_loss for part in self.parts.values())

    def negatives(self, epoch: int) -> NDArray[Any] | None:
        """Return the negatives of the part that has some; two such parts are refused."""
        found = {name: ids for name, part in self.parts.items() if (ids := part.negatives(epoch)) is not None}
        if len(found) > 1:
            raise ConfigError(f"{' and '.join(found)} both replace the student's negatives; one of them may")
        return next(iter(found.values()), None)

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the parts' groups, whose names begin with their method's."""
        return [group for part in self.parts.values() for group in part.optimizer_groups()]

    def modules(self) -> dict[str, nn.Module]:
        """Return the parts' modules, each part's names behind its own."""
        return {f"{name}_{key}": module for name, part in self.parts.items() for key, module in part.modules().items()}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the parts' states, ``NAME/key``."""
        return {f"{name}/{key}": v for name, part in self.parts.items() for key, v in part.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`, after ``prepare``; a key of no part is refused."""
        foreign = sorted(key for key in state if key.partition("/")[0] not in self.parts)
        if foreign:
            raise ValueError(f"{self.name} has no part that kept {foreign[0]!r}")
        for name, part in self.parts.items():
            prefix = f"{name}/"
            part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


@functools.cache
def combination(joined: str) -> type[Combined]:
    """Return the method of the parts ``"a+b"``; unknown, repeated and single parts are refused."""
    names = tuple(joined.split(JOINT))
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise ConfigError(f"a combination is two or more different methods parted by {JOINT!r}, got {joined!r}")
    kinds: list[Any] = [METHODS.get(name) for name in names]
    config: Any = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("CombinedConfig", (CombinedConfig,), {"names": names, "__doc__": CombinedConfig.__doc__})
    )
    attributes = {
        "name": joined,
        "paper": "; ".join(dict.fromkeys(kind.paper for kind in kinds)),
        "knowledge": "; ".join(dict.fromkeys(kind.knowledge for kind in kinds)),
        "config_type": config,
        "__doc__": Combined.__doc__,
    }
    return type("Combined", (Combined,), attributes)


METHODS.combine = combination
