import os
from pathlib import Path

import pytest

from fastkd.data import load_dataset
from fastkd.presets import PRESETS

ROOT = Path(os.environ.get("FASTKD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def test_the_protocol_is_80_20_with_a_tenth_of_train_held_out():
    study = PRESETS.get("ml1m")
    assert study.data.ratios == (0.72, 0.08, 0.2)
    assert study.data.min_rating is None
    assert (study.teacher.model.dim, study.student.model.dim) == (100, 10)
    assert study.published.figures["none"] == {"recall@10": 0.1435, "ndcg@10": 0.2511}


def test_all_ratings_are_kept(monkeypatch):
    if not (ROOT / "ml-1m.inter.parquet").is_file():
        pytest.skip(f"no ml-1m.inter.parquet in {ROOT}")
    monkeypatch.setenv("FASTKD_DATA", str(ROOT))
    dataset = load_dataset(PRESETS.get("ml1m").data)
    assert (dataset.num_users, dataset.num_items) == (6040, 3706)
    assert dataset.train.nnz + dataset.valid.nnz + dataset.test.nnz == 1_000_209
    assert dataset.test.nnz == pytest.approx(200_042, rel=0.02)
    assert dataset.valid.nnz == pytest.approx(0.1 * (1_000_209 - dataset.test.nnz), rel=0.02)
