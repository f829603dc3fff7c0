import pytest
import torch
from tiny_run import FakeMethod, TinyStudent, tiny_trainer

from fastkd.core import TrainingError
from fastkd.training import Callback
from fastkd.training.checkpoint import read_checkpoint


class Poison(FakeMethod):
    """Puts a value that is not finite somewhere at a step."""

    def __init__(self, where, at):
        super().__init__()
        self.where, self.at = where, at

    def prepare(self, teacher, student, train, *, epochs):
        super().prepare(teacher, student, train, epochs=epochs)
        self.student = student

    def loss(self, step):
        parts = super().loss(step)
        if step.step == self.at and self.where == "kd":
            return type(parts)(parts.kd * float("nan"), parts.parts)
        if step.step == self.at and self.where == "student":
            with torch.no_grad():
                self.student.items[7] = float("inf")
        return parts


@pytest.mark.parametrize("checkpoint_every", [None, 2])
@pytest.mark.parametrize(
    ("where", "said"),
    [("kd", r"kd is nan at step 15 \(epoch 2\)"), ("student", r"base is nan at step 16|parameter items is not finite")],
)
def test_a_loss_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(tmp_path, where, said, checkpoint_every):
    with pytest.raises(TrainingError, match=said) as caught:
        tiny_trainer(tmp_path, method=Poison(where, 15), checkpoint_every=checkpoint_every).fit()
    good = read_checkpoint(tmp_path / "checkpoints" / "last")
    assert good.state["progress"]["step"] == (14 if checkpoint_every else 12)
    assert all(bool(torch.isfinite(v).all()) for v in good.tensors["student"].values())
    assert str(good.folder.resolve()) in str(caught.value)


def test_a_weight_that_goes_bad_in_the_last_step_is_never_evaluated_or_saved(tmp_path):
    class Late(Poison):
        def begin_epoch(self, epoch, student):
            super().begin_epoch(epoch, student)
            self.student = student

    class Break(Callback):
        def __init__(self, student):
            self.student = student

        def on_step(self, step, rows):
            if step == 12:
                with torch.no_grad():
                    self.student.users[4, 2] = float("nan")
                    self.student.users[9, 0] = float("nan")

    student = TinyStudent()
    said = r"student parameter users is not finite after step 12 \(epoch 1\): 2 row\(s\), first row 4"
    with pytest.raises(TrainingError, match=said):
        tiny_trainer(tmp_path, student=student, callbacks=(Break(student),)).fit()
    assert not (tmp_path / "checkpoints").exists()


def test_a_projector_that_goes_bad_is_named_too(tmp_path):
    class Bad(FakeMethod):
        def begin_epoch(self, epoch, student):
            super().begin_epoch(epoch, student)
            if epoch == 2:
                with torch.no_grad():
                    self.projector.bias[3] = float("inf")

        def loss(self, step):
            parts = super().loss(step)
            return type(parts)(torch.zeros(()), {})

    with pytest.raises(TrainingError, match=r"method projector parameter bias is not finite .* first row 3"):
        tiny_trainer(tmp_path, method=Bad()).fit()
