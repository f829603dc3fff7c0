"""A prepared method with the golden numbers' weights, teacher and noise in float64."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from fastkd import Interactions, Seeds
from fastkd.distillation import build_method
from fastkd.models import EmbeddingTeacher, ModelConfig, Tables, build_model


def double(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def prepared(name: str, case: SimpleNamespace, **options: Any) -> Any:
    """The method over 4 users and 6 items, its teacher in float64."""
    pairs = getattr(case, "pairs_seen", None) or [(u, i) for u in range(4) for i in range(6) if (u + i) % 3]
    train = Interactions.from_pairs(*zip(*pairs, strict=True), num_users=4, num_items=6)
    method: Any = build_method(name, {"weight": case.weight, **options}, Seeds(0))
    exact = Tables(double(case.t_users), double(case.t_items))
    student = build_model(ModelConfig(dim=2), train, Seeds(1))
    method.prepare(EmbeddingTeacher(exact.users, exact.items), student, train, epochs=5)
    method._teacher = exact
    return method


def load(module: Any, values: Mapping[str, Any]) -> None:
    """Replace parameters of the same names and shapes."""
    for name, value in values.items():
        assert getattr(module, name).shape == double(value).shape, name
        setattr(module, name, nn.Parameter(double(value)))


def give_experts(method: Any, case: SimpleNamespace, kept: tuple[list[int], list[int]] = ([], [])) -> None:
    """Load experts, and give each entity its own noise. ``kept``: users and items of PCKD's second call."""
    items = sorted({*case.positives, *(j for row in case.negatives for j in row)})
    ids = {("user", ""): sorted(set(case.batch)), ("item", ""): items}
    ids |= {("user", "/kept"): kept[0], ("item", "/kept"): kept[1]}
    for kind in ("user", "item"):
        load(method._experts[kind], case.nets[kind])

    def noise(kind: str, step: int, rows: torch.Tensor, call: str = "") -> torch.Tensor:
        found = double((case.kept_noise if call else case.noise)[kind])[ids[kind, call]]
        assert len(found) == len(rows)
        return found

    method._experts.noise = noise


def part(case: SimpleNamespace, name: str) -> SimpleNamespace:
    """The case with the loss and gradients of one of its variants."""
    return SimpleNamespace(**{**vars(case), **getattr(case, name)})
