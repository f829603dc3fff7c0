import json

import numpy as np
import pytest

from fastkd.cli.records import RunRecord as Record
from fastkd.cli.records import finite, is_finished, load_evaluation, load_record, save_record
from fastkd.core.errors import CheckpointError
from fastkd.evaluation import EvalConfig, Evaluation

CONFIG = EvalConfig(ks=(5,), metrics=("ndcg",))


def evaluation():
    values = np.array([0.25, 1.0, 0.0])
    return Evaluation(
        metrics={"ndcg@5": float(values.mean())},
        per_user={"ndcg@5": values},
        users=np.array([0, 2, 5]),
        excluded_users=3,
        users_without_targets=3,
        split="test",
        config=CONFIG,
    )


def record(**changes):
    return Record(**{"student": "rrd", "seed": 1, "metrics": evaluation().metrics, "users_excluded": 3} | changes)


def test_what_was_written_is_read(tmp_path):
    assert not is_finished(tmp_path)
    save_record(tmp_path, record(definition={"a": [1, 2]}), evaluation())
    assert is_finished(tmp_path)
    back = load_record(tmp_path)
    assert back == record(users_excluded=3, definition={"a": [1, 2]})
    again = load_evaluation(tmp_path, back, CONFIG)
    np.testing.assert_array_equal(again.per_user["ndcg@5"], evaluation().per_user["ndcg@5"])
    np.testing.assert_array_equal(again.users, [0, 2, 5])
    assert again.metrics == evaluation().metrics


def test_nan_becomes_null_and_nan_again(tmp_path):
    save_record(tmp_path, record(metrics={"ndcg@5": float("nan")}), evaluation())
    assert json.loads((tmp_path / "test.json").read_text())["metrics"] == {"ndcg@5": None}
    assert np.isnan(load_evaluation(tmp_path, load_record(tmp_path), CONFIG).metrics["ndcg@5"])


def test_a_damaged_record_is_named(tmp_path):
    save_record(tmp_path, record(), evaluation())
    (tmp_path / "test.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"test\.json is damaged"):
        load_record(tmp_path)


def test_damaged_per_user_values_are_named(tmp_path):
    save_record(tmp_path, record(), evaluation())
    (tmp_path / "test_users.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"test_users\.safetensors"):
        load_evaluation(tmp_path, load_record(tmp_path), CONFIG)


def test_an_unfinished_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_record(tmp_path)


def test_finite_leaves_plain_values():
    values = {"a": (1, float("inf")), "b": np.float64(0.5), "c": np.int64(3), "d": "x"}
    assert finite(values) == {"a": [1, None], "b": 0.5, "c": 3, "d": "x"}
