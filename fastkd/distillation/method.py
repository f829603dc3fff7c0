"""The protocol of a distillation method: state, schedule and lists. Formulas are ops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fastkd.core.interactions import Interactions
from fastkd.core.registry import Registry
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch
from fastkd.distillation.cost import Cost, Shape
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher


@dataclass(frozen=True)
class LossParts:
    """What a method adds to the student's base loss in one step.

    ``kd``: Float[Tensor, ""], already weighted; ``parts``: named unweighted terms for the log, detached.
    """

    kd: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class BaseLoss(Protocol):
    """The trainer's base loss of a batch."""

    def __call__(self, tables: Tables, batch: Batch, model: Recommender | None = None, /) -> Tensor:
        """Return it for ``model``, whose tables they are; None for the student."""
        ...


@dataclass(frozen=True)
class Step:
    """What a method sees of one training step.

    ``base_loss(tables, batch, model)`` is the trainer's own base loss, for methods that train a second model.
    ``epoch`` and ``step`` (global) start at 0 and serve as random counters.
    """

    batch: Batch
    tables: Tables
    epoch: int
    step: int
    base_loss: BaseLoss


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a refresh should take here: ``what`` is made ``every`` so many epochs, by ``backend``; predicted."""

    what: str
    every: int
    seconds: float
    bytes_moved: float
    scratch_bytes: int
    backend: str


@dataclass(frozen=True)
class OptimizerGroup:
    """Parameters a method trains beside the student; ``None`` takes the student's value."""

    name: str
    parameters: list[nn.Parameter]
    lr: float | None = None
    weight_decay: float | None = None


class Method(ABC):
    """One distillation method.

    Life: ``prepare`` once, ``begin_epoch`` before each epoch, ``loss`` each step. Everything drawn is a
    pure function of (seeds, epoch, user, slot); what depends on the student's past (lists refreshed
    every few epochs) goes through ``state_dict``.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    config_type: ClassVar[type[Any]]
    knowledge: ClassVar[str] = ""
    """What of the teacher it needs, in a few words: ``"ranked lists"``, ``"vectors"``, ``"a live model"``."""
    progress: Callable[[str, int, int], None] | None = None
    """Told (what, done, total) during long work outside the steps; set by who shows it."""

    def __init__(self, config: Any, seeds: Seeds) -> None:
        self.config = config
        self.seeds = seeds

    @classmethod
    def cost(cls, config: Any, at: Shape) -> Cost | None:
        """Return what a method with these options costs at a size, or None where nobody has counted."""
        return None

    def outlook(self, teacher: Teacher, student: Recommender, train: Interactions, *, device: str) -> Outlook | None:
        """Return what long refreshes should take on this machine, or None; may be asked before ``prepare``.

        ``device``: where training will run, ``"cpu"`` or ``"cuda"``.
        """
        return None

    def remarks(self, teacher: Teacher, train: Interactions) -> tuple[str, ...]:
        """Return what a user should know about learning from this teacher; may be asked before ``prepare``."""
        return ()

    @abstractmethod
    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher once; refuse one that lacks what the method needs. ``epochs``: planned length."""

    def begin_epoch(self, epoch: int, student: Recommender) -> None:  # noqa: B027
        """Refresh lists and draws. Called for every epoch started, and again when one is resumed."""

    @abstractmethod
    def loss(self, step: Step) -> LossParts:
        """Return the weighted distillation loss of one batch; no host sync."""

    @property
    def uses_base_loss(self) -> bool:
        """Whether the student trains on the trainer's base loss too, as it does with all but few methods."""
        return True

    def negatives(self, epoch: int) -> NDArray[Any] | None:
        """Return ids Int[nnz, n] that replace the trainer's uniform negatives this epoch, or None."""
        return None

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return parameters trained beside the student's (projectors, a second model)."""
        return []

    def modules(self) -> dict[str, nn.Module]:
        """Return named modules whose weights belong in a checkpoint."""
        return {}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return arrays that cannot be recomputed from (seeds, epoch)."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`, after ``prepare``."""
        if state:
            raise ValueError(f"{self.name} keeps no state, got {sorted(state)}")


JOINT = "+"
"""What parts the names of methods that train together: ``"de+rrd"``."""


class Methods(Registry[type[Method]]):
    """The registered methods; a name with a ``+`` stands for a combination of them, made by ``combine``."""

    combine: Callable[[str], type[Method]]

    def get(self, name: str) -> type[Method]:
        """Return a method or a combination; ``ConfigError`` names the nearest for one that is not known."""
        return self.combine(name) if JOINT in name else super().get(name)

    def __contains__(self, name: object) -> bool:
        """Return whether it is a method, or known methods joined."""
        return isinstance(name, str) and all(super(Methods, self).__contains__(part) for part in name.split(JOINT))


METHODS = Methods("method")
"""Method name -> class; each class carries a ``Config`` dataclass as its ``config_type``."""
