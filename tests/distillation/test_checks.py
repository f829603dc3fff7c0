from __future__ import annotations

import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import checks
from fastkd.models import EmbeddingTeacher, ModelConfig, build_model
from tests.contracts.interactions import random_interactions


def test_numbers_are_refused_by_name_and_value():
    checks.at_least(1, ranked=1)
    checks.positive(temperature=1e-10)
    checks.not_negative(weight=0.0)
    checks.one_of("sign", -1, (1, -1))
    with pytest.raises(ConfigError, match="ranked must be at least 1, got 0"):
        checks.at_least(1, top=3, ranked=0)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"temperature must be a positive number, got {value}"):
            checks.positive(temperature=value)
    with pytest.raises(ConfigError, match=r"weight must be a number of at least 0, got -0\.5"):
        checks.not_negative(weight=-0.5)
    checks.finite(shift=-1.0)
    with pytest.raises(ConfigError, match="shift must be a finite number, got inf"):
        checks.finite(shift=float("inf"))
    with pytest.raises(ConfigError, match=r"sign=2 is not allowed\. One of: 1, -1"):
        checks.one_of("sign", 2, (1, -1))


def test_shapes_are_refused_by_part():
    train = random_interactions()
    student = build_model(ModelConfig(dim=2), train, Seeds(0))
    checks.same_shape(EmbeddingTeacher(torch.ones(23, 2), torch.ones(37, 2)), student, train)
    with pytest.raises(
        TeacherError, match=r"teacher covers 22 users x 37 items, the training data 23 x 37|22 users x 37"
    ):
        checks.same_shape(EmbeddingTeacher(torch.ones(22, 2), torch.ones(37, 2)), student, train)
    wide = build_model(ModelConfig(dim=2), random_interactions(24), Seeds(0))
    with pytest.raises(TeacherError, match=r"student covers 24 users"):
        checks.same_shape(EmbeddingTeacher(torch.ones(23, 2), torch.ones(37, 2)), wide, train)


def test_device_of_a_student():
    assert checks.device_of(build_model(ModelConfig(dim=2), random_interactions(), Seeds(0))).type == "cpu"
