import io
from pathlib import Path

from rich.console import Console

from fastkd.cli.progress import Counter, Display
from fastkd.cli.training_progress import TrainingProgress
from fastkd.training import RunInfo, TrainingConfig


def run(first=0):
    return RunInfo(
        epochs=3, steps_per_epoch=10, first_step=first, interactions=100, batch_size=10, device="cpu", folder=Path()
    )


def test_it_shows_steps_loss_and_the_best_metric():
    counter = Counter("x", 1, "rows", lambda _: None)
    shown = TrainingProgress(counter, TrainingConfig(epochs=3))
    shown.on_start(run())
    shown.on_epoch_start(0)
    for step in range(1, 11):
        shown.on_step(step, 10)
    shown.on_log({"event": "epoch", "epoch": 0, "step": 10, "losses": {"loss": 12.3456}})
    shown.on_evaluate({"epoch": 0, "step": 10, "metrics": {"ndcg@10": 0.2}}, improved=True)
    shown.on_evaluate({"epoch": 1, "step": 20, "metrics": {"ndcg@10": 0.1}}, improved=False)
    assert (counter.done, counter.total, counter.rows) == (10, 30, 100)
    assert counter.text == "epoch 1/3  loss 12.35  ndcg@10 0.1000 best 0.2000"


def test_a_resumed_run_begins_where_it_was():
    counter = Counter("x", 1, "rows", lambda _: None)
    TrainingProgress(counter, TrainingConfig(epochs=3)).on_start(run(first=17))
    assert counter.done == 17


def test_work_outside_the_steps_has_a_bar_of_its_own():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with Display(console) as display, display.counter("bd seed 0", 10) as counter:
        shown = TrainingProgress(counter, TrainingConfig(), display.counter)
        for done in (0, 30, 80):
            shown.on_progress("drawing by rank", done, 80)
            bars = [(t.description, t.completed, t.total) for t in display._progress.tasks]
            assert bars[1:] == ([("bd seed 0: drawing by rank", done, 80)] if done < 80 else [])
        shown.on_progress("drawing by rank", 0, 80)
        shown.close()  # as after an error
        assert len(display._progress.tasks) == 1
    assert counter.text == ""


def test_without_a_bar_the_share_stands_behind_the_counter():
    counter = Counter("x", 1, "rows", lambda _: None)
    shown = TrainingProgress(counter, TrainingConfig())
    shown.on_progress("drawing by rank", 30, 80)
    assert counter.text == "drawing by rank 37 %"
    shown.on_progress("drawing by rank", 80, 80)
    assert counter.text == ""


def test_it_leaves_nothing_in_a_checkpoint():
    assert TrainingProgress(Counter("x", 1, "rows", print), TrainingConfig()).state_dict() == {}
