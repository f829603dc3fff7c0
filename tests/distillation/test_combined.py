from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from fastkd import Seeds
from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import METHODS, Shape, build_method
from tests.contracts.method_contract import MethodContract

PARTS: dict[str, Any] = {
    "de": {"experts": 3, "weight": 0.05},
    "rrd": {"ranked": 3, "unranked": 4, "top": 8, "temperature": 4.0, "weight": 0.1},
    "ftd": {"weight": 0.02},
    "pckd": {"experts": 2, "listed": 2, "top": 6, "update": 2, "weight": 0.02},
    "bd": {"update": 2, "weight": 0.1},
    "hint": {"hidden_ratio": 1.0, "weight": 0.01},
}


def joint(*names: str) -> dict[str, Any]:
    return {"methods": {name: PARTS[name] for name in names}}


class TestDERRD(MethodContract):
    name = "de+rrd"
    options: ClassVar = joint("de", "rrd")
    sources = ("model", "embeddings")
    own_modules = True

    def test_it_is_the_sum_of_its_parts_alone(self):
        world = self.started(weight=0.5)
        batch = world.batch(np.arange(50))
        whole, total = world.loss(batch), 0.0
        for name in ("de", "rrd"):
            alone = build_method(name, PARTS[name], Seeds(0))
            alone.prepare(world.teacher, world.student, world.train, epochs=6)
            alone.begin_epoch(0, world.student)
            world.method = alone
            found = world.loss(batch)
            total += found.kd.item()
            for key, value in found.parts.items():
                assert whole.parts[key].item() == pytest.approx(value.item(), rel=1e-6), key
        assert whole.kd.item() == pytest.approx(0.5 * total, rel=1e-6)

    def test_shares_are_of_the_weighted_parts_and_sum_to_one(self):
        world = self.started()
        found = world.loss(world.batch(np.arange(50))).parts
        assert found["share_de"].item() + found["share_rrd"].item() == pytest.approx(1.0)
        de = 0.05 * (found["de_users"] + found["de_items"]).item()
        assert found["share_de"].item() == pytest.approx(de / (de + 0.1 * found["rrd"].item()), rel=1e-5)

    def test_parts_that_name_a_module_alike_are_both_saved(self):
        contract = TestDERRD()
        contract.name, contract.options = "de+pckd", joint("de", "pckd")
        contract.test_what_is_trained_is_what_is_saved()

    def test_a_reduction_is_given_to_every_part(self):
        method = build_method("de+rrd", {"reduction": "mean"}, Seeds(0))
        assert {part.config.reduction for part in method.parts.values()} == {"mean"}
        assert {p.config.reduction for p in build_method("de+rrd", {}, Seeds(0)).parts.values()} == {"sum"}
        own = {"reduction": "mean", "methods": {"de": {"reduction": "sum"}}}
        assert {p.config.reduction for p in build_method("de+rrd", own, Seeds(0)).parts.values()} == {"mean"}


class TestBDAndPCKD(MethodContract):
    """A part with a live teacher and one whose lists come from the student: both kinds of state."""

    name = "bd+pckd"
    options: ClassVar = joint("bd", "pckd")
    sources = ("model",)
    own_modules = True
    trains_teacher = True
    refuses_full_users = True


@pytest.mark.parametrize("names", [("ftd", "rrd"), ("hint", "de", "rrd"), ("rrd", "ftd")])
def test_other_combinations_train(names):
    contract = TestDERRD()
    contract.name, contract.options = "+".join(names), joint(*names)
    world = contract.world()
    assert np.isfinite(world.fit(world.optimizer(), range(2))).all()


def test_names_as_a_list_are_the_joined_name():
    method = build_method(["de", "rrd"], joint("de", "rrd"), Seeds(0))
    assert method.name == "de+rrd"
    assert method.config == build_method("de+rrd", joint("de", "rrd"), Seeds(0)).config
    assert list(method.parts) == ["de", "rrd"]


def test_every_option_is_in_the_config_and_survives_a_mapping():
    config = METHODS.get("de+rrd").config_type(methods={"rrd": {"weight": 0.3}})
    assert config.methods["rrd"]["weight"] == 0.3
    assert config.methods["de"]["experts"] == 30
    assert from_mapping(type(config), to_mapping(config)) == config


def test_known_names_and_their_knowledge():
    assert "de+rrd" in METHODS
    assert "de+rdd" not in METHODS
    assert "de+rrd" not in list(METHODS)
    assert METHODS.get("de+rrd") is METHODS.get("de+rrd")
    assert METHODS.get("de+rrd").knowledge == "vectors; ranked lists"


def test_costs_add_up():
    at = Shape(users=5000, items=20_000, dim=16, teacher_dim=64, batch=512, interactions=90_000)
    parts = [METHODS.get(n).cost(METHODS.get(n).config_type(), at) for n in ("de", "rrd")]
    whole = METHODS.get("de+rrd").cost(METHODS.get("de+rrd").config_type(), at)
    assert whole.step.flops == sum(p.step.flops for p in parts)
    assert whole.memory == sum(p.memory for p in parts)
    assert (whole.every, whole.refresh) == (1, parts[1].refresh)
    bd, rrd, both = (METHODS.get(n).cost(METHODS.get(n).config_type(), at) for n in ("bd", "rrd", "bd+rrd"))
    assert (bd.every, both.every) == (10, 1)
    assert both.refresh.flops == pytest.approx(bd.refresh.flops / 10 + rrd.refresh.flops)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("de+", {}, r"two or more different methods parted by '\+', got 'de\+'"),
        ("de+de", {}, "two or more different methods"),
        ("de+rdd", {}, "unknown method 'rdd'.*Did you mean 'rd"),
        ("de+rrd", {"methods": {"bd": {}}}, r"methods\.bd is no part of de\+rrd"),
        ("de+rrd", {"methods": {"de": {"expert": 3}}}, r"methods\.de\.expert.*Did you mean 'experts'"),
        ("de+rrd", {"methods": {"de": {"experts": 0}}}, "experts must be at least 1, got 0"),
    ],
)
def test_impossible_combinations(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_method(name, options, Seeds(0))


def test_a_teacher_must_do_for_every_part():
    contract = TestDERRD()
    with pytest.raises(TeacherError, match="ListTeacher holds ranked lists only"):
        contract.world(source="lists")


def test_the_negatives_are_those_of_the_part_that_has_some():
    method = build_method("bd+de", {}, Seeds(0))
    own = np.arange(3).reshape(3, 1)
    method.parts["bd"].negatives = lambda epoch: own + epoch
    assert np.array_equal(method.negatives(4), own + 4)
    assert build_method("de+rrd", {}, Seeds(0)).negatives(0) is None


def test_two_owners_of_the_negatives_are_refused():
    method = build_method("bd+de", {}, Seeds(0))
    for part in method.parts.values():
        part.negatives = lambda _: np.zeros((3, 1), dtype=np.int64)
    with pytest.raises(ConfigError, match="bd and de both replace the student's negatives"):
        method.negatives(0)


def test_one_part_without_base_loss_decides():
    assert build_method("de+rrd", {}, Seeds(0)).uses_base_loss
    assert not build_method("de+hetcomp", {}, Seeds(0)).uses_base_loss


def test_progress_reaches_the_parts():
    contract, heard = TestDERRD(), []
    world = contract.world()
    world.method.progress = lambda *told: heard.append(told)
    world.method.prepare(world.teacher, world.student, world.train, epochs=2)
    assert heard[-1] == ("ranking by the teacher", 29, 29)
