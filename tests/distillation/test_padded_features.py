"""On devices where counting would stall, entities come in slots of a fixed number, the last of them empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.distillation import build_method, entities
from fastkd.distillation.entities import Entities
from fastkd.models import EmbeddingTeacher, ModelConfig, build_model
from tests.contracts.interactions import random_interactions
from tests.contracts.method_contract import MethodContract
from tests.contracts.method_world import World

CASES = {
    "de": {"experts": 3},
    "hint": {"entities": "batch", "dropout": 0.0, "hidden_ratio": 1.0, "center": True},
    "phr": {},
    "ftd": {},
    "htd": {"experts": 3},
    "pckd": {"experts": 3, "listed": 3, "top": 8, "regulariser": "hybrid"},
    "freqd": {"dropout": 0.0, "edge_dropout": 0.0, "experts": 1},
    "prm_kd": {"listed": 4, "drawn": 5, "positives": 2},
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
    batch, found = world.batch(np.arange(60)), []
    for padded in (False, True):
        if padded:
            for module in ("_features", "_sides"):
                monkeypatch.setattr(f"fastkd.distillation.{module}.weighted_entities", padded_entities)
            for module in ("pckd", "prm_kd"):
                monkeypatch.setattr(f"fastkd.distillation.{module}.counted_rows", padded_rows)
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


@pytest.mark.gpu
@pytest.mark.parametrize("epoch", [0, 5])
@pytest.mark.parametrize("name", [*CASES, "de+rrd"])
def test_no_step_waits_for_the_device(name, epoch):
    data = random_interactions(29, 47, 6)
    student = build_model(ModelConfig(dim=3, init_std=0.3), data, Seeds(11)).to("cuda")
    teacher = EmbeddingTeacher(torch.randn(29, 8, device="cuda"), torch.randn(47, 8, device="cuda"))
    method = build_method(name, CASES.get(name, {}), Seeds(0))
    method.prepare(teacher, student, data, epochs=6)
    method.begin_epoch(epoch, student)
    world = World(data, student, teacher, method, Seeds(0))
    batch = world.batch(np.arange(60)).to("cuda")
    world.loss(batch, epoch=epoch).kd.backward()  # warms up
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        kd = world.loss(batch, epoch=epoch, step=1).kd
        kd.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(kd)
