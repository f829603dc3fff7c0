"""A run stopped anywhere and resumed equals the run never stopped: weights, optimiser, log bytes, best checkpoint."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import StopAt, TinyStudent, Watch, tiny_trainer

from fastkd.training import TrainingInterrupted
from fastkd.training.checkpoint import read_checkpoint

STEPS = 24  # 4 epochs of 6

CASES = {
    "alone": {"method": False},
    "method": {"method": True},
    "adamw": {"method": True, "optimizer": "adamw", "clip_norm": 0.3, "reduction": "mean"},
    "sgd": {"method": True, "optimizer": "sgd", "log_every": 4, "lr": 0.01},
    "bf16": {"method": True, "amp": "bf16"},
    "fp16": {"method": True, "amp": "fp16", "clip_norm": 0.3},
    "patience": {"method": True, "patience": 1, "eval_every": 1, "lr": 1e-7},
    "often": {"method": True, "checkpoint_every": 4, "log_every": 5, "eval_every": 3},
    "blind": {"method": True, "eval_every": 0},
}


def outcome(folder):
    """Everything that must be equal, the clock left out."""
    found = {}
    for name in ("last", "best"):
        checkpoint = read_checkpoint(folder / "checkpoints" / name)
        for file, tensors in checkpoint.tensors.items():
            found |= {f"{name}/{file}/{key}": (v.dtype, v.tolist()) for key, v in tensors.items()}
        state = {k: v for k, v in checkpoint.state.items() if k != "callbacks"}
        found[name] = {**state, "progress": {k: v for k, v in state["progress"].items() if k != "seconds"}}
        found[name]["log"] = checkpoint.state["callbacks"]["JsonlLog:metrics.jsonl"]
    found["metrics.jsonl"] = (folder / "metrics.jsonl").read_bytes()
    found["timings.jsonl"] = len((folder / "timings.jsonl").read_bytes().splitlines())
    return found


def run(folder, stops=(), **case):
    """Train, stopping after each of ``stops`` steps; every session builds all parts anew. Return weights and result."""
    before = 0
    for at in stops:
        stop = StopAt(at)
        with pytest.raises(TrainingInterrupted, match=f"SIGTERM after step {at}: resume from {folder}"):
            tiny_trainer(folder, callbacks=(stop,), student=TinyStudent(dropout=0.2), **case).fit()
        assert stop.first_step == before
        before = at
    torch.manual_seed(len(stops))  # what the caller's generator did must not matter
    student = TinyStudent(dropout=0.2)
    watch = Watch()
    result = tiny_trainer(folder, student=student, callbacks=(watch,), **case).fit()
    assert watch.first_step == before
    return student.state_dict(), result


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Each case run once without a stop, on first use."""
    known = {}

    def get(name):
        if name not in known:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            folder = tmp_path_factory.mktemp("straight") / name
            known[name] = (*run(folder, **CASES[name]), outcome(folder))
            torch.set_num_threads(before)
        return known[name]

    return get


def check(name, stops, folder, straight):
    weights, result = run(folder, stops, **CASES[name])
    wanted_weights, wanted_result, wanted = straight(name)
    found = outcome(folder)
    assert found["metrics.jsonl"] == wanted["metrics.jsonl"]
    for key in wanted | found:
        assert found.get(key) == wanted.get(key), key
    assert all(torch.equal(weights[k], v) for k, v in wanted_weights.items())
    assert (result.best_metrics, result.best_epoch, result.epochs_run, result.steps, result.stopped) == (
        wanted_result.best_metrics,
        wanted_result.best_epoch,
        wanted_result.epochs_run,
        wanted_result.steps,
        wanted_result.stopped,
    )


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_stopped_after_any_step(tmp_path, straight, at):
    check("method", [at], tmp_path / "run", straight)


@pytest.mark.parametrize("name", [n for n in CASES if n != "method"])
def test_every_kind_of_run(tmp_path, straight, name):
    last = straight(name)[1].steps
    check(name, [at for at in (2, 6, 9, 12, 17) if at < last], tmp_path / "run", straight)


@settings(deadline=None, max_examples=8)
@given(stops=st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=5))
def test_stopped_again_and_again(tmp_path_factory, straight, stops):
    check("often", sorted(stops), tmp_path_factory.mktemp("run") / "run", straight)


def test_the_same_run_twice_is_the_same(tmp_path, straight):
    check("method", [], tmp_path / "run", straight)


def test_these_comparisons_can_fail(tmp_path, straight):
    folder = tmp_path / "run"
    run(folder, method=True, seed=4)
    found, wanted = outcome(folder), straight("method")[2]
    different = {key for key in wanted if found[key] != wanted[key]}
    assert {"metrics.jsonl", "last/student/users", "last/optimizer/0/exp_avg", "best/method_state/target"} <= different
    assert straight("method")[2]["last/optimizer/2/exp_avg"][1] != 0, "the method's group is not in the checkpoint"
