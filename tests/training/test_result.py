import errno
import os

import pytest

from fastkd.core import CheckpointError
from fastkd.training import TrainResult
from fastkd.training.result import read_result, write_result

RESULT = TrainResult({"ndcg@10": 0.1 + 0.2}, best_epoch=3, epochs_run=5, steps=50, seconds=1.5, stopped="patience")


def test_round_trip(tmp_path):
    assert read_result(tmp_path) is None
    write_result(tmp_path, RESULT)
    assert read_result(tmp_path) == RESULT
    write_result(tmp_path, TrainResult())
    assert read_result(tmp_path) == TrainResult()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": "many"}', '{"unknown": 1}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"result\.json is damaged"):
        read_result(tmp_path)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*result\.json: No space left"):
        write_result(tmp_path, RESULT)
    assert list(tmp_path.iterdir()) == []
