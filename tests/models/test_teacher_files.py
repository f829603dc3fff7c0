from __future__ import annotations

import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from fastkd.core.errors import TeacherError
from fastkd.models import EmbeddingTeacher, Tables, TopKLists, load_teacher, save_lists, save_tables

USERS, ITEMS = torch.arange(6.0).reshape(3, 2), torch.arange(8.0).reshape(4, 2)
ROWS = {"user": [0, 0, 1, 2, 2], "item": [3, 1, 2, 0, 1], "rank": [1, 2, 1, 1, 2], "score": [0.9, 0.5, 0.1, 7.0, 7.0]}


def read(source, **options):
    return load_teacher(source, num_users=3, num_items=4, **options)


def parquet(tmp_path, **changes):
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({k: v for k, v in {**ROWS, **changes}.items() if v is not None}), path)
    return path


def test_safetensors_and_npy_give_the_same_teacher(tmp_path):
    save_tables(tmp_path / "t.safetensors", Tables(USERS, ITEMS))
    np.save(tmp_path / "u.npy", USERS.numpy())
    np.save(tmp_path / "i.npy", ITEMS.double().numpy())
    wanted = EmbeddingTeacher(USERS, ITEMS).fingerprint()
    assert read(tmp_path / "t.safetensors").fingerprint() == wanted
    assert read([str(tmp_path / "u.npy"), tmp_path / "i.npy"]).fingerprint() == wanted


def test_lists_survive_the_file_in_any_row_order(tmp_path):
    ids = torch.tensor([[3, 1, -1], [2, 0, 1], [0, -1, -1]])
    scores = torch.tensor([[0.9, 0.5, -torch.inf], [3.0, 2.0, 1.0], [7.0, -torch.inf, -torch.inf]])
    path = tmp_path / "lists.parquet"
    save_lists(path, TopKLists(ids, scores), num_items=4)
    teacher = read(path, short="pad")
    assert torch.equal(teacher.lists(3, None).ids, ids)
    assert torch.equal(teacher.lists(3, None).scores, scores)
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), path)
    assert read(path, short="pad").fingerprint() == teacher.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["lists.parquet"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": [0.9, float("nan"), 0.1, 7.0, 7.0]}, "user 0, rank 2: nan is no finite score"),
        ({"score": [float("inf"), 0.5, 0.1, 7.0, 7.0]}, "user 0, rank 1: inf is no finite score"),
        ({"score": [0.1, 0.5, 0.1, 7.0, 7.0]}, "user 0, rank 1: .* is a score below its successor's"),
        ({"item": [3, 4, 2, 0, 5]}, r"names 2 item\(s\) outside \[0, 4\), first: 4, 5 \(row 1\).*ids='original'"),
        ({"item": [3, -1, 2, 0, 1]}, r"names 1 item\(s\) outside \[0, 4\), first: -1 \(row 1\)"),
        ({"user": [0, 0, 1, 3, 3]}, r"names 1 user\(s\) outside \[0, 3\), first: 3 \(row 3\)"),
        ({"item": [3, 3, 2, 0, 1]}, r"user 0 lists item 3 twice, at ranks \[1, 2\]"),
        ({"rank": [1, 3, 1, 1, 2]}, r"user 0 has rank 3 where 2 was expected \(row 1\)"),
        ({"rank": [1, 2, 1, 2, 2]}, r"user 2 has rank 2 where 1 was expected"),
        ({"rank": [0, 1, 1, 1, 2]}, r"user 0 has rank 0 where 1 was expected"),
        ({"user": [0, 0, 0, 2, 2], "rank": [1, 2, 3, 1, 2], "score": [3.0, 2.0, 1.0, 7.0, 7.0]}, "first: user 1"),
        ({"rank": None, "item": None}, "lacks the column.s. item, rank; it holds user, score"),
        ({"item": [3.0, 1.0, 2.0, 0.0, 1.0]}, "column item must be integer.*double"),
        ({"score": [1.0, None, 1.0, 7.0, 7.0]}, "column score must be floating without nulls.*1 null"),
    ],
)
def test_bad_list_files_are_refused_by_file_and_value(tmp_path, changes, message):
    path = parquet(tmp_path, **changes)
    with pytest.raises(TeacherError, match=f"{path}.*{message}"):
        read(path)


def test_rows_of_text_are_lists_too_and_need_no_scores(tmp_path):
    path = tmp_path / "lists.csv"
    path.write_text("rank,user,item,score\n1,0,3,2\n1,1,2,0.5\n2,0,1,1\n1,2,0,0\n")
    lists = read(path).lists(1, None)
    assert (lists.ids.tolist(), lists.scores.tolist()) == ([[3], [2], [0]], [[2.0], [0.5], [0.0]])
    assert read(parquet(tmp_path, score=None), short="pad").lists(2, None).ids.tolist() == [[3, 1], [2, -1], [0, 1]]
    path.write_text("user,item,rank\n0,u3,1\n")
    with pytest.raises(TeacherError, match=r"lists\.csv is damaged or of another format: .*'u3'"):
        read(path)


def test_lists_in_original_ids_are_not_taken_for_rows(tmp_path):
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table(ROWS).replace_schema_metadata({"fastkd.ids": "original"}), path)
    with pytest.raises(TeacherError, match=r"says that its ids are 'original', but ids='rows'.*load_lists"):
        read(path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_vectors_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_tables(tmp_path / "t.safetensors", Tables(USERS, ITEMS))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t.safetensors").stat().st_mode) == mode


def test_a_missing_user_may_be_padded(tmp_path):
    path = parquet(tmp_path, user=[0, 0, 0, 2, 2], rank=[1, 2, 3, 1, 2], score=[3.0, 2.0, 1.0, 7.0, 7.0])
    assert read(path, short="pad").lists(1, None).ids.tolist() == [[3], [-1], [0]]


def test_a_catalogue_of_another_size_is_refused(tmp_path):
    save_lists(tmp_path / "l.parquet", TopKLists(torch.tensor([[0], [1], [2]]), torch.ones(3, 1)), num_items=9)
    save_tables(tmp_path / "t.safetensors", Tables(USERS, ITEMS[:3]))
    with pytest.raises(TeacherError, match=r"l\.parquet is a teacher of 3 users x 9 items.*3 x 4"):
        read(tmp_path / "l.parquet")
    with pytest.raises(TeacherError, match=r"t\.safetensors is a teacher of 3 users x 3 items.*3 x 4"):
        read(tmp_path / "t.safetensors")


def test_damaged_files_are_named(tmp_path):
    save_tables(tmp_path / "t.safetensors", Tables(USERS, ITEMS))
    np.save(tmp_path / "u.npy", USERS.numpy())
    parquet(tmp_path)
    for name in ("t.safetensors", "u.npy", "lists.parquet"):
        whole = (tmp_path / name).read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:-5], b"\x00" * 40):
            (tmp_path / name).write_bytes(content)
            source = [tmp_path / name, tmp_path / name] if name.endswith("npy") else tmp_path / name
            with pytest.raises(TeacherError, match=f"{name} is damaged"):
                read(source)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "u.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TeacherError, match=r"u\.npy is damaged"):
        read([tmp_path / "u.npy", tmp_path / "u.npy"])


def test_what_cannot_be_a_teacher_is_refused(tmp_path):
    np.save(tmp_path / "u.npy", np.arange(6).reshape(3, 2))
    (tmp_path / "t.pt").write_bytes(b"x")
    save_file({"weight": USERS}, tmp_path / "w.safetensors")
    with pytest.raises(TeacherError, match=r"absent\.parquet does not exist"):
        read(tmp_path / "absent.parquet")
    with pytest.raises(TeacherError, match=r"t\.pt: give one \.safetensors"):
        read(tmp_path / "t.pt")
    with pytest.raises(
        TeacherError, match=r"^cannot read .*t\.pt: .* a run folder, a folder of fastkd export, and a te"
    ):
        read(tmp_path / "t.pt")
    with pytest.raises(TeacherError, match=r"^\S*techer does not exist: give one .* a run folder, .* teacher\.yaml"):
        read(tmp_path / "techer")
    with pytest.raises(TeacherError, match=r"^\S*v\.npy does not exist: give one"):
        read([tmp_path / "u.npy", tmp_path / "u.npy", tmp_path / "v.npy"])
    with pytest.raises(TeacherError, match="no file"):
        read([])
    with pytest.raises(TeacherError, match=r"u\.npy holds dtype int64"):
        read([tmp_path / "u.npy", tmp_path / "u.npy"])
    with pytest.raises(TeacherError, match=r"w\.safetensors lacks users, items; it holds weight"):
        read(tmp_path / "w.safetensors")


def test_values_past_float32_name_the_file_and_the_value(tmp_path):
    large = USERS.double()
    large[2, 1] = 1e300
    save_file({"users": large, "items": ITEMS.double()}, tmp_path / "t.safetensors")
    np.save(tmp_path / "u.npy", large.numpy())
    np.save(tmp_path / "i.npy", ITEMS.numpy())
    for source, name in (
        (tmp_path / "t.safetensors", "t.safetensors"),
        ([tmp_path / "u.npy", tmp_path / "i.npy"], "u"),
    ):
        with pytest.raises(TeacherError, match=rf"{name}.*: row 2 of users holds 1e\+300; .* finite in float32"):
            read(source)


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">f8", np.longdouble])
def test_arrays_of_any_width_and_byte_order_are_read(tmp_path, kind):
    np.save(tmp_path / "u.npy", USERS.numpy().astype(kind))
    np.save(tmp_path / "i.npy", ITEMS.numpy().astype(kind))
    teacher = read([tmp_path / "u.npy", tmp_path / "i.npy"])
    assert teacher.fingerprint() == EmbeddingTeacher(USERS, ITEMS).fingerprint()


def test_vectors_that_are_not_finite_name_the_file(tmp_path):
    bad = USERS.clone()
    bad[2, 1] = float("nan")
    save_tables(tmp_path / "t.safetensors", Tables(bad, ITEMS))
    with pytest.raises(TeacherError, match=r"t\.safetensors: row 2 of users holds nan"):
        read(tmp_path / "t.safetensors")
