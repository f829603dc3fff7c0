import dataclasses

import pytest

from fastkd.core import ConfigError
from fastkd.core.config import from_mapping, to_mapping
from fastkd.training import TrainingConfig


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("epochs", 0, "at least 1, got 0"),
        ("epochs", True, "got True"),
        ("epochs", 2.0, r"got 2\.0"),
        ("batch_size", -3, "got -3"),
        ("negatives", 0, "got 0"),
        ("eval_every", -1, "at least 0, got -1"),
        ("seed", -5, "got -5"),
        ("patience", 0, "got 0"),
        ("checkpoint_every", 0, "got 0"),
        ("keep_every", 0, "got 0"),
        ("log_every", 0, "got 0"),
        ("lr", 0.0, r"above 0, got 0\.0"),
        ("lr", float("nan"), "got nan"),
        ("lr", "fast", "got 'fast'"),
        ("weight_decay", -1e-3, r"got -0\.001"),
        ("clip_norm", float("inf"), "got inf"),
        ("optimizer", "adan", "got 'adan'.*Did you mean 'adam'"),
        ("amp", "fp8", "none, bf16, fp16, got 'fp8'"),
        ("reduction", "max", "sum, mean, got 'max'"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_value(name, value, shown):
    with pytest.raises(ConfigError, match=f"{name} must be .*{shown}"):
        TrainingConfig(**{name: value})


def test_patience_without_evaluations_is_refused():
    with pytest.raises(ConfigError, match="patience=3 counts evaluations, but eval_every=0"):
        TrainingConfig(patience=3, eval_every=0)


def test_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().epochs = 3
    with pytest.raises(TypeError):
        TrainingConfig(3)


def test_survives_a_round_trip_through_plain_values():
    config = TrainingConfig(epochs=3, clip_norm=1.0, patience=2, amp="bf16")
    assert from_mapping(TrainingConfig, to_mapping(config)) == config


def test_device_and_checkpoint_period_do_not_decide_the_result():
    first, second = TrainingConfig(), TrainingConfig(device="cpu", checkpoint_every=7, keep_every=2)
    assert first.result_mapping() == second.result_mapping()
    assert first.result_mapping() != TrainingConfig(lr=0.5).result_mapping()
    left_out = {"device", "checkpoint_every", "keep_every"}
    assert set(first.result_mapping()) == {f.name for f in dataclasses.fields(first)} - left_out
