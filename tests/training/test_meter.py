import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import TrainingError
from fastkd.training.meter import Meter


def feed(meter, values, start=0):
    for step, value in enumerate(values, start):
        meter.add({"loss": torch.tensor(value), "base": torch.tensor(-value)}, step=step, epoch=0)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    capacity=st.integers(1, 9),
    cut=st.integers(0, 30),
    window=st.integers(0, 30),
)
def test_means_do_not_depend_on_capacity_windows_or_an_interruption(values, capacity, cut, window):
    straight = Meter(capacity=64)
    feed(straight, values)
    meter = Meter(capacity=capacity)
    for step, value in enumerate(values):
        feed(meter, [value], start=step)
        if step == window:
            meter.window_means(epoch=0)
        if step == cut:
            state = json.loads(json.dumps(meter.state_dict()))
            meter = Meter(capacity=capacity)
            meter.load_state_dict(state, device="cpu")
    total = 0.0
    for value in values:
        total += float(np.float32(value))
    means = meter.epoch_means(epoch=0)
    assert means == straight.epoch_means(epoch=0) == {"loss": total / len(values), "base": -total / len(values)}


def test_window_means_cover_the_window_only():
    meter = Meter()
    feed(meter, [1.0, 3.0])
    assert meter.window_means(epoch=0)["loss"] == 2.0
    feed(meter, [5.0], start=2)
    assert meter.window_means(epoch=0)["loss"] == 5.0
    assert meter.epoch_means(epoch=0)["loss"] == 3.0
    assert meter.epoch_means(epoch=0) == {}


def test_an_epochs_end_starts_a_new_window():
    meter = Meter()
    feed(meter, [1.0, 3.0])
    assert meter.epoch_means(epoch=0)["loss"] == 2.0
    feed(meter, [5.0], start=2)
    assert meter.window_means(epoch=1)["loss"] == 5.0


def test_names_may_change_between_steps():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0)}, step=0, epoch=0)
    meter.add({"loss": torch.tensor(2.0), "kd": torch.tensor(8.0)}, step=1, epoch=0)
    meter.add({"loss": torch.tensor(3.0)}, step=2, epoch=0)
    assert meter.epoch_means(epoch=0) == {"loss": 2.0, "kd": 8.0}


def test_other_dtypes_and_gradients_are_taken():
    meter = Meter()
    weight = torch.ones((), requires_grad=True)
    meter.add({"loss": weight * 2, "kd": torch.tensor(3.0, dtype=torch.bfloat16)}, step=0, epoch=0)
    assert meter.epoch_means(epoch=0) == {"loss": 2.0, "kd": 3.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_value_that_is_not_finite_is_named_with_its_step(bad):
    meter = Meter()
    feed(meter, [1.0, 2.0])
    meter.add({"loss": torch.tensor(bad), "base": torch.tensor(1.0), "kd": torch.tensor(bad)}, step=17, epoch=3)
    meter.add({"loss": torch.tensor(bad), "base": torch.tensor(bad), "kd": torch.tensor(bad)}, step=18, epoch=3)
    with pytest.raises(TrainingError, match=rf"^kd is {bad} at step 17 \(epoch 3\)$"):
        meter.epoch_means(epoch=3)


def test_check_looks_without_touching():
    meter = Meter()
    feed(meter, [1.0, 2.0])
    before = meter.state_dict()
    meter.check(epoch=0)
    assert meter.state_dict() == before
    feed(meter, [float("nan")], start=2)
    with pytest.raises(TrainingError, match="at step 2"):
        meter.check(epoch=0)


def test_nothing_is_read_between_two_reads(monkeypatch):
    meter = Meter(capacity=8)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("a host sync"))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: pytest.fail("a host sync"))
    feed(meter, [1.0] * 8)


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        Meter(capacity=0)
