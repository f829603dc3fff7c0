"""Vectors kept along a run, for methods that learn from a teacher's earlier states."""

import pytest
import torch

from fastkd.models import load_teacher
from fastkd.training import Callback
from tests.training.tiny_run import ITEMS, USERS, tiny_trainer


def test_every_nth_epoch_is_kept_and_the_run_is_the_same(tmp_path):
    plain = tiny_trainer(tmp_path / "plain", epochs=5)
    kept = tiny_trainer(tmp_path / "kept", epochs=5, keep_every=2)
    assert plain.fit().best_metrics == kept.fit().best_metrics
    assert torch.equal(plain.student.items, kept.student.items)
    files = sorted(p.name for p in (tmp_path / "kept" / "trajectory").iterdir())
    assert files == ["epoch-00002.safetensors", "epoch-00004.safetensors"]
    assert not (tmp_path / "plain" / "trajectory").exists()


def test_what_is_kept_is_the_student_after_that_epoch(tmp_path):
    tiny_trainer(tmp_path / "long", epochs=4, keep_every=2, eval_every=0).fit()
    short = tiny_trainer(None, epochs=2, eval_every=0)
    short.fit()
    found = load_teacher(
        tmp_path / "long/trajectory/epoch-00002.safetensors", num_users=USERS, num_items=ITEMS
    ).tables()
    torch.testing.assert_close(found.items, short.student.frozen_tables().items, rtol=0, atol=0)


def test_what_was_due_is_kept_though_the_process_dies_at_the_checkpoint(tmp_path):
    class Dies(Callback):
        def on_checkpoint(self, folder, *, best):
            raise KeyboardInterrupt

    dying = tiny_trainer(tmp_path / "run", epochs=2, keep_every=1, callbacks=(Dies(),))
    with pytest.raises(KeyboardInterrupt):
        dying.fit()
    tiny_trainer(tmp_path / "run", epochs=2, keep_every=1).fit()
    assert sorted(p.name for p in (tmp_path / "run/trajectory").iterdir()) == [
        "epoch-00001.safetensors",
        "epoch-00002.safetensors",
    ]
