import numpy as np
import pytest
import torch
from tiny_run import ITEMS, USERS, FakeMethod, TinyStudent, TinyTeacher, tiny_config, tiny_data

from fastkd.data.batch import Batch
from fastkd.models.protocol import Tables
from fastkd.training.optimisers import build_optimizer
from fastkd.training.step import Learner, base_loss, build_scaler, train_step


def batch(rows=17, negatives=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    users = torch.randint(USERS, (rows,), generator=random)
    positives = torch.randint(ITEMS, (rows,), generator=random)
    return Batch(torch.arange(rows), users, positives, torch.randint(ITEMS, (rows, negatives), generator=random))


def learner(method=None, *, amp="none", clip_norm=None, dropout=0.0, **changes):
    student, config = TinyStudent(dropout=dropout), tiny_config(clip_norm=clip_norm, **changes)
    torch.manual_seed(0)
    groups = []
    if method is not None:
        method.prepare(TinyTeacher(), student, tiny_data().train, epochs=2)
        method.begin_epoch(0, student)
        groups = method.optimizer_groups()
    scaler = build_scaler(amp, torch.device("cpu"))
    optimizer = build_optimizer(student, groups, config)
    return Learner(student, method, optimizer, scaler, amp, config.reduction, clip_norm)


def published_bpr(users, items, batch):
    """Float64, one pair at a time, without log-space help."""
    total = 0.0
    for u, i, js in zip(batch.users, batch.positives, batch.negatives, strict=True):
        gaps = [(users[u] @ items[i] - users[u] @ items[j]).item() for j in js if j >= 0]
        total += sum(-np.log(1 / (1 + np.exp(-gap))) for gap in gaps) / len(gaps) if gaps else 0.0
    return total


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_base_loss_is_the_published_formula(reduction):
    student, rows = TinyStudent(), batch()
    rows.negatives[4, 1] = -1
    found = base_loss(student.tables(), rows, reduction=reduction).detach()
    wanted = published_bpr(student.users.detach().double(), student.items.detach().double(), rows)
    assert float(found) == pytest.approx(wanted / (len(rows) if reduction == "mean" else 1), rel=1e-6)


def test_base_loss_stays_finite_and_trainable_at_huge_scores():
    tables = Tables(torch.full((USERS, 4), 100.0, requires_grad=True), torch.full((ITEMS, 4), -25.0))
    tables.items[0] = 25.0
    rows = Batch(torch.zeros(1), torch.tensor([3]), torch.tensor([1]), torch.tensor([[0]]))
    loss = base_loss(tables, rows)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(20_000.0)
    assert torch.allclose(tables.users.grad[3], torch.full((4,), 50.0))


def test_a_step_moves_what_it_should_and_drops_the_gradients():
    method = FakeMethod()
    parts = learner(method)
    before = [p.detach().clone() for g in parts.optimizer.param_groups for p in g["params"]]
    values = train_step(parts, batch(), epoch=0, step=0)
    after = [p for g in parts.optimizer.param_groups for p in g["params"]]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)
    assert set(values) == {"loss", "base", "kd", "kd/hint"}
    assert float(values["loss"]) == float(values["base"] + values["kd"])
    assert float(values["kd"]) == pytest.approx(0.1 * float(values["kd/hint"]), rel=1e-6)
    assert all(v.dim() == 0 and not v.requires_grad for v in values.values())


def test_a_method_may_leave_the_base_loss_out():
    class Alone(FakeMethod):
        uses_base_loss = False

    values = train_step(learner(Alone()), batch(), epoch=0, step=0)
    both = train_step(learner(FakeMethod()), batch(), epoch=0, step=0)
    assert set(values) == {"loss", "kd", "kd/hint"}
    assert float(values["loss"]) == float(values["kd"]) == float(both["kd"]) > 0


def test_the_method_sees_the_batch_the_counters_and_the_same_base_loss():
    seen = []

    class Looking(FakeMethod):
        def loss(self, step):
            seen.append((step.epoch, step.step, float(step.base_loss(step.tables, step.batch).detach()), step.batch))
            return super().loss(step)

    rows = batch()
    values = train_step(learner(Looking(), reduction="mean"), rows, epoch=3, step=41)
    ((epoch, step, again, given),) = seen
    assert (epoch, step, given) == (3, 41, rows)
    assert again == float(values["base"])


def test_the_base_loss_is_reduced_as_configured():
    rows = batch()
    whole, mean = (float(train_step(learner(reduction=r), rows, epoch=0, step=0)["base"]) for r in ("sum", "mean"))
    assert mean == pytest.approx(whole / len(rows), rel=1e-6)


def test_a_models_own_loss_is_told_the_epoch_and_the_step(monkeypatch):
    # What it draws by them would else be the same in every step.
    parts, told = learner(), []
    real = parts.student.row_losses
    monkeypatch.setattr(parts.student, "row_losses", lambda *given, **at: told.append(at) or real(*given, **at))
    train_step(parts, batch(), epoch=3, step=41)
    assert told == [{"epoch": 3, "step": 41}]


def test_no_value_is_read_from_the_device(monkeypatch):
    for name in ("item", "cpu", "tolist", "__bool__", "__float__", "__int__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name: pytest.fail(f"host sync: {name}"))
    parts = learner(FakeMethod())
    parts = Learner(**{**parts.__dict__, "clip_norm": 1.0})
    train_step(parts, batch(), epoch=0, step=0)


def distance(student):
    """How far the student went from where it started."""
    start = TinyStudent()
    with torch.no_grad():
        return float(torch.cat([student.users - start.users, student.items - start.items]).norm())


def test_clipping_bounds_each_group_and_reports_the_norm_before():
    plain = learner(FakeMethod(), optimizer="sgd", lr=1.0, weight_decay=0.0)
    clipped = learner(FakeMethod(), optimizer="sgd", lr=1.0, weight_decay=0.0, clip_norm=0.01)
    train_step(plain, batch(), epoch=0, step=0)
    values = train_step(clipped, batch(), epoch=0, step=0)
    assert distance(plain.student) == pytest.approx(float(values["grad_norm/student"]), rel=1e-4)
    assert distance(clipped.student) == pytest.approx(0.01, rel=1e-3)
    assert set(values) == {"loss", "base", "kd", "kd/hint", "grad_norm/student", "grad_norm/projector"}


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_mixed_precision_stays_near_float32_and_weights_stay_float32(amp, clip_norm):
    exact = learner(FakeMethod(), optimizer="sgd", lr=0.01, clip_norm=clip_norm)
    mixed = learner(FakeMethod(), optimizer="sgd", lr=0.01, clip_norm=clip_norm, amp=amp)
    if mixed.scaler is not None:  # the scale it starts from overflows float16 here, and the first step would be skipped
        mixed.scaler.load_state_dict({**mixed.scaler.state_dict(), "scale": 256.0})
    for step in range(4):
        wanted = train_step(exact, batch(seed=step), epoch=0, step=step)
        found = train_step(mixed, batch(seed=step), epoch=0, step=step)
        assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=2e-2)
        assert found["loss"].dtype == torch.float32
    assert mixed.student.items.dtype == torch.float32
    assert torch.allclose(mixed.student.items, exact.student.items, atol=2e-3)
    assert distance(mixed.student) == pytest.approx(distance(exact.student), rel=2e-2)


def test_a_float16_overflow_skips_the_step_and_halves_the_scale():
    parts = learner(amp="fp16")
    parts.scaler.load_state_dict({**parts.scaler.state_dict(), "scale": 2.0**126})
    before = parts.student.items.detach().clone()
    parts.student.items.data[0] = 3e3
    before = parts.student.items.detach().clone()
    train_step(parts, batch(), epoch=0, step=0)
    assert torch.equal(parts.student.items, before)
    assert parts.scaler.get_scale() == 2.0**125


def test_only_float16_has_a_scaler():
    cpu = torch.device("cpu")
    assert build_scaler("none", cpu) is None
    assert build_scaler("bf16", cpu) is None
    assert build_scaler("fp16", cpu) is not None


def test_the_student_trains_in_train_mode():
    parts = learner(dropout=0.5)
    parts.student.eval()
    train_step(parts, batch(), epoch=0, step=0)
    assert parts.student.training
