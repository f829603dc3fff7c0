"""Teachers in ids of their own: lists as ``fastkd recommend`` writes them, exports."""

import json

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from fastkd.cli.runs import load_run
from fastkd.cli.teachers import file_teacher
from fastkd.core.errors import CheckpointError, TeacherError
from fastkd.data import Dataset, IdMap, open_store
from fastkd.models import ModelTeacher, Tables
from fastkd.serving import Export, save_export

NAMED = {"integers": (lambda u: u + 1, lambda i: i + 1), "text": (lambda u: f"u{u}", lambda i: f"item {i}")}


@pytest.fixture(params=NAMED)
def shop(request, fastkd, study, write, tmp_path):
    """A study over a file with ids of its own, its teacher trained: the study's values and the folder."""
    user, item = NAMED[request.param]
    random = np.random.default_rng(0)
    # Half of what a user takes is of his kind, so that a teacher may be better than another.
    taken = {u: {*(u % 4 * 15 + random.permutation(15)[:8]), *random.permutation(60)[:6]} for u in range(60)}
    rows = [f"{user(u)},{item(i)}" for u, items in taken.items() for i in sorted(items)]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    study["data"] = {"path": str(tmp_path / "log.csv")}
    study["teacher"]["training"] |= {"epochs": 8, "eval_every": 8}
    study["student"]["training"] |= {"epochs": 1, "eval_every": 1}
    fastkd("train", write(study), "--folder", tmp_path / "run")
    del study["teacher"]
    return study, tmp_path / "run"


def metrics_of(folder):
    return json.loads((folder / "teacher/test.json").read_text())["metrics"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_recommended_lists_teach_as_the_model_they_are_of(fastkd, shop, write, tmp_path, suffix):
    study, run = shop
    lists = tmp_path / f"lists{suffix}"
    fastkd("recommend", run / "teacher", "--include-held-out", "--k", 40, "--out", lists)
    args = ("--methods", "rrd", "--teacher", lists, "--folder", tmp_path / "other")
    shown = fastkd("distill", write(study), *args)
    assert metrics_of(tmp_path / "other") == pytest.approx(metrics_of(run), abs=1e-12)
    assert metrics_of(run)["ndcg@10"] > 0.2
    assert "no item that anybody has" not in shown.stderr
    dataset = open_store(run / "data")
    wanted = ModelTeacher(load_run(run / "teacher", dataset)).lists(20, dataset.train)
    found = file_teacher([str(lists)], dataset).lists(20, dataset.train)
    assert torch.equal(found.ids, wanted.ids)
    torch.testing.assert_close(found.scores, wanted.scores)


@pytest.mark.parametrize("shop", ["text"], indirect=True)
def test_lists_without_what_is_tested_are_remarked_on(fastkd, shop, write, tmp_path):
    study, run = shop
    fastkd("recommend", run / "teacher", "--k", 40, "--out", tmp_path / "lists.csv")
    args = ("--methods", "none", "--teacher", tmp_path / "lists.csv", "--folder", tmp_path / "other")
    shown = " ".join(fastkd("distill", write(study), *args).stderr.split())
    assert "ranks no item that anybody has in the test split" in shown
    assert "fastkd recommend --include-held-out" in shown


@pytest.mark.parametrize("shop", ["text"], indirect=True)
def test_lists_without_scores_teach_the_methods_that_read_the_order(fastkd, shop, write, tmp_path):
    study, run = shop
    fastkd("recommend", run / "teacher", "--include-held-out", "--k", 40, "--out", tmp_path / "whole.csv")
    # Short lists, a user without one, an item that the data lacks.
    kept = pl.read_csv(tmp_path / "whole.csv").filter(pl.col("rank") <= 15, pl.col("user") != "u3").drop("score")
    kept.write_csv(tmp_path / "lists.csv")
    with (tmp_path / "lists.csv").open("a") as file:
        file.write("u3,new,1\n")
    (tmp_path / "teacher.yaml").write_text(
        yaml.safe_dump({"lists": {"path": "lists.csv", "short": "pad", "unknown": "drop"}})
    )
    study["methods"] = {
        "rrd": {"options": {"ranked": 5, "unranked": 5, "top": 20}},
        "rd": {"options": {"listed": 5}},
        "dcd": {"options": {"ranked": 5, "top": 20, "item_weight": 0}},
        "cd": {"options": {"guide": "teacher"}},
        "kd_ce": {},
        "prm_kd": {},
    }
    run = ("--teacher", tmp_path / "teacher.yaml", "--folder", tmp_path / "other")
    fastkd("distill", write(study), "--methods", "rrd,rd,dcd", *run)
    for name in ("cd", "kd_ce", "prm_kd"):
        refused = fastkd("distill", write(study), "--methods", name, *run, code=3).stderr
        assert "the teacher's lists have no scores, which this needs" in " ".join(refused.split())
    refused = fastkd("distill", write(study), "--teacher", tmp_path / "lists.csv", "--folder", tmp_path / "x", code=3)
    assert "names 1 item(s) that the data lacks, first: 'new'" in " ".join(refused.stderr.split())


def test_an_export_is_a_teacher_by_its_ids(fastkd, shop, write, tmp_path):
    study, run = shop
    fastkd("export", run / "teacher", "--out", tmp_path / "exported")
    dataset = open_store(run / "data")
    live = ModelTeacher(load_run(run / "teacher", dataset))
    assert file_teacher([str(tmp_path / "exported")], dataset).fingerprint() == live.fingerprint()
    args = ("--methods", "rrd", "--teacher", tmp_path / "exported", "--folder", tmp_path / "other")
    fastkd("distill", write(study), *args)
    assert metrics_of(tmp_path / "other") == pytest.approx(metrics_of(run), abs=1e-12)
    # Rows in another order, with a user and an item that the data lacks.
    users, items = live.tables().users, live.tables().items
    order = [torch.from_numpy(np.random.default_rng(0).permutation(len(t))) for t in (users, items)]
    ids = [
        IdMap(np.append(m.originals[o], m.originals.dtype.type(999)))
        for m, o in zip((dataset.users, dataset.items), order, strict=True)
    ]
    tables = Tables(*(torch.cat([t[o], torch.ones(1, t.shape[1])]) for t, o in zip((users, items), order, strict=True)))
    save_export(Export(tables, *ids), tmp_path / "shuffled")
    assert file_teacher([str(tmp_path / "shuffled")], dataset).fingerprint() == live.fingerprint()


def test_exports_that_cannot_teach_say_why(fastkd, finished, tmp_path):
    dataset, out = open_store(finished / "data"), tmp_path / "exported"
    fastkd("export", finished / "teacher", "--out", out, "--parts", "weights")
    with pytest.raises(TeacherError, match=r"exported holds no vectors to learn from; .*--parts vectors"):
        file_teacher([str(out)], dataset)
    other = Dataset(dataset.train, dataset.test, dataset.valid, dataset.users, dataset.items)
    with pytest.raises(TeacherError, match="exported was trained on other data or another split"):
        file_teacher([str(out)], other)
    tables = Tables(torch.ones(5, 2), torch.ones(4, 2))
    save_export(Export(tables, IdMap.identity(5), IdMap.identity(4)), out)
    with pytest.raises(TeacherError, match=r"exported lacks users or items of the data: .* unknown id\(s\), first: 5"):
        file_teacher([str(out)], dataset)
    with pytest.raises(CheckpointError, match="is not the manifest of a fastkd-export"):
        file_teacher([str(finished / "data")], dataset)
