import json
import signal

import numpy as np
import pytest
import tiny_run
import torch
import yaml
from tiny_run import FakeMethod, StopAt, TinyStudent, TinyTeacher, tiny_config, tiny_data, tiny_trainer

from fastkd.core import (
    CheckpointError,
    ConfigError,
    DataError,
    Interactions,
    TeacherError,
    TrainingError,
)
from fastkd.data.dataset import Dataset
from fastkd.evaluation import evaluate
from fastkd.training import Callback, EarlyStop, ThroughputMeter, Trainer, TrainingInterrupted
from fastkd.training.checkpoint import read_checkpoint


def records(folder, event=None):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if event in (None, line["event"])]


class Noting(Callback):
    def __init__(self):
        self.calls = []

    def __getattribute__(self, hook):
        if hook.startswith("on_") or hook == "close":
            return lambda *args, **options: self.calls.append((hook, args, options))
        return super().__getattribute__(hook)

    def names(self):
        return [name for name, _, _ in self.calls]


def test_a_run_leaves_what_the_folder_promises(tmp_path):
    student = TinyStudent()
    result = tiny_trainer(tmp_path, method=True, student=student, log_every=4).fit()
    assert {p.name for p in tmp_path.iterdir()} == {
        ".lock", "config.yaml", "metrics.jsonl", "timings.jsonl", "checkpoints", "result.json"
    }  # fmt: skip
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["lr"] == 0.05
    assert [r["epoch"] for r in records(tmp_path, "epoch")] == [0, 1, 2, 3]
    assert [r["step"] for r in records(tmp_path, "step")] == [4, 8, 12, 16, 20, 24]
    assert [(r["epoch"], r["step"]) for r in records(tmp_path, "evaluate")] == [(1, 12), (3, 24)]
    assert set(records(tmp_path, "epoch")[0]["losses"]) == {"loss", "base", "kd", "kd/hint"}
    assert len((tmp_path / "timings.jsonl").read_text().splitlines()) == 4
    assert (result.epochs_run, result.steps, result.stopped) == (4, 24, "epochs")
    assert result.seconds > 0
    best = max(records(tmp_path, "evaluate"), key=lambda r: r["metrics"]["ndcg@10"])
    assert (result.best_metrics, result.best_epoch) == (best["metrics"], best["epoch"])


def test_the_student_learns_and_holds_its_best_weights(tmp_path):
    student, data = TinyStudent(), tiny_data()
    before = evaluate(student, data, "valid", config=tiny_run.EVALUATION).metrics["ndcg@10"]
    result = tiny_trainer(tmp_path, student=student, epochs=12, eval_every=1, lr=0.3).fit()
    values = [r["metrics"]["ndcg@10"] for r in records(tmp_path, "evaluate")]
    assert result.best_epoch == int(np.argmax(values)) < 11, "the case must overfit for this test to say anything"
    now = evaluate(student, data, "valid", config=tiny_run.EVALUATION).metrics
    assert now == result.best_metrics
    assert now["ndcg@10"] == max(values) > before
    assert [r["improved"] for r in records(tmp_path, "evaluate")] == [
        v > max(values[:i], default=-1) for i, v in enumerate(values)
    ]
    losses = [r["losses"]["loss"] for r in records(tmp_path, "epoch")]
    assert losses[-1] < losses[0]
    assert not np.isclose(values[-1], max(values))


def test_without_a_folder_the_outcome_is_the_same(tmp_path):
    on_disk, in_memory = TinyStudent(), TinyStudent()
    first = tiny_trainer(tmp_path, method=True, student=on_disk, eval_every=1).fit()
    second = tiny_trainer(None, method=True, student=in_memory, eval_every=1).fit()
    assert first.best_metrics == second.best_metrics
    assert first.best_epoch == second.best_epoch
    assert torch.equal(on_disk.items, in_memory.items)


def test_the_test_split_is_never_read(tmp_path):
    data = tiny_data()

    class Sealed(Dataset):
        def __getattribute__(self, name):
            if name == "test":
                pytest.fail("training read the test split")
            return super().__getattribute__(name)

        def content_hash(self):
            return "sealed"

    sealed = object.__new__(Sealed)
    sealed.__dict__.update(data.__dict__)
    tiny_trainer(tmp_path, data=sealed).fit()


def test_the_callers_random_stream_is_left_alone(tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    tiny_trainer(tmp_path, method=True).fit()
    assert torch.equal(torch.rand(3), wanted)


def test_a_finished_run_is_only_read(tmp_path):
    first = tiny_trainer(tmp_path, method=True).fit()
    log = (tmp_path / "metrics.jsonl").read_bytes()
    student, noting = TinyStudent(seed=9), Noting()

    class Untouched(FakeMethod):
        def prepare(self, *args, **options):
            pytest.fail("a finished run was prepared again")

    for resume in ("auto", "must"):
        again = tiny_trainer(tmp_path, method=Untouched(), student=student, callbacks=(noting,)).fit(resume=resume)
        assert again == first
    best = read_checkpoint(tmp_path / "checkpoints" / "best").tensors["student"]
    assert torch.equal(student.items, best["items"])
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    assert noting.calls == []


def test_resume_must_and_never(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/new holds no run to resume"):
        tiny_trainer(tmp_path / "new").fit(resume="must")
    with pytest.raises(ConfigError, match="folder=None"):
        tiny_trainer(None).fit(resume="must")
    with pytest.raises(ConfigError, match="auto, never, must, got 'yes'"):
        tiny_trainer(None).fit(resume="yes")
    tiny_trainer(tmp_path / "run").fit(resume="never")
    with pytest.raises(TrainingError, match=rf"{tmp_path}/run already holds a run and resume='never'"):
        tiny_trainer(tmp_path / "run").fit(resume="never")


@pytest.mark.parametrize("finished", [False, True])
def test_a_folder_of_another_run_is_refused(tmp_path, finished):
    if finished:
        tiny_trainer(tmp_path, method=True).fit()
    else:
        with pytest.raises(TrainingInterrupted):
            tiny_trainer(tmp_path, method=True, callbacks=(StopAt(3),)).fit()
    with pytest.raises(CheckpointError, match=r"training\.lr is 0\.05 there and 0\.5 here") as caught:
        tiny_trainer(tmp_path, method=True, lr=0.5).fit()
    assert str(caught.value).count("hash") == 1
    with pytest.raises(CheckpointError, match=r"method is {'name': 'fake'.* there and None here"):
        tiny_trainer(tmp_path).fit()
    with pytest.raises(CheckpointError, match=rf"other data \(hash {tiny_data().content_hash()}, this run has"):
        tiny_trainer(tmp_path, method=True, data=tiny_data(1)).fit()
    tiny_trainer(tmp_path, method=True, checkpoint_every=5).fit()


@pytest.mark.parametrize("file", ["student", "optimizer", "method_state", "random"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, file):
    with pytest.raises(TrainingInterrupted):
        tiny_trainer(tmp_path, method=True, callbacks=(StopAt(3),)).fit()
    path = tmp_path / "checkpoints" / "last" / f"{file}.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file}\.safetensors is corrupt"):
        tiny_trainer(tmp_path, method=True).fit()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    before = signal.getsignal(number)
    noting = Noting()
    with pytest.raises(TrainingInterrupted) as caught:
        tiny_trainer(tmp_path, callbacks=(StopAt(8, number), noting)).fit()
    assert (caught.value.step, caught.value.signum, caught.value.folder) == (8, number, tmp_path)
    assert signal.getsignal(number) is before
    progress = read_checkpoint(tmp_path / "checkpoints" / "last").state["progress"]
    assert (progress["epoch"], progress["step_in_epoch"], progress["step"]) == (1, 2, 8)
    assert noting.names()[-2:] == ["on_checkpoint", "close"]
    assert not (tmp_path / "result.json").exists()


def test_a_signal_during_evaluation_waits_for_its_checkpoint_and_makes_no_second_one(tmp_path):
    class Tell(Noting):
        def __getattribute__(self, hook):
            if hook == "on_evaluate":
                signal.raise_signal(signal.SIGTERM)
            return super().__getattribute__(hook)

    tell = Tell()
    with pytest.raises(TrainingInterrupted, match="after step 12"):
        tiny_trainer(tmp_path, callbacks=(tell,)).fit()
    assert tell.names()[-3:] == ["on_evaluate", "on_checkpoint", "close"]
    assert tell.names().count("on_checkpoint") == 1


def test_a_signal_without_a_folder_says_so():
    with pytest.raises(TrainingInterrupted, match="no run folder") as caught:
        tiny_trainer(None, callbacks=(StopAt(2),)).fit()
    assert caught.value.folder is None


def test_early_stop(tmp_path):
    result = tiny_trainer(tmp_path, epochs=50, eval_every=1, patience=2, lr=1e-9).fit()
    assert (result.stopped, result.epochs_run, result.best_epoch) == ("patience", 3, 0)
    assert tiny_trainer(tmp_path, epochs=50, eval_every=1, patience=2, lr=1e-9).fit() == result


def test_a_callback_may_stop_the_run_before_any_evaluation(tmp_path):
    class Enough(Callback):
        def stop_reason(self):
            return "enough"

    student = TinyStudent()
    result = tiny_trainer(tmp_path, student=student, callbacks=(Enough(),), eval_every=3).fit()
    assert (result.stopped, result.epochs_run, result.best_epoch, result.best_metrics) == ("enough", 1, None, {})
    assert not torch.equal(student.items, TinyStudent().items)
    assert tiny_trainer(tmp_path, eval_every=3).fit() == result


def test_without_evaluation_the_last_weights_count(tmp_path):
    data, student = tiny_data(), TinyStudent(dropout=0.2)
    bare = Dataset(data.train, Interactions.empty(data.num_users, data.num_items), data.test, data.users, data.items)
    result = tiny_trainer(tmp_path, data=bare, student=student, eval_every=0).fit()
    assert (result.best_epoch, result.best_metrics) == (3, {})
    last = read_checkpoint(tmp_path / "checkpoints" / "last")
    assert torch.equal(student.items, last.tensors["student"]["items"])
    assert last.folder.resolve() == (tmp_path / "checkpoints" / "best").resolve()


def test_hooks_come_in_order(tmp_path):
    noting = Noting()
    tiny_trainer(tmp_path, callbacks=(noting,), epochs=2, checkpoint_every=4).fit()
    epoch = ["on_epoch_start", *["on_step"] * 6, "on_log"]
    first = [*epoch[:5], "on_checkpoint", *epoch[5:]]
    second = [*epoch[:3], "on_checkpoint", *epoch[3:], "on_evaluate", "on_checkpoint"]
    assert noting.names() == ["on_start", *first, *second, "on_end", "close"]
    assert [args for name, args, _ in noting.calls if name == "on_step"][5:7] == [(6, 40), (7, 40)]
    info = noting.calls[0][1][0]
    assert (info.total_steps, info.first_step, info.interactions, info.device) == (12, 0, 240, "cpu")


def test_parts_that_do_not_fit_are_refused_before_training():
    data = tiny_data()
    with pytest.raises(TeacherError, match="method 'fake' needs a teacher"):
        Trainer(TinyStudent(), data, FakeMethod(), tiny_config(), evaluation=tiny_run.EVALUATION)
    with pytest.raises(ConfigError, match=r"'ndcg@7' is not evaluated\. Did you mean 'ndcg@.*recall@10"):
        tiny_trainer(None, monitor="ndcg@7")
    empty = Interactions.empty(data.num_users, data.num_items)
    with pytest.raises(DataError, match=r"validation split is empty.*eval_every=0"):
        tiny_trainer(None, data=Dataset(data.train, empty, data.test, data.users, data.items))
    student = TinyStudent()
    student.num_items = 40
    with pytest.raises(ConfigError, match=r"covers 30 users x 40 items, .*41 items"):
        tiny_trainer(None, student=student)
    with pytest.raises(ConfigError, match="device 'abacus' is unknown"):
        tiny_trainer(None, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device 'cuda' was asked for"):
            tiny_trainer(None, device="cuda")
        assert tiny_trainer(None, device="auto").device == torch.device("cpu")


def test_a_callback_of_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="two callbacks are called 'EarlyStop'"):
        tiny_trainer(tmp_path, patience=3, callbacks=(EarlyStop(3),)).fit()


def test_a_meter_beside_the_runs_own(tmp_path):
    meter = ThroughputMeter()
    tiny_trainer(tmp_path, callbacks=(meter,)).fit()
    assert meter.step == 24
    assert meter.rows == 4 * 240
    assert meter.steps_per_second > 0
    assert meter.seconds_left == 0


def test_two_processes_in_one_folder(tmp_path):
    trainer = tiny_trainer(tmp_path)
    with trainer.folder.lock(), pytest.raises(TrainingError, match="another process is training in"):
        trainer.fit()


def test_a_teacher_is_left_alone(tmp_path):
    class Watched(TinyTeacher):
        def __setattr__(self, name, value):
            pytest.fail(f"the trainer set {name} of the teacher")

    trainer = tiny_trainer(tmp_path, method=True)
    trainer.teacher = Watched()
    trainer.fit()
