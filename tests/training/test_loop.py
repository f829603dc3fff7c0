import time

import torch
from tiny_run import EVALUATION, TinyStudent, tiny_config, tiny_data, tiny_trainer

from fastkd.core import Seeds
from fastkd.data.batches import batches
from fastkd.sampling import NegativeSampler
from fastkd.training import loop
from fastkd.training.optimisers import build_optimizer
from fastkd.training.step import Learner, train_step


def test_the_loop_is_the_plain_loop(tmp_path):
    """Written out once more without any of the room's machinery: same bits."""
    student, config, data = TinyStudent(), tiny_config(eval_every=0), tiny_data()
    learner = Learner(student, None, build_optimizer(student, [], config))
    step = 0
    for epoch in range(config.epochs):
        negatives = NegativeSampler(data.train, seed=config.seed).sample_epoch(config.negatives, epoch=epoch)
        rows = batches(data.train, negatives=negatives, batch_size=40, seeds=Seeds(config.seed), epoch=epoch)
        for batch in rows:
            train_step(learner, batch, epoch=epoch, step=step)
            step += 1
    trained = TinyStudent()
    result = tiny_trainer(tmp_path, student=trained, eval_every=0).fit()
    assert result.steps == step
    assert torch.equal(trained.users, student.users)
    assert torch.equal(trained.items, student.items)


def test_the_last_short_batch_is_trained_on(tmp_path, monkeypatch):
    rows = []
    real = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda learner, batch, **at: rows.append(len(batch)) or real(learner, batch, **at)
    )
    tiny_trainer(tmp_path, batch_size=100, epochs=1, eval_every=1).fit()
    assert rows == [100, 100, 40]


def test_host_work_beside_the_step_is_below_a_millisecond(monkeypatch):
    values = {name: torch.tensor(1.0) for name in ("loss", "base", "kd", "kd/hint")}
    monkeypatch.setattr(loop, "train_step", lambda *_, **__: values)
    monkeypatch.setattr(torch.Tensor, "item", None)  # no reads either
    trainer = tiny_trainer(None, epochs=30, batch_size=1, eval_every=0)
    start = time.thread_time()
    result = trainer.fit()
    per_step = (time.thread_time() - start) / result.steps
    assert result.steps == 7200
    assert per_step < 1e-3


def test_evaluation_is_of_the_validation_split_with_the_given_configuration(tmp_path, monkeypatch):
    seen, real = [], loop.evaluate

    def noting(source, data, split, *, config):
        seen.append((split, config))
        return real(source, data, split, config=config)

    monkeypatch.setattr(loop, "evaluate", noting)
    tiny_trainer(tmp_path, epochs=5, eval_every=2).fit()
    assert seen == [("valid", EVALUATION)] * 3, "after epochs 2 and 4, and after the last"


def test_draws_of_the_next_epoch_are_made_on_a_thread(tmp_path, monkeypatch):
    import threading

    drawn = []
    real = NegativeSampler.sample_epoch
    monkeypatch.setattr(
        NegativeSampler,
        "sample_epoch",
        lambda self, n, *, epoch, **kw: (
            drawn.append(threading.current_thread().name) or real(self, n, epoch=epoch, **kw)
        ),
    )
    tiny_trainer(tmp_path, epochs=3).fit()
    assert len(drawn) == 3
    assert all(name != threading.main_thread().name for name in drawn)
