from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import DEConfig, build_method
from fastkd.distillation.de import Experts
from fastkd.ops import expert_mixture
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import give_experts, prepared
from tests.distillation.golden_numbers import compare, golden


def mixture_error(experts: Experts, student: np.ndarray, teacher: np.ndarray, noise: np.ndarray, tau: float) -> float:
    """|t - sum_m z_m E_m(s)|^2 of one entity, as published (log of the softmax, plus noise, over tau)."""
    w1, b1, w2, b2, v, c = (p.detach().double().numpy() for p in experts.parameters())
    alpha = np.exp(v @ teacher + c)
    logits = (np.log(alpha / alpha.sum()) + noise) / tau
    z = np.exp(logits - logits.max())
    z /= z.sum()
    guess = sum(z[m] * (w2[m].T @ np.maximum(w1[m] @ student + b1[m], 0.0) + b2[m]) for m in range(len(z)))
    return float(((teacher - guess) ** 2).sum())


class TestDE(MethodContract):
    name = "de"
    options: ClassVar = {"experts": 4, "weight": 0.05}
    sources = ("model", "embeddings")
    own_modules = True

    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    @pytest.mark.parametrize("epoch", [0, 1, 5])
    def test_loss_is_the_published_one(self, epoch, reduction):
        world = self.world(weight=0.25, reduction=reduction)
        batch, method = world.batch(np.arange(3, 60)), world.method
        student, teacher = world.student.frozen_tables(), world.teacher.tables()
        tau = 1e-10 ** (epoch / 6)
        positives, negatives = set(batch.positives.tolist()), set(batch.negatives.flatten().tolist())
        assert positives & negatives
        total = 0.0
        for kind, sets in (
            ("user", [(set(batch.users.tolist()), 1.0)]),
            ("item", [(positives, 0.5), (negatives, 0.5)]),
        ):
            ids = sorted(set().union(*(members for members, _ in sets)))
            noise = method._experts.noise(kind, 17, torch.tensor(ids)).double().numpy()
            tables = [getattr(t, f"{kind}s").double().numpy() for t in (student, teacher)]
            errors = {
                e: mixture_error(method._experts[kind], tables[0][e], tables[1][e], noise[row], tau)
                for row, e in enumerate(ids)
            }
            for members, factor in sets:
                values = [errors[e] for e in sorted(members)]
                total += factor * (np.sum(values) if reduction == "sum" else np.mean(values))
        found = world.loss(batch, epoch=epoch, step=17).kd.item()
        assert found == pytest.approx(0.25 * total, rel=1e-4)

    def test_golden_numbers(self):
        case = golden("de")
        method = prepared("de", case, experts=2, temperature_start=case.tau)
        give_experts(method, case)
        compare(method, case)
        for kind, wanted in case.d_nets.items():
            for name, parameter in method._experts[kind].named_parameters():
                np.testing.assert_allclose(parameter.grad.numpy(), wanted[name], rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("tau", [0.3, 0.05, 1e-3])
    def test_leaving_out_negligible_gates_changes_nothing(self, tau):
        experts = Experts(3, 8, 12, Seeds(3))
        random = Seeds(1).torch("x")
        student = torch.randn(60, 3, generator=random).requires_grad_(True)
        teacher = torch.randn(60, 8, generator=random)
        noise = -torch.empty(60, 12).exponential_(generator=random).log()
        weights = (experts.w1, experts.b1, experts.w2, experts.b2)
        gates = experts.route(teacher, noise, tau)
        found = experts(student, teacher, noise, tau, hard=False)
        wanted = expert_mixture(student, *weights, gates=gates, backend="reference")
        torch.testing.assert_close(found, wanted)
        upstream = torch.randn(60, 8, generator=random)
        sources = (student, *experts.parameters())
        pair = (torch.autograd.grad(y, sources, upstream, retain_graph=True) for y in (found, wanted))
        for a, b in zip(*pair, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 / tau)

    def test_temperature_falls_as_published_and_stays(self):
        config = DEConfig()
        assert config.temperature(0, 1000) == 1.0
        assert config.temperature(250, 1000) == pytest.approx(10**-2.5)
        assert config.temperature(1000, 1000) == config.temperature(2000, 1000) == pytest.approx(1e-10)
        assert DEConfig(anneal_epochs=10).temperature(5, 1000) == pytest.approx(1e-5)

    def test_one_chosen_expert_is_the_cold_mixture(self):
        experts = Experts(3, 8, 5, Seeds(3))
        random = Seeds(1).torch("x")
        student, teacher = torch.randn(40, 3, generator=random), torch.randn(40, 8, generator=random)
        noise = -torch.empty(40, 5).exponential_(generator=random).log()
        soft = experts(student, teacher, noise, 1e-9, hard=False)
        hard = experts(student, teacher, noise, 1e-9, hard=True)
        torch.testing.assert_close(soft, hard)
        gates = experts.route(teacher, noise, 1e-10)
        assert torch.equal(gates.argmax(1), experts.choose(teacher, noise))
        assert ((gates == 0) | (gates == 1)).all()

    def test_hard_routing_leaves_the_selection_net_alone(self):
        world = self.started()
        world.loss(world.batch(np.arange(30)), epoch=5).kd.backward()
        assert world.method._experts["user"].selection.grad is None
        assert world.method._experts["user"].w2.grad.abs().sum() > 0

    def test_noise_is_gumbel_and_a_function_of_step_and_kind(self):
        method = self.world().method
        ids = torch.arange(50_000)
        noise = method._experts.noise("user", 3, ids)
        assert torch.equal(noise[70:100], method._experts.noise("user", 3, ids[70:100]))
        for other in (("user", 4, ids), ("item", 3, ids), ("user", 3, ids, "/kept")):
            assert not torch.equal(noise[:100], method._experts.noise(*other)[:100])
        # 200000 draws: standard errors 0.003 and 0.006 around Euler's constant and pi^2 / 6.
        assert noise.mean().item() == pytest.approx(0.57722, abs=0.015)
        assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=0.04)

    def test_experts_start_from_the_seeds_as_linear_layers_do(self):
        first, again, other = (Experts(20, 60, 6, Seeds(s)) for s in (1, 1, 2))
        for name, value in first.state_dict().items():
            assert torch.equal(value, again.state_dict()[name])
            assert not torch.equal(value, other.state_dict()[name])
        for name, fan_in in (("w1", 20), ("b1", 20), ("w2", 40), ("b2", 40), ("selection", 60)):
            values = getattr(first, name).detach()
            assert values.abs().max() <= fan_in**-0.5
            assert values.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)

    def test_users_and_items_have_experts_of_their_own(self):
        experts = self.world().method._experts
        assert not torch.equal(experts["user"].w1, experts["item"].w1)

    def test_a_single_expert_needs_no_selection_net(self):
        world = self.started(experts=1)
        assert not hasattr(world.method._experts["user"], "selection")
        world.loss(world.batch(np.arange(9))).kd.backward()
        assert world.student.item_embedding.grad.abs().sum() > 0

    def test_a_student_wider_than_the_teacher_is_taught(self):
        experts = Experts(16, 4, 2, Seeds(0))
        assert experts(torch.ones(3, 16), torch.ones(3, 4), torch.zeros(3, 2), 1.0, hard=False).shape == (3, 4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"experts": 0}, "experts must be at least 1, got 0"),
            ({"temperature_end": 2.0}, r"temperature_end=2\.0 is above temperature_start=1\.0"),
            ({"temperature_end": 0.0}, r"temperature_end must be a positive number, got 0\.0"),
            ({"anneal_epochs": 0}, "anneal_epochs must be at least 1, got 0"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("de", options, Seeds(0))
