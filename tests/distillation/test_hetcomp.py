from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.distillation import Shape, build_method
from fastkd.distillation import hetcomp as module
from fastkd.distillation.hetcomp import HetCompConfig, _spread, early_loss, final_loss, ndcg_distance
from fastkd.models import (
    EmbeddingTeacher,
    ListTeacher,
    ModelConfig,
    ModelTeacher,
    TeacherGroup,
    TeacherTrajectory,
    build_model,
)
from tests.contracts.method_contract import MethodContract, random_interactions
from tests.distillation.golden_numbers import compare, golden, ids


def test_published_losses_and_golden_distances():
    case = golden("hetcomp")
    scores = torch.tensor([case.published_scores], dtype=torch.float64)
    free = [1, 3, 6]  # neither seen (0, 5, 8) nor listed (7, 2, 9, 4)
    over = early_loss(scores[:, [0, 5]], scores[:, [7, 2, 9, 4]], scores[:, free].logsumexp(1))
    rank = final_loss(scores[:, [0, 5]], scores[:, [7, 2]], scores[:, [*free, 9, 4]].logsumexp(1), 1)
    assert over.item() == pytest.approx(case.published_over, rel=1e-12)
    assert over.item() == pytest.approx(11.00167328923726, rel=1e-12)
    assert rank.item() == pytest.approx(case.published_rank, rel=1e-12)
    assert rank.item() == pytest.approx(7.540778713200401, rel=1e-12)
    for wanted in case.distances:
        found = ndcg_distance(torch.tensor([wanted["student"]]), torch.tensor([wanted["state"]]))
        assert found.item() == pytest.approx(wanted["distance"], abs=1e-12)


def test_lists_that_end_early():
    student, state = torch.tensor([[3, 1, -1], [-1, -1, -1]]), torch.tensor([[1, 3, 5], [1, 3, 5]])
    assert ndcg_distance(student, state).tolist() == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("scale", [1e4, -1e4, 0.0])
def test_extreme_scores_and_nothing_left(scale):
    positives = torch.tensor([[scale, -torch.inf], [1.0, 2.0], [-torch.inf, -torch.inf]], requires_grad=True)
    targets = torch.tensor([[scale, 0.0], [-scale, scale], [-torch.inf, -torch.inf]], requires_grad=True)
    others = torch.tensor([-scale, -torch.inf, scale], requires_grad=True)
    for loss in (early_loss(positives, targets, others), final_loss(positives, targets, others, 1)):
        gradients = torch.autograd.grad(loss.sum(), [positives, targets, others])
        assert torch.isfinite(loss).all()
        assert all(torch.isfinite(g).all() for g in gradients)
        assert loss[2] == 0.0


class TestHetComp(MethodContract):
    name = "hetcomp"
    options: ClassVar = {
        "ranked": 10, "positives": 3, "list_length": 12, "compare": 8, "update": 2, "weight": 0.05, "states": 3,
    }  # fmt: skip
    sources = ("model", "embeddings", "lists")

    def teach(self, train, source="model"):
        """A trajectory of three models, each in one of three forms."""
        checkpoints = []
        for seed in (21, 22, 7):
            live = ModelTeacher(build_model(ModelConfig(dim=8, init_std=0.6), train, Seeds(seed)))
            if source == "embeddings":
                live = EmbeddingTeacher(live.tables().users, live.tables().items)
            elif source == "lists":
                lists = live.lists(train.num_items, None)
                live = ListTeacher(lists.ids, lists.scores, train.num_items)
            checkpoints.append(live)
        return TeacherTrajectory(checkpoints)

    @pytest.mark.parametrize("stage", ["early", "final"])
    def test_golden_numbers(self, stage):
        case = golden("hetcomp")
        pairs = [(u, i) for u, row in enumerate(case.seen) for i in row]
        train = Interactions.from_pairs(*zip(*pairs, strict=True), num_users=3, num_items=12)
        method = self.started(train=train, ranked=4, weight=case.weight, early_factor=case.factor).method
        method._positives, method._targets = ids(case.positives), ids(case.targets)
        assert not method._is_final
        method._aim(final=stage == "final")
        compare(method, SimpleNamespace(**getattr(case, stage)))

    def test_users_move_through_the_states_as_the_rule_says(self):
        world = self.world()
        method, optimizer = world.method, world.optimizer()
        lists = [[c.lists(12, world.train).ids.tolist() for c in world.teacher.checkpoints]]
        states, last, walked = [0] * 29, [0.0] * 29, []

        def distance(best, user, state):
            gains = [(2 ** np.exp(-k / 10) - 1) / np.log2(k + 2) for k in range(8)]
            return 1 - sum(g for g, i in zip(gains, best, strict=True) if i in lists[0][state][user][:8]) / sum(gains)

        for epoch in range(12):
            if epoch and epoch % 2 == 0:
                tables = world.student.frozen_tables()
                scores = (tables.users.double() @ tables.items.double().T).float()
                for user in range(29):
                    scores[user, torch.from_numpy(world.train.row(user).copy()).long()] = -torch.inf
                    best = scores[user].sort(descending=True, stable=True).indices[:8].tolist()
                    found = distance(best, user, min(states[user] + 1, 2))
                    if epoch == 2:
                        last[user] = found
                    elif states[user] < 2:
                        ratio = np.inf if found == 0 else last[user] / found
                        if ratio > 1.05 * 0.995 ** (epoch // 2) or ratio < 1:
                            states[user] += 1
                            last[user] = distance(best, user, min(states[user] + 1, 2))
            world.fit(optimizer, range(epoch, epoch + 1))
            assert method._states[:, 0].tolist() == states
            walked.append(sum(states))
            assert method._is_final is (round(float(np.mean(states)), 2) >= 2)
        assert walked[3] == 0 < walked[4] < walked[-1]

    def test_nobody_moves_while_a_student_stands_still(self):
        # The ratio of its distances is 1, neither above the threshold, while that is above 1, nor below 1.
        world = self.world(update=1)
        for epoch in range(10):
            assert 1.05 * 0.995**epoch > 1
            world.method.begin_epoch(epoch, world.student)
        assert not world.method._states.any()
        for epoch in range(10, 20):
            world.method.begin_epoch(epoch, world.student)
        assert world.method._states.all()

    def test_who_has_reached_the_next_state_moves_on(self):
        world = self.world()
        method, tables = world.method, world.student.frozen_tables()
        method._lists[0][1] = ops.rank_topk(tables.users, tables.items, 12, exclude=world.train).ids
        for epoch in (0, 2):
            method.begin_epoch(epoch, world.student)
            assert not method._states.any()
        assert not method._last.any()
        method.begin_epoch(4, world.student)
        assert (method._states == 1).all()

    def test_the_final_loss_orders_a_half_and_a_tenth_of_the_list(self, monkeypatch):
        seen = []
        monkeypatch.setattr(module, "final_loss", lambda *given: seen.append(given) or final_loss(*given))
        world = self.started(ranked=20, list_length=20)
        world.method._aim(final=True)
        world.loss(world.batch(np.arange(9)))
        ((_, targets, _, head),) = seen
        assert (targets.shape[1], head) == (10, 2)

    def test_the_target_is_the_list_of_the_users_state(self):
        world = self.started()
        method = world.method
        states = np.arange(29) % 3
        method._states[:, 0] = states
        method._merge()
        for user in range(29):
            wanted = world.teacher.checkpoints[states[user]].lists(10, world.train).ids[user]
            assert torch.equal(method._targets[user].long(), wanted)

    @pytest.mark.parametrize("decay", [10.0, 1.5])
    def test_several_teachers_are_merged_by_importance(self, decay):
        data = random_interactions(29, 47, 6)
        first, second = self.teach(data), self.teach(data, "embeddings").checkpoints[1]
        method = build_method(self.name, {**self.options, "states": 2, "decay": decay}, Seeds(0))
        student = build_model(ModelConfig(dim=3, init_std=0.3), data, Seeds(11))
        group = TeacherGroup([first, second])
        method.prepare(group, student, data, epochs=3)
        method.begin_epoch(0, student)
        assert [tuple(lists.shape) for lists in method._lists] == [(2, 29, 12), (1, 29, 12)]
        lists = [t.lists(12, data).ids.tolist() for t in (first.checkpoints[0], second)]
        for user in range(29):
            importance = {}
            for list_ in lists:
                for rank, item in enumerate(list_[user]):
                    importance[item] = importance.get(item, 0.0) + np.exp(-rank / decay)
            wanted = sorted(importance, key=lambda i: (-round(importance[i], 12), i))[:10]
            assert method._targets[user].tolist() == wanted

    def test_positives_are_a_fixed_choice_of_training_items(self):
        one, two = self.world(), self.world(seed=3)
        for user in range(29):
            chosen = one.method._positives[user].tolist()
            assert len(set(chosen)) == 3
            assert set(chosen) <= set(one.train.row(user).tolist())
        assert not torch.equal(one.method._positives, two.method._positives)
        assert (self.world(positives=9).method._positives == -1).sum(1).tolist() == [3] * 29

    def test_a_single_state_starts_with_the_final_loss(self):
        data = random_interactions(29, 47, 6)
        method = build_method(self.name, self.options, Seeds(0))
        student = build_model(ModelConfig(dim=3, init_std=0.3), data, Seeds(11))
        method.prepare(self.teach(data).checkpoints[-1], student, data, epochs=3)
        method.begin_epoch(0, student)
        assert method.final
        assert method._is_final

    def test_draws_do_not_depend_on_blocks(self, monkeypatch):
        whole = self.world()
        whole.fit(whole.optimizer(), range(5))
        monkeypatch.setattr(module, "BLOCK", 7)
        cut = self.world()
        cut.fit(cut.optimizer(), range(5))
        np.testing.assert_array_equal(whole.method._states, cut.method._states)
        assert torch.equal(whole.method._targets, cut.method._targets)

    def test_a_run_stopped_after_a_move_does_not_move_again(self):
        world = self.world()
        optimizer = world.optimizer()
        world.fit(optimizer, range(5))
        state = {k: v.copy() for k, v in world.method.state_dict().items()}
        other = self.world()
        other.method.load_state_dict(state)
        other.method.begin_epoch(4, world.student)
        np.testing.assert_array_equal(other.method._states, world.method._states)
        assert torch.equal(other.method._targets, world.method._targets)
        with pytest.raises(CheckpointError, match=r"hetcomp state states: expected shape \[29, 1\], got \[3, 1\]"):
            other.method.load_state_dict({**state, "states": state["states"][:3]})

    def test_the_base_loss_is_left_out_unless_asked_for(self):
        assert not self.world().method.uses_base_loss
        assert self.world(use_base_loss=True).method.uses_base_loss

    def test_a_teacher_without_a_past_is_remarked_on(self):
        world = self.world()
        assert world.method.remarks(world.teacher, world.train) == ()
        alone = self.teach(world.train).checkpoints[-1]
        (said,) = world.method.remarks(alone, world.train)
        assert "hetcomp asks for 3 states of each teacher, there are 1: no easy targets" in said
        assert "teacher.training.keep_every=EPOCHS" in said
        (said,) = build_method("hetcomp", {"states": 4, "ranked": 5}, Seeds(0)).remarks(
            TeacherGroup([world.teacher, alone]), world.train
        )
        assert "there are 3, 1. Keep more" in said

    def test_a_list_that_leaves_nothing_behind_it_is_remarked_on(self):
        train = self.world().train
        most, teacher = int((train.num_items - np.diff(train.indptr)).max()), self.teach(train)
        assert build_method("hetcomp", {"states": 3, "ranked": most - 1}, Seeds(0)).remarks(teacher, train) == ()
        (said,) = build_method("hetcomp", {"states": 3, "ranked": most}, Seeds(0)).remarks(teacher, train)
        assert f"ranked={most} takes all items that a user has left, at most {most}" in said

    def test_cost_grows_with_states_and_catalogue(self):
        at = Shape(users=1000, items=5000, dim=8, teacher_dim=16, batch=64, interactions=9000)
        cost = module.HetComp.cost(HetCompConfig(), at)
        assert cost.prepare.flops == 4 * 2 * 1000 * 5000 * 16
        assert cost.memory == 4 * (1000 * (400 + 210) + 9000)
        assert cost.step.flops > 3 * 2 * 60 * 5000 * 8

    def test_states_are_taken_evenly(self):
        made = tuple(range(10))
        assert _spread(made, 4) == [0, 3, 6, 9]
        assert _spread(made, 1) == [9]
        assert _spread(made[:2], 4) == [0, 1]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compare": 20, "list_length": 10}, "compare=20 items need lists as long"),
            ({"states": 0}, "states must be at least 1"),
            ({"update": 0}, "update must be at least 1"),
            ({"alpha": 0.0}, "alpha must be"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("hetcomp", options, Seeds(0))
