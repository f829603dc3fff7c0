"""Training with row-sparse optimisers through the same trainer."""

import re
from pathlib import Path

import pytest
import torch

import fastkd.training
from fastkd.core import ConfigError
from fastkd.data.batch import Batch
from fastkd.models.protocol import Tables
from fastkd.training import Trainer, TrainingConfig, TrainingInterrupted
from fastkd.training.optimisers import build_optimizer
from fastkd.training.step import Learner, base_loss, train_step
from tests.contracts.closeness import assert_near
from tests.training.tiny_run import EVALUATION, FakeMethod, StopAt, TinyStudent, TinyTeacher, tiny_data

ROW = ("row_adam", "row_adamw", "row_adagrad", "row_sgd")


def train(student, **options):
    config = TrainingConfig(**{"epochs": 3, "batch_size": 50, "lr": 0.05, "eval_every": 0} | options)
    return Trainer(student, tiny_data(), None, config, evaluation=EVALUATION).fit()


@pytest.mark.parametrize("optimizer", ROW)
def test_it_learns(optimizer):
    batch = Batch(
        torch.arange(0, 240, 8),
        torch.arange(30),
        torch.from_numpy(tiny_data().train.indices[::8].astype("int64")),
        torch.zeros(30, 1, dtype=torch.int64),
    )
    student = TinyStudent()
    before = base_loss(student.tables(), batch).item()
    train(student, optimizer=optimizer, weight_decay=1e-3)
    assert base_loss(student.tables(), batch).item() < before


def test_the_gradients_list_rows_and_equal_the_dense_ones():
    student = TinyStudent()
    batch = Batch(torch.arange(3), torch.tensor([3, 3, 7]), torch.tensor([1, 2, 1]), torch.tensor([[5], [1], [-1]]))
    gradients = []
    for sparse in (True, False):
        student.zero_grad()
        base_loss(Tables(student.users, student.items, sparse=sparse), batch).backward()
        gradients.append([student.users.grad, student.items.grad])
    for rows, dense in zip(*gradients, strict=True):
        assert rows.layout is torch.sparse_coo
        assert dense.layout is torch.strided
        assert_near(rows.to_dense(), dense, hair=8)
    assert gradients[0][1]._indices().unique().tolist() == [1, 2, 5]


def test_rows_that_no_batch_read_stay_as_they_were():
    student = TinyStudent()
    before = student.items.detach().clone()
    batch = Batch(torch.arange(1), torch.tensor([3]), torch.tensor([1]), torch.tensor([[5]]))
    config = TrainingConfig(optimizer="row_adam", weight_decay=0.1)
    learner = Learner(student, None, build_optimizer(student, [], config), row_sparse=True)
    train_step(learner, batch, epoch=0, step=0)
    changed = (student.items != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [1, 5]


@pytest.mark.parametrize("optimizer", ["row_adam", "row_adagrad"])
def test_resume_equals_no_stop(tmp_path, optimizer):
    def fit(student, folder, *callbacks):
        config = TrainingConfig(epochs=4, batch_size=50, lr=0.05, optimizer=optimizer, checkpoint_every=3)
        method, teacher = FakeMethod(), TinyTeacher()
        Trainer(
            student,
            tiny_data(),
            method,
            config,
            teacher=teacher,
            evaluation=EVALUATION,
            folder=folder,
            callbacks=callbacks,
        ).fit()
        return [*student.parameters(), *method.projector.parameters()]

    whole = fit(TinyStudent(), tmp_path / "whole")
    with pytest.raises(TrainingInterrupted):
        fit(TinyStudent(), tmp_path / "stopped", StopAt(8))
    for a, b in zip(whole, fit(TinyStudent(seed=9), tmp_path / "stopped"), strict=True):
        assert torch.equal(a, b)


def test_computed_tables_and_clipping_are_refused():
    with pytest.raises(ConfigError, match=r"optimizer 'row_adam' needs a student whose tables are its parameters"):
        train(TinyStudent(dropout=0.5), optimizer="row_adam")
    with pytest.raises(ConfigError, match=r"clip_norm=1.0 needs a dense optimizer \(adam, adamw, sgd\), got 'row_sgd'"):
        TrainingConfig(optimizer="row_sgd", clip_norm=1.0)


def test_the_loop_on_the_page_runs_as_printed():
    page = Path(fastkd.training.__file__).with_name("README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "RowAdam" in block)
    world = {}
    exec(compile(code, "README.md", "exec"), world)
    assert world["items"].grad.is_sparse
    assert world["loss"].isfinite()
