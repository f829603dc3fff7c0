import errno
import json
import os
import sys
import types

import pytest

from fastkd.core import CheckpointError, ConfigError
from fastkd.training import JsonlLog, TensorBoard, ThroughputMeter, logs
from fastkd.training.callbacks import RunInfo

RUN = RunInfo(epochs=2, steps_per_epoch=5, first_step=0, interactions=100, batch_size=20, device="cpu", folder=None)


def resumed(step):
    return RunInfo(2, 5, step, 100, 20, "cpu", None)


def test_records_are_lines_and_a_resumed_log_is_cut_to_its_length(tmp_path):
    log = JsonlLog(tmp_path / "deep" / "metrics.jsonl")
    log.on_start(RUN)
    log.on_log({"event": "epoch", "epoch": 0, "losses": {"loss": 0.1}})
    state = log.state_dict()
    log.on_evaluate({"event": "evaluate", "metrics": {"ndcg@10": 0.5}}, improved=True)
    log.close()
    whole = log.path.read_bytes()
    assert [json.loads(line) for line in whole.splitlines()] == [
        {"event": "epoch", "epoch": 0, "losses": {"loss": 0.1}},
        {"event": "evaluate", "metrics": {"ndcg@10": 0.5}, "improved": True},
    ]
    log.path.write_bytes(whole + b'{"torn": ')
    again = JsonlLog(log.path)
    again.load_state_dict(state)
    again.on_start(resumed(5))
    again.on_evaluate({"event": "evaluate", "metrics": {"ndcg@10": 0.5}}, improved=True)
    assert again.state_dict() == {"bytes": len(whole)}
    again.close()
    assert log.path.read_bytes() == whole


def test_a_run_that_starts_anew_empties_the_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    log = JsonlLog(path)
    log.on_start(RUN)
    log.close()
    assert path.read_bytes() == b""


def test_a_log_that_lost_lines_is_refused(tmp_path):
    log = JsonlLog(tmp_path / "metrics.jsonl")
    log.path.write_bytes(b"12345")
    log.load_state_dict({"bytes": 9})
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl holds 5 bytes, the checkpoint was made at 9"):
        log.on_start(resumed(5))
    log.close()


def test_a_full_disk_names_the_log(tmp_path, monkeypatch):
    log = JsonlLog(tmp_path / "metrics.jsonl")
    log.on_start(RUN)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write the log .*metrics\.jsonl: No space left"):
        log.state_dict()
    log.close()
    if os.path.exists("/dev/full"):  # noqa: PTH110
        broken = JsonlLog(tmp_path / "broken.jsonl")
        broken._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115, PTH123
        with pytest.raises(CheckpointError, match=r"broken\.jsonl: No space left"):
            broken.on_log({"event": "epoch"})
        broken.close()


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(logs.time, "perf_counter", lambda: now[0])
    return now


def test_rates_and_time_left(clock):
    meter = ThroughputMeter()
    assert (meter.steps_per_second, meter.interactions_per_second, meter.seconds_left) == (0.0, 0.0, None)
    meter.on_start(RUN)
    assert (meter.steps_per_second, meter.seconds_left) == (0.0, None)
    for step in (1, 2, 3, 4):
        clock[0] += 0.5
        meter.on_step(step, 20)
    assert meter.steps_per_second == 2.0
    assert meter.interactions_per_second == 40.0
    assert meter.seconds_left == 3.0


def test_rates_of_a_resumed_run_count_its_own_steps(clock):
    meter = ThroughputMeter()
    meter.on_start(resumed(6))
    clock[0] += 0.5
    meter.on_step(7, 20)
    assert (meter.steps_per_second, meter.seconds_left) == (2.0, 1.5)


def test_timings_are_written_per_epoch_and_cut_on_resume(tmp_path, clock):
    meter = ThroughputMeter(tmp_path / "timings.jsonl")
    meter.on_start(RUN)
    meter.on_epoch_start(0)
    clock[0] += 2.0
    meter.on_step(1, 50)
    meter.on_log({"event": "step", "epoch": 0, "step": 1})
    meter.on_log({"event": "epoch", "epoch": 0, "step": 1})
    state = meter.state_dict()
    meter.on_log({"event": "epoch", "epoch": 1, "step": 2})
    meter.close()
    again = ThroughputMeter(tmp_path / "timings.jsonl")
    again.load_state_dict(state)
    again.on_start(resumed(1))
    again.close()
    lines = (tmp_path / "timings.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"epoch": 0, "step": 1, "seconds": 2.0, "interactions_per_second": 25.0}
    assert len(lines) == 1


def test_two_meters_may_watch_one_run(tmp_path):
    assert ThroughputMeter().name != ThroughputMeter(tmp_path / "timings.jsonl").name


def test_tensorboard_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(logs, "has_module", lambda name: False)
    with pytest.raises(ConfigError, match=r"fastkd\[tensorboard\]"):
        TensorBoard(tmp_path)


def test_tensorboard_gets_losses_and_metrics(monkeypatch, tmp_path):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.rows, self.opened, self.closed = [], (folder, purge_step), False
            made.append(self)

        def add_scalar(self, name, value, step):
            self.rows.append((name, value, step))

        def close(self):
            self.closed = True

    monkeypatch.setattr(logs, "has_module", lambda name: True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    board = TensorBoard(tmp_path)
    board.on_start(resumed(6))
    board.on_log({"event": "step", "step": 7, "losses": {"loss": 0.5}})
    board.on_log({"event": "epoch", "step": 10, "losses": {"loss": 0.4}})
    board.on_evaluate({"step": 10, "metrics": {"ndcg@10": 0.1}}, improved=True)
    board.close()
    board.close()
    (writer,) = made
    assert writer.opened == (str(tmp_path), 7)
    assert writer.rows == [("train/loss", 0.5, 7), ("epoch/loss", 0.4, 10), ("valid/ndcg@10", 0.1, 10)]
    assert writer.closed
