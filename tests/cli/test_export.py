"""``fastkd export``: what it writes ranks as the run does."""

import json

import pyarrow.parquet as pq
import pytest
import torch

from fastkd.cli.runs import load_run
from fastkd.data import open_store
from fastkd.serving import load_export, load_index, load_program


def student(finished):
    return finished / "students" / "rrd" / "seed0"


def test_an_export_ranks_as_the_student_recommends(fastkd, finished, tmp_path):
    out, lists = tmp_path / "out", tmp_path / "lists.parquet"
    shown = fastkd("export", student(finished), "--out", out)
    assert "tower-" in shown.stderr
    assert "users ['batch']" in shown.stderr
    assert "220 users, 150 items, score: inner product" in shown.stderr
    fastkd("recommend", student(finished), "--out", lists, "--k", "5")
    export, tower = load_export(out), load_program(out)
    found = export.tables.topk(torch.arange(220), 5, exclude=export.seen)
    table = pq.read_table(lists)
    assert export.items.decode(found.ids.numpy().ravel()).tolist() == table["item"].to_pylist()
    assert found.scores.flatten().tolist() == table["score"].to_pylist()
    assert torch.equal(tower(torch.arange(220)), export.tables.users)


def test_an_export_says_which_run_it_is_of(fastkd, finished, tmp_path):
    shown = json.loads(fastkd("export", student(finished), "--out", tmp_path / "out", "--json").stdout)
    assert set(shown["files"]) == {
        "tables", "weights", "tower", "user_ids", "item_ids", "seen_indptr", "seen_indices",
    }  # fmt: skip
    about = load_export(tmp_path / "out").metadata
    assert (about["student"], about["seed"], about["model"]["dim"]) == ("rrd", 0, 3)
    assert about["config"]["options"]["ranked"] == 10
    assert about["data_hash"] == open_store(finished / "data").content_hash()
    assert about["metrics"] == json.loads((student(finished) / "test.json").read_text())["metrics"]
    weights = load_run(student(finished), open_store(finished / "data")).state_dict()
    exported = load_export(tmp_path / "out").weights
    assert all(torch.equal(value, exported[name]) for name, value in weights.items())


def test_parts_and_what_was_seen_may_be_left_out(fastkd, finished, tmp_path):
    fastkd("export", student(finished), "--out", tmp_path / "out", "--parts", "vectors", "--without-seen")
    export = load_export(tmp_path / "out")
    assert export.seen is None
    assert export.weights is None
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_an_index_of_the_items(fastkd, finished, tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed: pip install 'fastkd[faiss]'")
    fastkd("export", finished / "teacher", "--out", tmp_path, "--parts", "vectors,faiss", "--index", "HNSW8,Flat")
    index = load_index(tmp_path)
    assert (index.ntotal, index.d) == (150, 16)
    assert json.loads((tmp_path / "manifest.json").read_text())["files"]["faiss"]["factory"] == "HNSW8,Flat"


def test_a_factory_string_asks_for_the_index(fastkd, finished, tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed: pip install 'fastkd[faiss]'")
    fastkd("export", finished / "teacher", "--out", tmp_path / "a", "--index", "IVF4,Flat")
    fastkd("export", finished / "teacher", "--out", tmp_path / "b", "--index", "HNSW8", "--parts", "vectors")
    held = [json.loads((tmp_path / name / "manifest.json").read_text())["files"] for name in "ab"]
    assert [files["faiss"]["factory"] for files in held] == ["IVF4,Flat", "HNSW8"]
    assert {"tower", "weights"} <= set(held[0])
    assert not {"tower", "weights"} & set(held[1])
    refused = fastkd("export", finished / "teacher", "--out", tmp_path / "c", "--index", "Falt", code=2)
    assert "faiss knows no index 'Falt'" in refused.stderr
    assert not (tmp_path / "c").exists()


def test_a_student_that_scores_pairs_says_what_works(fastkd, write, study, tmp_path):
    study["student"]["model"] = {"name": "neumf", "dim": 3}
    study["student"]["training"] |= {"epochs": 1, "eval_every": 1}
    fastkd("train", write(study), "--role", "student", "--folder", tmp_path / "run")
    run = tmp_path / "run" / "students" / "none" / "seed0"
    refused = fastkd("export", run, "--out", tmp_path / "out", "--parts", "vectors,faiss", code=2)
    assert "NeuMF scores pairs and has no user and item vectors. Possible: weights, scorer" in refused.stderr
    refused = fastkd("export", run, "--out", tmp_path / "out", "--index", "Flat", code=2)
    assert "faiss cannot be exported: NeuMF scores pairs" in refused.stderr
    fastkd("export", run, "--out", tmp_path / "out")
    model, users, items = load_run(run, open_store(tmp_path / "run" / "data")), torch.arange(220), torch.arange(150)
    found = load_program(tmp_path / "out", "scorer")(users, items.expand(220, -1))
    wanted = model.frozen_tables().scores(users, items.expand(220, -1))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--parts", "vektors"], "unknown part 'vektors' of an export"),
        (["--parts", "scorer"], "Possible: weights, vectors, tower, faiss"),
    ],
)
def test_what_cannot_be_exported_is_refused(fastkd, finished, tmp_path, arguments, says):
    refused = fastkd("export", student(finished), "--out", tmp_path / "out", *arguments, code=2)
    assert says in " ".join(refused.stderr.split())
    assert not (tmp_path / "out").exists()
    (tmp_path / "thesis.txt").write_text("mine")
    assert "'thesis.txt'" in fastkd("export", student(finished), "--out", tmp_path, code=3).stderr
