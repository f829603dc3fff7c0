"""What every distillation method must hold; a method's tests inherit it and name the method and small options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError, FastKDError, TeacherError
from fastkd.distillation import METHODS, Shape, build_method
from fastkd.models import EmbeddingTeacher, ListTeacher, ModelConfig, ModelTeacher, Tables, Teacher, build_model
from fastkd.models.bpr_mf import BPRMF
from tests.contracts.interactions import random_interactions
from tests.contracts.method_extremes import MethodExtremes
from tests.contracts.method_world import World


class Hiding(BPRMF):
    """A model whose vectors are others in train mode, as dropout makes them."""

    def tables(self) -> Tables:
        """Vectors, in train mode without every second dimension."""
        kept = super().tables()
        if not self.training:
            return kept
        mask = (torch.arange(self.dim) % 2).to(kept.users.dtype)
        return Tables(kept.users * mask, kept.items * mask)


class MethodContract(MethodExtremes):
    """Inherit, set the class variables."""

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]]
    sources: ClassVar[tuple[str, ...]]
    """Which of model, embeddings, lists can teach."""
    own_modules: ClassVar[bool] = False
    """Whether the method trains something beside the student."""
    draws: ClassVar[bool] = True
    """Whether an epoch's first loss depends on the seed."""
    falls_to: ClassVar[float] = 0.97
    """Part of its first value under which the loss falls in 40 steps; a cross entropy cannot fall below the entropy."""
    trains_teacher: ClassVar[bool] = False
    """Whether a copy of the teacher trains too."""

    def world(
        self,
        *,
        seed: int = 0,
        source: str = "model",
        student: str = "bpr_mf",
        train: Interactions | None = None,
        teacher: Teacher | None = None,
        **options: Any,
    ) -> World:
        """A prepared method; ``options`` override the class's."""
        data = random_interactions(29, 47, 6) if train is None else train
        teacher = self.teach(data, source) if teacher is None else teacher
        learner = build_model(ModelConfig(name=student, dim=3, init_std=0.3), data, Seeds(11))
        method = build_method(self.name, {**self.options, **options}, Seeds(seed))
        method.prepare(teacher, learner, data, epochs=6)
        return World(data, learner, teacher, method, Seeds(seed))

    def teach(self, train: Interactions, source: str = "model") -> Teacher:
        """The same knowledge in one of three forms."""
        live = ModelTeacher(build_model(ModelConfig(dim=8, init_std=0.6), train, Seeds(7)))
        if source == "model":
            return live
        if source == "embeddings":
            return EmbeddingTeacher(live.tables().users, live.tables().items)
        lists = live.lists(train.num_items, None)
        return ListTeacher(lists.ids, lists.scores, train.num_items)

    def started(self, **options: Any) -> World:
        world = self.world(**options)
        world.method.begin_epoch(0, world.student)
        return world

    # -- life ---------------------------------------------------------------------------------------------

    def test_the_loss_falls_when_it_alone_is_minimised(self):
        world = self.started(weight=1.0)
        batch = world.batch(np.arange(world.train.nnz))
        optimizer, losses = world.optimizer(), []
        for _ in range(40):
            parts = world.loss(batch)
            optimizer.zero_grad()
            parts.kd.backward()
            optimizer.step()
            losses.append(parts.kd.item())
        assert losses[-1] < self.falls_to * losses[0]

    @pytest.mark.parametrize("student", ["bpr_mf", "lightgcn"])
    def test_gradient_reaches_the_student_and_not_the_given_teacher(self, student):
        world = self.started(student=student)
        world.loss(world.batch(np.arange(40))).kd.backward()
        for name, parameter in world.student.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name
        assert all(p.grad is None for p in world.teacher.model.parameters())
        held = [p for module in world.method.modules().values() for p in module.parameters()]
        assert bool(held) is self.own_modules
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in held)

    def test_what_is_trained_is_what_is_saved(self):
        world = self.started()
        groups = world.method.optimizer_groups()
        trained = {id(p) for group in groups for p in group.parameters}
        saved = {id(p) for module in world.method.modules().values() for p in module.parameters()}
        assert trained == saved
        assert len({group.name for group in groups}) == len(groups)

    @pytest.mark.parametrize("training", [True, False])
    def test_the_given_teacher_is_left_as_it_was(self, training):
        world = self.world()
        model = world.teacher.model.train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        world.fit(world.optimizer(), range(2))
        assert model.training is training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(world.teacher.tables().users, before["user_embedding"])

    def test_the_teacher_is_read_in_eval_mode_whatever_its_owner_does(self):
        if self.trains_teacher:
            assert all(module.training for module in self.started().method.modules().values())
            return
        losses = []
        for training in (False, True):
            data = random_interactions(29, 47, 6)
            given = self.teach(data).model
            model = Hiding(given.user_embedding, given.item_embedding).train(training)
            world = self.world(train=data, teacher=ModelTeacher(model))
            model.train(not training)
            losses.append(world.fit(world.optimizer(), range(3)))
            assert model.training is not training
        assert losses[0] == losses[1]

    # -- randomness ---------------------------------------------------------------------------------------

    def test_same_seed_same_losses(self):
        torch.manual_seed(1)
        first = self.world(seed=4)
        one = first.fit(first.optimizer(), range(3))
        torch.manual_seed(2)
        second = self.world(seed=4)
        assert one == second.fit(second.optimizer(), range(3))

    def test_another_seed_another_draw(self):
        values = []
        for seed in (1, 2):
            world = self.started(seed=seed)
            world.seeds = Seeds(0)
            values.append(world.loss(world.batch(np.arange(60))).kd.item())
        assert (values[0] != values[1]) is self.draws

    def test_global_generators_are_left_alone(self):
        state = torch.get_rng_state()
        world = self.started()
        world.loss(world.batch(np.arange(20)))
        assert torch.equal(state, torch.get_rng_state())

    def test_order_of_the_batch_does_not_matter(self):
        world = self.started()
        entries = np.arange(0, 120)
        shuffled = np.random.default_rng(0).permutation(entries)
        values = [world.loss(world.batch(e)).kd.item() for e in (entries, shuffled)]
        assert values[0] == pytest.approx(values[1], rel=1e-5)

    # (1, 2): between two steps of an epoch; (3, 0): epoch 3 lies inside a window drawn from an earlier student.
    @pytest.mark.parametrize(("epoch", "step"), [(1, 2), (3, 0), (3, 1)])
    def test_a_resumed_run_is_the_uninterrupted_one(self, epoch, step):
        whole = self.world()
        wanted = whole.fit(whole.optimizer(), range(5))
        stopped = self.world()
        optimizer = stopped.optimizer()
        before = (*(range(3) for _ in range(epoch)), range(step))
        losses = stopped.fit(optimizer, range(epoch + (step > 0)), steps=before)
        resumed = self.world()
        resumed.student.load_state_dict(stopped.student.state_dict())
        for name, module in resumed.method.modules().items():
            module.load_state_dict(stopped.method.modules()[name].state_dict())
        state = {key: value.copy() for key, value in stopped.method.state_dict().items()}
        assert all(isinstance(value, np.ndarray) for value in state.values())
        resumed.method.load_state_dict(state)
        again = resumed.optimizer()
        again.load_state_dict(optimizer.state_dict())
        after = (range(step, 3), *(range(3) for _ in range(5)))
        assert losses + resumed.fit(again, range(epoch, 5), steps=after) == wanted
        assert torch.equal(resumed.student.tables().items, whole.student.tables().items)

    # -- sources ------------------------------------------------------------------------------------------

    def test_every_source_that_can_teach_teaches_the_same(self):
        values = []
        for source in self.sources:
            world = self.world(source=source)
            values.append(world.fit(world.optimizer(), range(2)))
        assert all(value == values[0] for value in values)

    @pytest.mark.parametrize("source", ["model", "embeddings", "lists"])
    def test_other_sources_are_refused(self, source):
        if source in self.sources:
            self.world(source=source)
            return
        wanted = {"embeddings": "EmbeddingTeacher is no live model", "lists": "ListTeacher"}[source]
        with pytest.raises(TeacherError, match=wanted):
            self.world(source=source)

    def test_a_teacher_of_another_catalogue_is_refused(self):
        data = random_interactions(29, 47, 6)
        method = build_method(self.name, self.options, Seeds(0))
        student = build_model(ModelConfig(dim=3), data, Seeds(1))
        with pytest.raises(TeacherError, match=r"teacher covers 29 users x 46 items.*29 users x 47"):
            method.prepare(self.teach(random_interactions(29, 46, 6)), student, data, epochs=2)

    # -- numbers ------------------------------------------------------------------------------------------

    def test_parts_are_named_finite_and_outside_the_graph(self):
        world = self.started()
        parts = world.loss(world.batch(np.arange(30)))
        assert parts.kd.shape == ()
        assert parts.parts
        for name, value in parts.parts.items():
            assert value.shape == (), name
            assert not value.requires_grad, name
            assert torch.isfinite(value), name

    def test_a_mean_is_a_part_of_the_sum(self):
        # Sixty rows are of ten users, so of ten entities at least, whatever the mean is over.
        sums, means = ((w := self.started(reduction=r)).loss(w.batch(np.arange(60))).parts for r in ("sum", "mean"))
        for name, value in sums.items():
            if value > 0 and not name.startswith(("share_", "pckd_order_kept", "teacher_base")):
                assert 0 < means[name] < value / 5, name

    def test_row_sparse_gradients_are_the_dense_ones(self):
        gradients = []
        for sparse in (False, True):
            world = self.started()
            tables = dataclasses.replace(world.student.tables(), sparse=sparse)
            world.loss(world.batch(np.arange(60)), tables=tables).kd.backward()
            found = [p.grad for p in world.student.parameters()]
            gradients.append([g.to_dense() if g.is_sparse else g for g in found])
        for dense, rows in zip(*gradients, strict=True):
            torch.testing.assert_close(rows, dense, rtol=1e-5, atol=1e-7)

    # -- configuration ------------------------------------------------------------------------------------

    def test_it_is_registered_with_its_config(self):
        method = METHODS.get(self.name)
        assert method.name == self.name
        assert method.paper
        assert method.knowledge
        assert method.config_type().weight > 0

    def test_its_cost_is_counted(self):
        kind = METHODS.get(self.name)
        config = build_method(self.name, self.options, Seeds(0)).config
        sizes = {"users": 5000, "items": 20_000, "dim": 16, "teacher_dim": 64, "batch": 512, "interactions": 90_000}
        small, large = (kind.cost(config, Shape(**{**sizes, "items": n})) for n in (20_000, 40_000))
        assert small is not None
        assert small.step.flops > 0
        assert small.step.bytes > 0
        assert small.memory >= 0
        assert small.every >= 0
        for part in ("step", "prepare", "refresh"):
            assert getattr(large, part).flops >= getattr(small, part).flops

    def test_unknown_and_impossible_options_are_refused_by_name(self):
        with pytest.raises(ConfigError, match=rf"{re.escape(self.name)}\.wieght.*Did you mean 'weight'"):
            build_method(self.name, {"wieght": 1.0}, Seeds(0))
        for value in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match=f"weight must be .*{value}"):
                build_method(self.name, {"weight": value}, Seeds(0))
        with pytest.raises(ConfigError, match=r"reduction.*'median'"):
            build_method(self.name, {"reduction": "median"}, Seeds(0))

    def test_foreign_state_is_refused(self):
        world = self.world()
        with pytest.raises((ValueError, FastKDError)):
            world.method.load_state_dict({"foreign": np.zeros(3)})
