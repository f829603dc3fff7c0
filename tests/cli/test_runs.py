import json

import pytest
import torch

from fastkd.cli.runs import load_best, load_run, ranking_rate, torch_device
from fastkd.core.errors import CheckpointError
from fastkd.core.seeds import Seeds
from fastkd.data import open_store
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, build_model


def test_a_loaded_run_ranks_as_it_was_tested(finished):
    dataset = open_store(finished / "data")
    config = EvalConfig(ks=(5, 10), metrics=("recall", "ndcg"))
    for run in ("teacher", "students/rrd/seed0", "students/bd/seed0"):
        model = load_run(finished / run, dataset)
        tested = json.loads((finished / run / "test.json").read_text())
        assert dict(evaluate(model, dataset, "test", config=config).metrics) == pytest.approx(tested["metrics"])
        valid = evaluate(model, dataset, "valid", config=config).metrics
        assert valid["ndcg@10"] == pytest.approx(tested["valid"]["ndcg@10"])


def test_weights_of_another_width_are_refused(finished):
    dataset = open_store(finished / "data")
    model = build_model(ModelConfig(dim=7), dataset.train, Seeds(0))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_best(model, finished / "teacher")


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    dataset = open_store(finished / "data")
    model = build_model(ModelConfig(dim=16), dataset.train, Seeds(0))
    with pytest.raises(CheckpointError, match="absent"):
        load_best(model, tmp_path / "absent")


def test_devices_by_name():
    assert torch_device("cpu") == torch.device("cpu")
    assert torch_device("auto").type in ("cpu", "cuda")


def test_the_ranking_rate_is_positive_and_changes_nothing(finished):
    dataset = open_store(finished / "data")
    tables = load_run(finished / "teacher", dataset).frozen_tables()
    before = tables.users.clone()
    assert ranking_rate(tables, dataset, 10) > 0
    torch.testing.assert_close(tables.users, before)


def test_a_warm_start_begins_at_the_plain_student(finished):
    first = json.loads((finished / "students" / "bd" / "seed0" / "metrics.jsonl").read_text().splitlines()[0])
    cold = json.loads((finished / "students" / "none" / "seed0" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["losses"] != cold["losses"]
