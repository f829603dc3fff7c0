import shutil

import pytest
import torch
import yaml

from fastkd.cli.runs import load_run
from fastkd.cli.teachers import file_teacher
from fastkd.core.errors import CheckpointError, TeacherError
from fastkd.data import open_store
from fastkd.models import ModelTeacher, TopKLists, save_lists, save_tables


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
    copy = tmp_path / "copy"
    shutil.copytree(finished / "teacher", copy, symlinks=True)
    info = yaml.safe_load((copy / "run.yaml").read_text()) | {"study": str(finished)}
    (copy / "run.yaml").write_text(yaml.safe_dump(info))
    assert file_teacher([str(copy)], dataset).model.dim == 16
