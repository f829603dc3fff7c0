import dataclasses
import os
from pathlib import Path

import pytest

from fastkd.data import load_dataset
from fastkd.presets import PRESETS

ROOT = Path(os.environ.get("FASTKD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def test_published_hyper_parameters():
    study = PRESETS.get("citeulike")
    assert (study.teacher.model.dim, study.student.model.dim) == (400, 20)
    plain, rrd, de = (study.training_of(name, 0) for name in ("none", "rrd", "de"))
    for training in (study.teacher.training, plain, rrd, de):
        assert (training.lr, training.batch_size, training.reduction) == (1e-3, 2048, "sum")
    assert (plain.weight_decay, rrd.weight_decay, de.weight_decay) == (1e-3, 1e-5, 1e-4)
    options = study.methods["rrd"].options
    assert [options[k] for k in ("weight", "ranked", "unranked", "top", "temperature")] == [0.1, 100, 200, 500, 10.0]
    assert study.methods["de"].options["weight"] == 0.05
    assert study.evaluation.mask == "train"


def test_published_figures():
    figures = PRESETS.get("citeulike").published.figures
    assert figures["teacher"] == {"recall@10": 0.0283, "ndcg@10": 0.0155, "recall@20": 0.0442, "ndcg@20": 0.0198}
    assert figures["none"]["recall@10"] == 0.0177
    assert figures["rrd"]["ndcg@20"] == 0.0169


def test_the_random_split_differs_in_split_and_epochs_alone():
    ordered, random = PRESETS.get("citeulike"), PRESETS.get("citeulike-rand")
    assert random.data.split_column == "split_rand"
    assert random.published is None
    assert (random.teacher, random.student) == (ordered.teacher, ordered.student)
    for name, method in ordered.methods.items():
        shorter = {**random.methods[name].training, "epochs": method.training["epochs"]}
        assert random.methods[name].training["epochs"] <= method.training["epochs"]
        assert dataclasses.replace(random.methods[name], training=shorter) == method


@pytest.mark.parametrize(("name", "cold"), [("citeulike", 10829), ("citeulike-rand", 958)])
def test_the_splits_have_the_published_sizes(monkeypatch, name, cold):
    if not (ROOT / "citeulike.inter.parquet").is_file():
        pytest.skip(f"no citeulike.inter.parquet in {ROOT}")
    monkeypatch.setenv("FASTKD_DATA", str(ROOT))
    dataset = load_dataset(PRESETS.get(name).data)
    assert (dataset.num_users, dataset.num_items) == (5219, 25181)
    assert (dataset.train.nnz, dataset.valid.nnz, dataset.test.nnz) == (98405, 12451, 14724)
    assert int((dataset.train.item_counts() == 0)[dataset.test.indices].sum()) == cold
