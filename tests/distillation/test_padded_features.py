"""On devices where counting would stall, entities come in slots of a fixed number, the last of them empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.distillation import entities
from fastkd.distillation.entities import Entities
from tests.contracts.method_contract import MethodContract

CASES = {
    "de": {"experts": 3},
    "hint": {"entities": "batch", "dropout": 0.0, "hidden_ratio": 1.0, "center": True},
    "phr": {},
    "ftd": {},
    "htd": {"experts": 3},
    "pckd": {"experts": 3, "listed": 3, "top": 8, "regulariser": "hybrid"},
    "freqd": {"dropout": 0.0, "edge_dropout": 0.0, "experts": 1},
}


def padded_entities(groups, *, factors=(1.0,), reduction="sum"):
    return entities.padded_entities(groups, factors=factors, reduction=reduction)[0]


def padded_rows(users, *, reduction="sum"):
    ids, weights = entities.counted_rows(users, reduction=reduction)
    more = len(users) - len(ids)
    assert more > 0
    return Entities(*(torch.nn.functional.pad(x, (0, more)) for x in (ids, weights)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_empty_slots_change_nothing(name, reduction, monkeypatch):
    contract = MethodContract()
    contract.name, contract.options = name, CASES[name]
    world = contract.started(reduction=reduction)
    if name == "pckd":
        # Its padding is a slot of its own in front, which moves the noise of the items behind it.
        world.method._experts.noise = lambda kind, step, rows, *_: torch.zeros(rows, 3)
    batch, found = world.batch(np.arange(60)), []
    for padded in (False, True):
        if padded:
            for module in ("_features", "_sides"):
                monkeypatch.setattr(f"fastkd.distillation.{module}.weighted_entities", padded_entities)
            monkeypatch.setattr("fastkd.distillation.pckd.counted_rows", padded_rows)
        parts = world.loss(batch)
        parts.kd.backward()
        gradients = [p.grad.clone() for p in world.student.parameters()]
        world.student.zero_grad()
        found.append((parts, gradients))
    (wanted, exact), (parts, gradients) = found
    for key, value in wanted.parts.items():
        assert parts.parts[key].item() == pytest.approx(value.item(), rel=1e-5), key
    for a, b in zip(gradients, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
