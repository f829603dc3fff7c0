"""Files of a data set, and whether they are still what they were."""

import os

import pytest

from fastkd.core.errors import DataError
from fastkd.data import SyntheticConfig, changed_files, record_files, save_store, synthetic_dataset
from fastkd.data import source as module


@pytest.fixture
def folder(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(f"user,item\n1,{len(name)}\n")
    return tmp_path


def test_a_file_is_hashed_again_only_if_its_time_is_another(folder, monkeypatch):
    record = record_files(folder / "train.csv")
    hashed = []
    real = module.checksum
    monkeypatch.setattr(module, "checksum", lambda *a: hashed.append(a) or real(*a))
    assert changed_files(folder / "train.csv", record) == []
    assert not hashed
    os.utime(folder / "train.csv", ns=(5, 5))
    assert changed_files(folder / "train.csv", record) == []
    assert len(hashed) == 1
    (folder / "train.csv").write_text("user,item\n1,8\n")
    assert changed_files(folder / "train.csv", record) == ["train.csv"]
    assert len(hashed) == 2


def test_files_of_a_folder_that_changed_came_or_went_are_named(folder):
    record = record_files(folder)
    assert changed_files(folder, record) == []
    (folder / "valid.csv").write_text("user,item\n1,1\n")
    (folder / "test.csv").write_text("user,item\n")
    assert changed_files(folder, record) == ["valid.csv", "test.csv"]
    (folder / "train.csv").unlink()
    assert changed_files(folder, record) == ["train.csv", "valid.csv", "test.csv"]


def test_what_is_not_read_may_change(folder):
    record = record_files(folder)
    (folder / "study.yaml").write_text("name: mine\n")
    assert changed_files(folder, record) == []


def test_a_store_is_its_manifest(tmp_path):
    for seed in (0, 1):
        made = synthetic_dataset(SyntheticConfig(num_users=20, num_items=80, seed=seed)).dataset
        save_store(made, tmp_path / "store", overwrite=True)
        if seed == 0:
            record = record_files(tmp_path / "store")
            assert list(record) == ["manifest.json"]
    assert changed_files(tmp_path / "store", record) == ["manifest.json"]


def test_a_source_that_is_gone_or_was_not_recorded_is_not_missed(folder):
    record = record_files(folder / "train.csv")
    assert changed_files(folder / "test.csv", None) == []
    (folder / "train.csv").unlink()
    assert changed_files(folder / "train.csv", record) == []
    with pytest.raises(DataError, match="no such file"):
        record_files(folder / "train.csv")
