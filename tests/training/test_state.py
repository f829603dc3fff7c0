import numpy as np
import pytest
import torch
from tiny_run import FakeMethod, TinyStudent, TinyTeacher, tiny_config, tiny_data
from torch import nn

from fastkd.core import CheckpointError, TrainingError
from fastkd.data.batch import Batch
from fastkd.training.callbacks import Callbacks, EarlyStop
from fastkd.training.checkpoint import Identity, read_checkpoint, write_checkpoint
from fastkd.training.meter import Meter
from fastkd.training.optimisers import build_optimizer
from fastkd.training.state import Progress, RunState, load_module
from fastkd.training.step import Learner, build_scaler, train_step

IDENTITY = Identity({}, "data")


def state(seed=0, method=None, amp="none", **changes):
    student = TinyStudent(seed)
    groups = []
    if method is not None:
        method.prepare(TinyTeacher(), student, tiny_data().train, epochs=3)
        groups = method.optimizer_groups()
    optimizer = build_optimizer(student, groups, tiny_config(**changes))
    cpu = torch.device("cpu")
    learner = Learner(student, method, optimizer, build_scaler(amp, cpu), amp)
    return RunState(learner, Progress(), Meter(), Callbacks([EarlyStop(3)]), cpu)


def steps(run, count, start=0):
    for step in range(start, start + count):
        rows = torch.arange(step, step + 20)
        negatives = torch.stack([rows % 40, (rows * 7) % 40], 1)
        values = train_step(run.learner, Batch(rows, rows % 30, (rows * 3) % 40, negatives), epoch=0, step=step)
        run.meter.add(values, step=step, epoch=0)


def through_disk(run, folder):
    write_checkpoint(folder, run.capture(IDENTITY), step=1)
    return read_checkpoint(folder / "last")


@pytest.mark.parametrize("amp", ["none", "fp16"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_restored_state_goes_on_with_the_same_bits(tmp_path, optimizer, amp):
    first = state(method=FakeMethod(), optimizer=optimizer, amp=amp)
    first.learner.method.begin_epoch(0, first.learner.student)
    steps(first, 5)
    first.progress.best_metrics = {"ndcg@10": 0.1 + 0.2}
    first.callbacks.members[0].waited = 2
    torch.manual_seed(77)
    checkpoint = through_disk(first, tmp_path)
    wanted_random = torch.rand(4)
    second = state(seed=5, method=FakeMethod(), optimizer=optimizer, amp=amp)
    second.restore(checkpoint)
    assert torch.equal(torch.rand(4), wanted_random)
    assert second.progress == first.progress
    assert second.callbacks.members[0].waited == 2
    steps(first, 4, start=5)
    steps(second, 4, start=5)
    found, wanted = second.capture(IDENTITY), first.capture(IDENTITY)
    assert found.state == wanted.state
    for name in ("student", "method_modules", "optimizer", "method_state"):
        assert set(found.tensors[name]) == set(wanted.tensors[name])
        for key, value in wanted.tensors[name].items():
            assert np.array_equal(np.asarray(value), np.asarray(found.tensors[name][key])), key


def test_what_does_not_fit_names_the_file(tmp_path):
    checkpoint = through_disk(state(), tmp_path)

    class Wide(TinyStudent):
        def __init__(self):
            super().__init__()
            self.users = nn.Parameter(torch.zeros(30, 7))

    with pytest.raises(CheckpointError, match=r"student\.safetensors does not fit: .*\[30, 6\].*\[30, 7\]"):
        load_module(Wide(), checkpoint, "student")
    other = state(method=FakeMethod())
    with pytest.raises(CheckpointError, match=r"method_modules\.safetensors does not fit: .*projector"):
        other.restore(checkpoint)
    steps(other, 1)
    more = through_disk(other, tmp_path)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors holds the groups .*projector"):
        state().restore(more)


def test_a_state_without_method_arrays_and_before_the_first_step(tmp_path):
    class Bare(FakeMethod):
        def modules(self):
            return {}

        def optimizer_groups(self):
            return []

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            assert state == {}

    run = state(method=Bare())
    checkpoint = through_disk(run, tmp_path)
    assert set(checkpoint.tensors) == {"student", "random"}
    state(seed=4, method=Bare()).restore(checkpoint)


def test_a_capture_does_not_change_the_run(tmp_path):
    first, second = state(method=FakeMethod()), state(method=FakeMethod())
    second.learner.method.projector.load_state_dict(first.learner.method.projector.state_dict())
    for _ in range(3):
        steps(first, 2)
        through_disk(first, tmp_path)
        steps(second, 2)
    assert torch.equal(first.learner.student.items, second.learner.student.items)
    assert first.meter.epoch_means(epoch=0) == second.meter.epoch_means(epoch=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_weight_is_named_with_its_first_row(bad):
    run = state()
    run.progress.step, run.progress.epoch = 9, 2
    run.check_finite()
    run.learner.student.items.data[12, 3] = bad
    said = r"student parameter items is not finite after step 9 \(epoch 2\): 1 row\(s\), first row 12"
    with pytest.raises(TrainingError, match=said):
        run.check_finite()


def test_large_but_finite_weights_pass():
    run = state()
    run.learner.student.items.data.fill_(3e38)
    run.check_finite()
