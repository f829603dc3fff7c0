"""Golden numbers: a loss and its gradients against what a script of loops in ``golden/`` computed."""

import json
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


def compare(method: Method, case: SimpleNamespace, *, loss: float | None = None) -> None:
    """The method's weighted loss and its gradients are the golden ones, in float64."""
    users, items = (torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in (case.users, case.items))
    rows = torch.tensor(case.batch)
    batch = Batch(rows, rows, rows, rows[:, None])
    kd = method.loss(Step(batch, Tables(users, items), 0, 0, lambda *_: torch.zeros(()))).kd
    kd.backward()
    assert np.isclose(kd.item(), case.loss if loss is None else loss, rtol=1e-11)
    np.testing.assert_allclose(users.grad.numpy(), case.d_users, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(items.grad.numpy(), case.d_items, rtol=1e-9, atol=1e-12)
