"""The distillation experts of DE, HTD and PCKD: modules, the annealed routing between them, its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.seeds import Seeds
from fastkd.distillation._features import KINDS, Kind
from fastkd.distillation.checks import at_least, not_negative, positive
from fastkd.distillation.cost import VALUE, Shape, Work

ROUNDING = 2.0**-24
"""Gates that together weigh less than this cannot move a float32 sum."""


@dataclass(frozen=True, kw_only=True)
class RoutingConfig:
    """Options of the experts: ``experts`` E per entity type and how the choice between them hardens.

    The temperature falls from ``temperature_start`` to ``temperature_end`` over ``anneal_epochs`` (None: the planned
    length of training) and stays there. ``hard_below``: temperature under which each entity goes through its chosen
    expert alone.
    """

    experts: int = 30
    temperature_start: float = 1.0
    temperature_end: float = 1e-10
    anneal_epochs: int | None = None
    hard_below: float = 1e-4

    def __post_init__(self) -> None:
        not_negative(hard_below=self.hard_below)
        at_least(1, experts=self.experts)
        positive(temperature_start=self.temperature_start, temperature_end=self.temperature_end)
        if self.temperature_end > self.temperature_start:
            raise ConfigError(
                f"temperature_end={self.temperature_end} is above temperature_start={self.temperature_start}"
            )
        if self.anneal_epochs is not None:
            at_least(1, anneal_epochs=self.anneal_epochs)

    def temperature(self, epoch: int, planned_epochs: int) -> float:
        """Return ``tau_0 (tau_P / tau_0)^(epoch / anneal_epochs)``, held at tau_P afterwards."""
        progress = min(epoch / (self.anneal_epochs or planned_epochs), 1.0)
        return float(self.temperature_start * (self.temperature_end / self.temperature_start) ** progress)


class Experts(nn.Module):
    """E experts from student to teacher width, and the selection net that routes by the teacher's vector.

    An expert is Linear(S, H) - ReLU - Linear(H, T) with H = (S + T) // 2; the selection net is Linear(T, E). Weights
    start as ``torch.nn.Linear``'s do, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as a pure function of the seeds.
    """

    def __init__(self, student_dim: int, teacher_dim: int, experts: int, seeds: Seeds) -> None:
        super().__init__()
        hidden = max((student_dim + teacher_dim) // 2, 1)
        random = seeds.torch("init")

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:
            bound = 1.0 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=random))

        self.w1 = uniform(student_dim, experts, hidden, student_dim)
        self.b1 = uniform(student_dim, experts, hidden)
        self.w2 = uniform(hidden, experts, hidden, teacher_dim)
        self.b2 = uniform(hidden, experts, teacher_dim)
        if experts > 1:
            self.selection = uniform(teacher_dim, experts, teacher_dim)
            self.selection_bias = uniform(teacher_dim, experts)

    def route(self, teacher: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """Return gates Float32[n, E]: softmax((V t + c + g) / tau).

        This is the Gumbel-softmax of log softmax(V t + c): the log-normaliser is the same for all experts, so it
        cancels. In float32 whatever the autocast mode, since tau divides differences down to 1e-10.
        """
        return torch.softmax((self._logits(teacher) + noise) / temperature, dim=1)

    def choose(self, teacher: Tensor, noise: Tensor) -> Tensor:
        """Return the expert Int64[n] that the gates single out as tau goes to 0."""
        return (self._logits(teacher.detach()) + noise).detach().argmax(dim=1)

    def groups(self, teacher: Tensor) -> Tensor:
        """Return the expert Int64[n] that the selection net prefers, without noise; 0 where there is but one."""
        if len(self.w1) == 1:
            return torch.zeros(len(teacher), dtype=torch.int64, device=teacher.device)
        return self._logits(teacher.detach()).detach().argmax(dim=1)

    def _logits(self, teacher: Tensor) -> Tensor:
        with torch.autocast(teacher.device.type, enabled=False):
            weight, bias = self.selection, self.selection_bias
            wide = torch.promote_types(teacher.dtype, weight.dtype)
            return functional.linear(teacher.to(wide), weight.to(wide), bias.to(wide))

    def forward(self, student: Tensor, teacher: Tensor, noise: Tensor, temperature: float, hard: bool) -> Tensor:
        """Return the experts' guess of the teacher's vectors, Float[n, T].

        ``student`` Float[n, S]; ``teacher`` Float[n, T] routes; ``noise`` Float[n, E] is Gumbel(0, 1).
        """
        weights = (self.w1, self.b1, self.w2, self.b2)
        experts = len(self.w1)
        if experts == 1:
            return ops.expert_mixture(student, *weights, gates=student.new_ones(len(student), 1))
        if hard:
            return ops.expert_choice(student, *weights, chosen=self.choose(teacher, noise))
        gates = self.route(teacher, noise, temperature)
        return ops.expert_mixture(student, *weights, gates=gates, negligible=ROUNDING / experts)


class ExpertPair:
    """Experts of users and experts of items with one schedule; ``stream`` names the random streams."""

    def __init__(
        self, config: RoutingConfig, widths: tuple[int, int], epochs: int, seeds: Seeds, stream: str,
        device: torch.device,
    ) -> None:  # fmt: skip
        self._config, self._epochs, self._seeds, self._stream = config, max(epochs, 1), seeds, stream
        self.modules = nn.ModuleDict(
            {kind: Experts(*widths, config.experts, seeds.child(f"{stream}/{kind}")).to(device) for kind in KINDS}
        )

    def __getitem__(self, kind: Kind) -> Experts:
        """Return the experts of one kind of entity."""
        module = self.modules[kind]
        assert isinstance(module, Experts)
        return module

    def guess(
        self, kind: Kind, ids: Tensor, student: Tensor, teacher: Tensor, *, epoch: int, step: int, call: str = ""
    ) -> Tensor:
        """Return the guess of the teacher's vectors, Float[n, T], of entities ``ids`` Int64[n].

        ``call`` sets the noise of a second call apart.
        """
        temperature = self._config.temperature(epoch, self._epochs)
        noise = self.noise(kind, step, ids, call)
        hard = temperature < self._config.hard_below
        found: Tensor = self[kind](student, teacher, noise, temperature, hard)
        return found

    def noise(self, kind: Kind, step: int, ids: Tensor, call: str = "") -> Tensor:
        """Return Gumbel(0, 1) noise Float32[n, E], each entity's own, a pure function of (seeds, step, kind, id)."""
        seed = self._seeds.child(f"{self._stream}/{kind}{call}").root
        return ops.gumbel(ids, self._config.experts, seed=seed, step=step)


def mixture_work(experts: int, entities: float, at: Shape) -> Work:
    """Return the work of all experts on ``entities``, forward and backward."""
    hidden = max((at.dim + at.teacher_dim) // 2, 1)
    weights = experts * (at.dim + at.teacher_dim) * hidden
    # Both layers forward, twice that backward; vectors, hidden units and weights are read and written.
    moved = entities * (at.dim + at.teacher_dim + experts * hidden) + 2 * weights
    return Work(2.0 * entities * weights, VALUE * moved) * 3


def mixture_memory(experts: int, at: Shape) -> float:
    """Return the bytes of the experts of both kinds with an optimiser's two moments."""
    hidden = max((at.dim + at.teacher_dim) // 2, 1)
    return 3.0 * VALUE * 2 * experts * (at.dim + at.teacher_dim) * hidden
