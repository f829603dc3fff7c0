"""Golden numbers: a loss and its gradients against what a script of loops in ``golden/`` computed."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fastkd.data.batch import Batch
from fastkd.distillation import Method, Step
from fastkd.models import Tables


def golden(name: str) -> SimpleNamespace:
    """The committed numbers of a method."""
    file = Path(__file__).parent / "golden" / f"{name}.json"
    return SimpleNamespace(**json.loads(file.read_text(encoding="utf-8")))


def ids(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def batch_of(case: SimpleNamespace) -> Batch:
    """The case's rows; what it does not name is its users over again."""
    users = torch.tensor(case.batch)
    given = {name: torch.tensor(getattr(case, name, case.batch)) for name in ("entries", "positives")}
    negatives = torch.tensor(getattr(case, "negatives", [[u] for u in case.batch]))
    return Batch(given["entries"], users, given["positives"], negatives)


def compare(
    method: Method,
    case: SimpleNamespace,
    *,
    loss: float | None = None,
    base_loss: Callable[[Tables, Batch], torch.Tensor] = lambda *_: torch.zeros(()),
    rtol: float = 1e-9,
) -> None:
    """The method's weighted loss and its gradients are the golden ones, in float64."""
    users, items = (torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in (case.users, case.items))
    kd = method.loss(Step(batch_of(case), Tables(users, items), 0, 0, base_loss)).kd
    kd.backward()
    assert np.isclose(kd.item(), case.loss if loss is None else loss, rtol=rtol / 100)
    np.testing.assert_allclose(users.grad.numpy(), case.d_users, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(items.grad.numpy(), case.d_items, rtol=rtol, atol=1e-12)
