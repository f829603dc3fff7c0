import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from fastkd.cli.runs import load_run
from fastkd.cli.teachers import file_teacher, run_teacher
from fastkd.core.errors import CheckpointError, TeacherError
from fastkd.data import open_store
from fastkd.models import (
    EmbeddingTeacher,
    ModelTeacher,
    StoredTeacher,
    TeacherGroup,
    TeacherTrajectory,
    TopKLists,
    save_lists,
    save_tables,
)
from fastkd.serving import Export, save_export


@pytest.fixture
def dataset(finished):
    return open_store(finished / "data")


def test_a_run_folder_is_a_live_teacher(finished, dataset):
    teacher = file_teacher([str(finished / "teacher")], dataset)
    assert teacher.model.dim == 16
    expected = ModelTeacher(load_run(finished / "teacher", dataset)).fingerprint()
    assert teacher.fingerprint() == expected


def test_a_run_on_other_data_is_refused(finished, dataset, tmp_path, fastkd, study, write):
    study["data"]["synthetic"]["seed"] = 4
    study["teacher"]["training"]["epochs"] = 1
    fastkd("train", write(study), "--role", "teacher", "--folder", tmp_path / "other")
    with pytest.raises(TeacherError, match="trained on other data"):
        file_teacher([str(tmp_path / "other" / "teacher")], dataset)


def test_a_run_is_the_model_that_its_own_order_of_time_made(orders):
    mine, other = orders
    data, theirs = open_store(mine / "data"), open_store(other / "data")
    assert data.content_hash() == theirs.content_hash()
    teacher = file_teacher([str(other / "teacher")], data)
    assert torch.equal(teacher.tables().users, load_run(other / "teacher", theirs).frozen_tables().users)
    assert not torch.equal(teacher.tables().users, load_run(other / "teacher", data).frozen_tables().users)


def test_vectors_and_lists_are_teachers(finished, dataset, tmp_path):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    save_tables(tmp_path / "t.safetensors", live.tables())
    assert file_teacher([str(tmp_path / "t.safetensors")], dataset).fingerprint() == live.fingerprint()
    lists = live.lists(20, dataset.train)
    save_lists(tmp_path / "t.parquet", lists, num_items=dataset.num_items)
    kept = file_teacher([str(tmp_path / "t.parquet")], dataset).lists(10, dataset.train)
    assert isinstance(kept, TopKLists)
    torch.testing.assert_close(kept.ids, lists.ids[:, :10])


def test_a_study_learns_from_vectors(fastkd, finished, dataset, tmp_path, study, write):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    save_tables(tmp_path / "t.safetensors", live.tables())
    study["student"]["training"]["epochs"] = 1
    del study["teacher"]
    args = ("--methods", "none,rrd", "--teacher", tmp_path / "t.safetensors", "--folder", tmp_path / "run")
    with_teacher = fastkd("distill", write(study), *args)
    assert "from files" in with_teacher.stdout
    refused = fastkd("distill", "--folder", tmp_path / "run", "--methods", "bd", code=3)
    assert "live model" in refused.stderr


def test_a_method_refuses_a_teacher_that_lacks_what_it_needs(fastkd, finished, dataset, tmp_path, study, write):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    save_lists(tmp_path / "t.parquet", live.lists(20, dataset.train), num_items=dataset.num_items)
    study["student"]["training"]["epochs"] = 1
    args = ("--methods", "de", "--teacher", tmp_path / "t.parquet", "--folder", tmp_path / "run")
    assert "ListTeacher" in fastkd("distill", write(study), *args, code=3).stderr


def test_absent_files_are_named(dataset, tmp_path, finished):
    with pytest.raises(TeacherError, match="absent"):
        file_teacher([str(tmp_path / "absent.safetensors")], dataset)
    with pytest.raises(CheckpointError, match=r"run\.yaml"):
        file_teacher([str(tmp_path)], dataset)
    says = r"techer does not exist\. Did you mean 'teacher'\? .*a run folder, .* export.*, .*teacher\.yaml"
    with pytest.raises(TeacherError, match=says):
        file_teacher([str(finished / "techer")], dataset)
    with pytest.raises(TeacherError, match=r"nowhere.teacher\.yaml does not exist\. A teacher is"):
        file_teacher([str(tmp_path / "nowhere" / "teacher.yaml")], dataset)
    np.save(tmp_path / "u.npy", np.zeros((dataset.num_users, 2)))
    with pytest.raises(TeacherError, match=r"i\.npy does not exist"):
        file_teacher([str(tmp_path / "u.npy"), str(tmp_path / "i.npy")], dataset)
    copy = tmp_path / "copy"
    shutil.copytree(finished / "teacher", copy, symlinks=True)
    info = yaml.safe_load((copy / "run.yaml").read_text()) | {"study": str(finished)}
    (copy / "run.yaml").write_text(yaml.safe_dump(info))
    assert file_teacher([str(copy)], dataset).model.dim == 16


def test_several_teachers_are_a_group_and_a_folder_of_checkpoints_a_trajectory(finished, dataset, tmp_path):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    tables = live.tables()
    np.save(tmp_path / "u.npy", tables.users.numpy())
    np.save(tmp_path / "i.npy", tables.items.numpy())
    states = tmp_path / "states"
    states.mkdir()
    for epoch in (2, 10):
        save_tables(states / f"epoch{epoch}.safetensors", type(tables)(tables.users * epoch, tables.items))
    save_lists(states / "epoch11.parquet", live.lists(dataset.num_items, None), num_items=dataset.num_items)
    sources = [finished / "teacher", tmp_path / "u.npy", tmp_path / "i.npy", states]
    teacher = file_teacher([str(s) for s in sources], dataset)
    assert isinstance(teacher, TeacherGroup)
    run, pair, folder = teacher.members
    assert run.fingerprint() == live.fingerprint()
    assert isinstance(pair, EmbeddingTeacher)
    assert isinstance(folder, TeacherTrajectory)
    assert [getattr(c, "path", states).stem for c in folder.checkpoints] == ["epoch2", "epoch10", "states"]
    assert torch.equal(folder.lists(9, dataset.train).ids, live.lists(9, dataset.train).ids)


@pytest.mark.parametrize("finished_as", ["final", "last", "best"])
def test_a_checkpoint_without_a_number_has_no_place_among_others(finished, dataset, tmp_path, finished_as):
    tables = load_run(finished / "teacher", dataset).frozen_tables()
    save_tables(tmp_path / f"{finished_as}.safetensors", tables)
    alone = file_teacher([str(tmp_path)], dataset)
    assert torch.equal(alone.tables().users, tables.users)
    save_tables(tmp_path / "epoch2.safetensors", tables)
    with pytest.raises(TeacherError, match=rf"{finished_as}\.safetensors has no number, so its place .* not known"):
        file_teacher([str(tmp_path)], dataset)


def test_lists_in_a_run_folder_are_no_checkpoints_of_it(finished, dataset, tmp_path):
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    run = tmp_path / "run" / "teacher"
    for name in ("lists.csv", "lists2.csv"):
        (run / name).write_text("user,item,rank\n")
    assert file_teacher([str(run)], dataset).model.dim == 16


KEPT = {
    "ir_rrd": {"ranked": 5, "unranked": 5, "top": 20, "item_ranked": 4, "item_unranked": 4, "item_top": 20},
    "dcd": {"ranked": 10, "top": 40},
    "unkd": {"pairs": 6, "top": 30},
    "hetcomp": {"update": 1, "ranked": 20, "list_length": 50},
}


def test_new_methods_run_on_a_file_with_a_teacher_that_kept_its_states(fastkd, study, write, tmp_path):
    random = np.random.default_rng(0)
    rows = [f"u{u}\ti{i}" for u in range(40) for i in random.permutation(60)[:12]]
    (tmp_path / "log.tsv").write_text("user\titem\n" + "\n".join(rows) + "\n")
    study["data"] = {"path": str(tmp_path / "log.tsv")}
    study["teacher"]["training"] |= {"epochs": 4, "keep_every": 1, "eval_every": 4, "batch_size": 64}
    study["student"]["training"] |= {"epochs": 3, "eval_every": 3}
    study["methods"] = {name: {"options": {"weight": 0.01, **options}} for name, options in KEPT.items()}
    for name in KEPT:
        fastkd("distill", write(study), "--method", name, "--folder", tmp_path / "run")
        assert (tmp_path / "run/students" / name / "seed0/test.json").is_file()
    dataset = open_store(tmp_path / "run/data")
    teacher = run_teacher(tmp_path / "run/teacher", dataset, kept=True)
    assert isinstance(teacher, TeacherTrajectory)
    assert [type(c) for c in teacher.checkpoints] == [StoredTeacher] * 3 + [ModelTeacher]
    # The same states from files, beside a second teacher.
    states = tmp_path / "run/teacher/trajectory"
    del study["teacher"]
    several = ("--teacher", states, "--teacher", states / "epoch-00001.safetensors")
    out = fastkd("distill", write(study), "--method", "hetcomp", *several, "--folder", tmp_path / "group")
    assert "from files" in out.stdout
    assert (
        "one teacher alone"
        in fastkd(
            "distill", write(study), "--method", "ir_rrd", *several, "--folder", tmp_path / "group", code=3
        ).stderr
    )


def test_states_that_were_not_kept_are_asked_for_in_vain(finished, dataset):
    assert isinstance(run_teacher(finished / "teacher", dataset), ModelTeacher)
    with pytest.raises(TeacherError, match=r"keep_every asks for .* trained without keeping any"):
        run_teacher(finished / "teacher", dataset, kept=True)


def test_prm_kd_learns_from_unlike_teachers(fastkd, finished, dataset, tmp_path, study, write):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    tables = live.tables()
    np.save(tmp_path / "u.npy", tables.users.numpy())
    np.save(tmp_path / "i.npy", tables.items.numpy())
    save_lists(tmp_path / "t.parquet", live.lists(dataset.num_items, None), num_items=dataset.num_items)
    study["student"]["training"]["epochs"] = 2
    study["methods"] = {
        "prm_kd": {"options": {"weight": 0.5, "listed": 10, "drawn": 20, "teacher_temperatures": [1, 0.5, 2]}}
    }
    del study["teacher"]
    sources = (finished / "teacher", tmp_path / "u.npy", tmp_path / "i.npy", tmp_path / "t.parquet")
    several = [word for source in sources for word in ("--teacher", source)]
    out = fastkd("distill", write(study), "--method", "prm_kd", *several, "--folder", tmp_path / "run")
    assert "from files" in out.stdout
    log = (tmp_path / "run/students/prm_kd/seed0/metrics.jsonl").read_text().splitlines()
    assert json.loads(log[0])["losses"]["kd"] > 0
    assert "prm_kd" in fastkd("methods").stdout
    study["methods"]["prm_kd"]["options"]["teacher_temperatures"] = [1, 0.5]
    refused = fastkd("distill", write(study), "--method", "prm_kd", *several, "--folder", tmp_path / "two", code=2)
    assert "3 teacher(s), or one for all" in refused.stderr.replace("\n", " ")


def test_a_folder_of_another_programs_vectors_is_a_teacher(fastkd, finished, dataset, tmp_path, study, write):
    live = ModelTeacher(load_run(finished / "teacher", dataset))
    items = live.tables().items
    order = np.random.default_rng(0).permutation(dataset.num_items)
    export = tmp_path / "export"
    export.mkdir()
    np.save(export / "items.npy", items[torch.from_numpy(order)].numpy())
    (export / "ids.json").write_text(json.dumps([dataset.items.originals[i].item() for i in order]))
    description = {"items": {"vectors": "items.npy", "ids": "ids.json"}, "encode": "mean"}
    (export / "teacher.yaml").write_text(yaml.safe_dump(description))
    teacher = file_teacher([str(export)], dataset)
    assert isinstance(teacher, EmbeddingTeacher)
    assert torch.equal(teacher.tables().items, items)
    assert file_teacher([str(export / "teacher.yaml")], dataset).fingerprint() == teacher.fingerprint()
    study["student"]["training"]["epochs"] = 1
    del study["teacher"]
    several = ("--teacher", export, "--teacher", finished / "teacher")
    fastkd("distill", write(study), "--method", "prm_kd", *several, "--folder", tmp_path / "run")
    assert (tmp_path / "run/students/prm_kd/seed0/test.json").is_file()
    (export / "teacher.yaml").write_text(yaml.safe_dump(description | {"items": {"vectors": "absent.npy"}}))
    assert (
        "absent.npy does not exist"
        in fastkd("distill", "--folder", tmp_path / "run", "--methods", "rrd", code=3).stderr
    )


def test_an_export_without_vectors_says_what_its_model_can_give(finished, dataset, tmp_path):
    users, items = dataset.users, dataset.items
    for score, says in (
        ("inner product", "give its run folder, or export with --parts vectors"),
        ("pairs", "its model scores pairs and has none; give its run folder$"),
    ):
        export = Export(None, users, items, weights={"w": torch.ones(2)}, score=score)
        save_export(export, tmp_path / score)
        with pytest.raises(TeacherError, match=f"holds no vectors to learn from; {says}"):
            file_teacher([str(tmp_path / score)], dataset)
