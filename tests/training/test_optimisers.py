import pytest
import torch
from torch import nn

from fastkd.core import ConfigError
from fastkd.distillation.method import OptimizerGroup
from fastkd.training import TrainingConfig
from fastkd.training.optimisers import build_optimizer, clip_groups


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 37 * 5).reshape(37, 5))


def published_adam(weight, gradients, lr, decay):
    """Kingma & Ba with coupled decay, in float64."""
    weight, m, v = weight.double().clone(), 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double() + decay * weight
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weight -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return weight


def published_adamw(weight, gradients, lr, decay):
    weight, m, v = weight.double().clone(), 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double()
        weight *= 1 - lr * decay
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weight -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return weight


def published_sgd(weight, gradients, lr, decay):
    weight = weight.double().clone()
    for gradient in gradients:
        weight -= lr * (gradient.double() + decay * weight)
    return weight


def published_adagrad(weight, gradients, lr, decay):
    weight, total = weight.double().clone(), 0.0
    for gradient in gradients:
        g = gradient.double() + decay * weight
        total = total + g * g
        weight -= lr * g / (total.sqrt() + 1e-10)
    return weight


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("adam", published_adam),
        ("adamw", published_adamw),
        ("sgd", published_sgd),
        ("row_adam", published_adam),
        ("row_adamw", published_adamw),
        ("row_adagrad", published_adagrad),
        ("row_sgd", published_sgd),
    ],
)
def test_updates_follow_the_published_formula(name, truth):
    student = Student()
    optimizer = build_optimizer(student, [], TrainingConfig(optimizer=name, lr=0.01, weight_decay=0.1))
    gradients = [torch.sin(torch.arange(37 * 5) * (t + 1.0)).reshape(37, 5) for t in range(6)]
    wanted = truth(student.table.detach(), gradients, 0.01, 0.1)
    for gradient in gradients:
        student.table.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(student.table.double(), wanted, atol=2e-6, rtol=0)


def test_groups_take_their_own_values_or_the_students():
    student, one, two = Student(), nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [
        OptimizerGroup("projector", list(one.parameters()), lr=0.5),
        OptimizerGroup("second", list(two.parameters()), weight_decay=0.0),
    ]
    optimizer = build_optimizer(student, groups, TrainingConfig(lr=0.01, weight_decay=0.1))
    seen = {g["name"]: (g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups}
    assert seen == {"student": (0.01, 0.1, 1), "projector": (0.5, 0.1, 2), "second": (0.01, 0.0, 2)}
    assert optimizer.defaults["fused"]


def test_groups_that_clash_are_refused_by_name():
    student, layer = Student(), nn.Linear(2, 3)
    config = TrainingConfig()
    with pytest.raises(ConfigError, match="two optimiser groups are called 'student'"):
        build_optimizer(student, [OptimizerGroup("student", list(layer.parameters()))], config)
    with pytest.raises(ConfigError, match=r"shape \(37, 5\) is in the optimiser groups 'student' and 'again'"):
        build_optimizer(student, [OptimizerGroup("again", [student.table])], config)


def test_nothing_to_train_is_refused():
    student = Student()
    student.table.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(student, [OptimizerGroup("empty", [])], TrainingConfig())


def test_float64_parameters_are_taken():
    student = Student().double()
    optimizer = build_optimizer(student, [], TrainingConfig())
    student.table.grad = torch.ones_like(student.table)
    optimizer.step()
    assert student.table.dtype == torch.float64


def test_clipping_is_per_group_and_returns_the_norm_before():
    student, layer = Student(), nn.Linear(3, 1, bias=False)
    optimizer = build_optimizer(student, [OptimizerGroup("big", list(layer.parameters()))], TrainingConfig())
    student.table.grad = torch.full((37, 5), 1e-3)
    layer.weight.grad = torch.tensor([[3.0, 0.0, 4.0]])
    norms = clip_groups(optimizer, 1.0)
    assert {k: round(float(v), 4) for k, v in norms.items()} == {"student": 0.0136, "big": 5.0}
    assert torch.allclose(layer.weight.grad, torch.tensor([[0.6, 0.0, 0.8]]), atol=1e-5)
    assert torch.equal(student.table.grad, torch.full((37, 5), 1e-3)), "a small gradient was scaled by another group's"


def test_a_group_without_gradients_is_left_out_of_clipping():
    student = Student()
    assert clip_groups(build_optimizer(student, [], TrainingConfig()), 1.0) == {}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_fused_updates_do_not_depend_on_where_memory_lies(name):
    """Vector kernels have a scalar tail: a resumed run, whose tensors lie elsewhere, must round alike."""
    gradient, results = torch.sin(torch.arange(10_007.0)), []
    for offset in (0, 1, 3, 7):
        module = nn.Module()
        module.table = nn.Parameter(torch.zeros(10_007 + 8)[offset : offset + 10_007])
        module.table.data.copy_(torch.cos(torch.arange(10_007.0)))
        optimizer = build_optimizer(module, [], TrainingConfig(optimizer=name, lr=0.01, weight_decay=0.1))
        for _ in range(3):
            buffer = torch.zeros(10_007 + 8)
            module.table.grad = buffer[8 - offset : 8 - offset + 10_007].copy_(gradient)
            optimizer.step()
        results.append(module.table.detach().clone())
    assert all(torch.equal(results[0], other) for other in results[1:])
