import os
from pathlib import Path

import pytest

from fastkd.data import load_dataset
from fastkd.presets import PRESETS

ROOT = Path(os.environ.get("FASTKD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def test_published_hyper_parameters_and_the_stated_deviations():
    study = PRESETS.get("gowalla")
    assert (study.teacher.model.dim, study.student.model.dim) == (128, 20)
    assert study.teacher.training.weight_decay == 1e-4
    assert study.training_of("none", 0).weight_decay == 1e-3
    for name in ("rrd", "de"):
        assert study.training_of(name, 0).batch_size == 8192
        assert study.methods[name].options["weight"] == 0.005
    assert study.published.figures["rrd"]["ndcg@10"] == 0.0861


def test_all_rows_are_pooled(monkeypatch):
    if not (ROOT / "gowalla.inter.parquet").is_file():
        pytest.skip(f"no gowalla.inter.parquet in {ROOT}")
    monkeypatch.setenv("FASTKD_DATA", str(ROOT))
    dataset = load_dataset(PRESETS.get("gowalla").data)
    assert (dataset.num_users, dataset.num_items) == (29858, 40981)
    sizes = [p.nnz for p in (dataset.train, dataset.valid, dataset.test)]
    assert sum(sizes) == 1_027_370
    assert sizes[1] == pytest.approx(102_737, rel=0.1)
