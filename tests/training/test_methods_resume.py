"""The published methods, with the real models: a run stopped anywhere and resumed equals one never stopped."""

import pytest
import tiny_run
import torch
from test_resume import outcome
from tiny_run import StopAt, tiny_config, tiny_data

from fastkd.core import Seeds
from fastkd.distillation import build_method
from fastkd.models import ModelConfig, ModelTeacher, build_model
from fastkd.training import Trainer, TrainingInterrupted

METHODS = {
    "none": {},
    "rrd": {"ranked": 5, "unranked": 5, "top": 15, "weight": 0.1},
    "de": {"weight": 0.1},
    "bd": {"negatives": 2, "update": 2, "teacher_lr": 0.02},
    "hint": {"hidden_ratio": 1.0},
    "bd+pckd": {"methods": {"bd": {"update": 2}, "pckd": {"experts": 2, "top": 9, "update": 2}}},
}


def trainer(folder, name, model="bpr_mf", callbacks=(), **changes):
    data, seeds = tiny_data(), Seeds(3)
    big = build_model(ModelConfig(name="bpr_mf", dim=12), data.train, Seeds(8))
    student = build_model(ModelConfig(name=model, dim=4), data.train, seeds)
    return Trainer(
        student,
        data,
        build_method(name, METHODS[name], seeds) if name != "none" else None,
        tiny_config(epochs=3, batch_size=60, eval_every=1, **changes),
        teacher=ModelTeacher(big),
        evaluation=tiny_run.EVALUATION,
        folder=folder,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("model", ["bpr_mf", "lightgcn"])
@pytest.mark.parametrize("name", METHODS)
def test_resume_is_exact(tmp_path, name, model):
    straight = trainer(tmp_path / "straight", name, model)
    wanted = straight.fit()
    for at in (1, 4, 6, 11):  # 3 epochs of 4 steps
        with pytest.raises(TrainingInterrupted):
            trainer(tmp_path / "stopped", name, model, callbacks=(StopAt(at),)).fit()
    resumed = trainer(tmp_path / "stopped", name, model)
    assert resumed.fit().best_metrics == wanted.best_metrics
    first, second = outcome(tmp_path / "straight"), outcome(tmp_path / "stopped")
    for key in first | second:
        assert first.get(key) == second.get(key), key
    for key, value in straight.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[key])


@pytest.mark.parametrize("name", [n for n in METHODS if n != "none"])
def test_distilling_changes_the_student_and_leaves_the_teacher(tmp_path, name):
    plain, distilled = trainer(None, "none"), trainer(None, name)
    before = distilled.teacher.fingerprint()
    plain.fit()
    distilled.fit()
    assert distilled.teacher.fingerprint() == before
    moved = dict(plain.student.named_parameters())
    assert any(not torch.equal(p, moved[n]) for n, p in distilled.student.named_parameters())


@pytest.mark.parametrize(("name", "groups"), [("de", 2), ("bd", 2), ("rrd", 1)])
def test_what_a_method_trains_is_in_the_checkpoint(tmp_path, name, groups):
    from fastkd.training.checkpoint import read_checkpoint

    trainer(tmp_path, name, clip_norm=0.5).fit()
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last")
    assert len(checkpoint.state["optimizer"]["groups"]) == groups
    assert ("method_modules" in checkpoint.tensors) == (groups == 2)
    trained = sum(len(g["shapes"]) for g in checkpoint.state["optimizer"]["groups"])
    assert {key.split("/")[0] for key in checkpoint.tensors["optimizer"]} == {str(i) for i in range(trained)}
