"""A tiny study, run once for all tests of this room, and a way to call the program in-process."""

import copy
import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from fastkd.cli.main import app
from fastkd.data import open_store, save_store
from fastkd.data.sequences import UserSequences

STUDY = {
    "name": "tiny",
    "description": "Tiny planted study",
    "data": {
        "name": "planted",
        "synthetic": {"num_users": 220, "num_items": 150, "num_clusters": 6, "interactions_per_user": 15, "seed": 3},
    },
    "teacher": {
        "model": {"name": "bpr_mf", "dim": 16},
        "training": {"epochs": 6, "batch_size": 256, "lr": 0.02, "weight_decay": 1e-3, "eval_every": 2},
    },
    "student": {
        "model": {"name": "bpr_mf", "dim": 3},
        "training": {"epochs": 4, "batch_size": 256, "lr": 0.02, "weight_decay": 1e-3, "eval_every": 2},
    },
    "methods": {
        "rrd": {"options": {"weight": 0.05, "ranked": 10, "unranked": 10, "top": 30}},
        "de": {"options": {"weight": 0.05, "experts": 2}},
        "bd": {"warm_start": "none", "training": {"epochs": 2}, "options": {"update": 2}},
    },
    "seeds": [0],
    "evaluation": {"ks": [5, 10], "metrics": ["recall", "ndcg"]},
    "published": {"source": "nowhere", "protocol": "not comparable", "figures": {"teacher": {"ndcg@10": 0.5}}},
}


class Program:
    """Calls ``fastkd`` in this process."""

    def __call__(self, *args, code=0):
        result = CliRunner().invoke(app, [str(a) for a in args])
        shown = f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        assert result.exit_code == code, shown
        assert "Traceback" not in result.stderr
        return result


@pytest.fixture
def fastkd():
    return Program()


@pytest.fixture
def study():
    """The tiny study's plain values, free to change."""
    return copy.deepcopy(STUDY)


@pytest.fixture
def write(tmp_path):
    """Writes a study file and returns its path."""

    def write_study(values, name="study.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the tiny study, finished. Tests must not change it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("finished")
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    Program()("distill", root / "study.yaml", "--folder", root / "run")
    return root / "run"


@pytest.fixture(scope="session")
def orders(tmp_path_factory):
    """Two folders of one SASRec study over one split; in the second all items come in the reverse order of time."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("orders")
    clicks = [f"{user},{(user * 7 + at * at) % 31},{at}" for user in range(40) for at in range(12)]
    (root / "clicks.csv").write_text("user,item,time\n" + "\n".join(clicks) + "\n")
    teacher = {"model": {"name": "sasrec", "dim": 6}, "training": {"epochs": 1, "batch_size": 128, "eval_every": 1}}
    values = copy.deepcopy(STUDY) | {"data": {"path": str(root / "clicks.csv")}, "teacher": teacher}
    (root / "study.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    Program()("train", root / "study.yaml", "--folder", root / "one")
    shutil.copytree(root / "one", root / "two", symlinks=True)
    data = open_store(root / "one" / "data")
    order = data.sequences
    rows = np.concatenate([order.row(user)[::-1] for user in range(order.num_users)])
    turned = dataclasses.replace(data, sequences=UserSequences(order.indptr, rows))
    save_store(turned, root / "two" / "data", overwrite=True)
    return root / "one", root / "two"


@pytest.fixture(autouse=True)
def _calm(monkeypatch):
    """One torch thread, no data folder, plain wide output."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setitem(os.environ, "COLUMNS", "200")
    monkeypatch.delenv("FASTKD_TRACEBACK", raising=False)
    yield
    torch.set_num_threads(before)
