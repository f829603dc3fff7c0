"""On devices where counting would stall, entities come in slots of a fixed number, the last of them empty."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.distillation import build_method, entities
from fastkd.distillation.entities import Entities
from fastkd.models import ModelConfig, ModelTeacher, build_model
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

OTHERS = ("kd_ce", "rd", "cd", "rrd", "ir_rrd", "bd", "dcd", "unkd", "hetcomp", "rce_kd", "hint", "de+rrd")
"""With default options."""


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


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_a_negative_that_is_padding_is_no_entity(name, reduction):
    contract = MethodContract()
    contract.name, contract.options = name, CASES[name]
    world = contract.started(reduction=reduction)
    batch = world.batch(np.arange(60))
    alone = dataclasses.replace(batch, negatives=batch.negatives[:, :1])
    padded = dataclasses.replace(batch, negatives=batch.negatives.clone())
    padded.negatives[:, 1] = -1
    wanted, found = (world.loss(b) for b in (alone, padded))
    for key, value in wanted.parts.items():
        assert found.parts[key].item() == pytest.approx(value.item(), rel=1e-5), key


@pytest.mark.gpu
@pytest.mark.parametrize("epoch", [0, 5])
@pytest.mark.parametrize(("name", "options"), [*CASES.items(), *((name, {}) for name in OTHERS)])
def test_no_step_waits_for_the_device(name, options, epoch):
    data = random_interactions(29, 47, 6)
    student = build_model(ModelConfig(dim=3, init_std=0.3), data, Seeds(11)).to("cuda")
    teacher = ModelTeacher(build_model(ModelConfig(dim=8, init_std=0.6), data, Seeds(7)).to("cuda"))
    method = build_method(name, options, Seeds(0))
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
