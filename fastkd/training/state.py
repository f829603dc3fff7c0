"""Everything a run must remember, to a checkpoint and back: weights, optimiser, counters, logs, random state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastkd.core.config import from_mapping
from fastkd.core.errors import CheckpointError, TrainingError
from fastkd.distillation.method import Method
from fastkd.training.callbacks import Callbacks
from fastkd.training.checkpoint import Checkpoint, Identity
from fastkd.training.meter import Meter
from fastkd.training.step import Learner


@dataclass
class Progress:
    """Where a run is. ``epoch``: being run (from 0); ``step_in_epoch``: steps done in it; ``step``: in all.

    ``best_value``: of the monitored metric, None before one was seen. ``stopped``: why the run ended early, or None.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best_value: float | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str | None = None


@dataclass(frozen=True)
class RunState:
    """The moving parts of one run."""

    learner: Learner
    progress: Progress
    meter: Meter
    callbacks: Callbacks
    device: torch.device

    def capture(self, identity: Identity) -> Checkpoint:
        """Return all state as a checkpoint (tensors are not copied: write it before the next step)."""
        learner = self.learner
        optimizer, scalars = _optimizer_tensors(learner.optimizer)
        tensors: dict[str, Mapping[str, Any]] = {
            "student": learner.student.state_dict(),
            "optimizer": optimizer,
            "random": _random_state(self.device),
        }
        if learner.method is not None:
            tensors["method_modules"] = _module_tensors(learner.method)
            tensors["method_state"] = learner.method.state_dict()
        state = {
            "progress": asdict(self.progress),
            "meter": self.meter.state_dict(),
            "callbacks": self.callbacks.state_dict(),
            "optimizer": {"groups": _groups(learner.optimizer), "scalars": scalars},
            "scaler": learner.scaler.state_dict() if learner.scaler is not None else None,
        }
        return Checkpoint(tensors, state, identity)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take all state from ``checkpoint``; one that does not fit raises ``CheckpointError`` naming its file."""
        tensors, state, learner = checkpoint.tensors, checkpoint.state, self.learner
        load_module(learner.student, checkpoint, "student")
        if learner.method is not None:
            modules = nn.ModuleDict(learner.method.modules())
            load_module(modules, checkpoint, "method_modules")
            arrays = tensors.get("method_state", {})
            learner.method.load_state_dict({k: _array(v) for k, v in arrays.items()})
        self._restore_optimizer(checkpoint)
        if learner.scaler is not None:
            learner.scaler.load_state_dict(state["scaler"])
        _set_random_state(tensors["random"], self.device)
        self.meter.load_state_dict(state["meter"], device=self.device)
        self.callbacks.load_state_dict(state["callbacks"])
        for name, value in asdict(from_mapping(Progress, state["progress"])).items():
            setattr(self.progress, name, value)

    def check_finite(self) -> None:
        """Raise ``TrainingError`` for a loss or a weight that is not finite; nothing is lost by asking."""
        self.meter.check(epoch=self.progress.epoch)
        modules = {"student": self.learner.student}
        if self.learner.method is not None:
            modules |= {f"method {name}": m for name, m in self.learner.method.modules().items()}  # type: ignore[misc]
        for owner, module in modules.items():
            for name, parameter in module.named_parameters():
                _check_parameter(f"{owner} parameter {name}", parameter, self.progress)

    def _restore_optimizer(self, checkpoint: Checkpoint) -> None:
        optimizer, saved = self.learner.optimizer, checkpoint.state["optimizer"]
        if saved["groups"] != _groups(optimizer):
            raise CheckpointError(
                f"{checkpoint.folder}/optimizer.safetensors holds the groups {saved['groups']}, this run has "
                f"{_groups(optimizer)}"
            )
        state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in saved["scalars"].items()}
        for key, value in checkpoint.tensors.get("optimizer", {}).items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_module(module: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Load the file ``name`` of a checkpoint into ``module``, or say which file does not fit and why."""
    tensors = {k: torch.as_tensor(v) for k, v in checkpoint.tensors.get(name, {}).items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch writes several lines
        raise CheckpointError(f"{checkpoint.folder}/{name}.safetensors does not fit: {reason}") from error


def _module_tensors(method: Method) -> dict[str, Tensor]:
    # as one ModuleDict, so that the names are those that load_module uses
    return dict(nn.ModuleDict(method.modules()).state_dict())


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Split the optimiser's state by parameter number: tensors, and plain values."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    return tensors, scalars


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{"name": g["name"], "shapes": [list(p.shape) for p in g["params"]]} for g in optimizer.param_groups]


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Return torch's generators: nothing of ours draws from them, but a model with dropout does."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _check_parameter(what: str, parameter: Tensor, progress: Progress) -> None:
    values = parameter.detach()
    # a sum is one pass without a mask; it is not finite when a value is not, and rarely (overflow) otherwise
    if bool(torch.isfinite(values.sum(dtype=torch.float32))):
        return
    bad = (~torch.isfinite(values)).reshape(len(values) if values.dim() else 1, -1).any(dim=1).nonzero()
    if len(bad):
        raise TrainingError(
            f"{what} is not finite after step {progress.step} (epoch {progress.epoch}): {len(bad)} row(s), "
            f"first row {int(bad[0])}"
        )
