from __future__ import annotations

import sys

import pytest
import torch

from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.data import IdMap
from fastkd.models import Tables
from fastkd.serving import Export, export_student, load_export, load_index, load_program, save_export
from fastkd.serving.faiss_index import index_part
from tests.serving.student_cases import ITEMS, TRAIN, USERS, VECTORS, model_of, request


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="faiss is not installed: pip install 'fastkd[faiss]'")


def exported(folder, name="bpr_mf", parts=("vectors", "faiss"), **options):
    return export_student(model_of(name), folder, user_ids=USERS, item_ids=ITEMS, parts=parts, **options)


def same_lists(found, rows, wanted, ids):
    """Equal scores up to rounding, and equal items but among scores closer than that."""
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-5, atol=1e-6)
    for b in range(len(ids)):
        sure = wanted[b] > wanted[b, -1] + 1e-5
        assert set(rows[b][sure.numpy()].tolist()) == set(ids[b][sure].tolist())


@pytest.mark.parametrize("name", VECTORS)
def test_an_exact_index_ranks_as_the_student(faiss, tmp_path, name):
    folder = exported(tmp_path, name, ("vectors", "faiss", "tower"))
    wanted = model_of(name).frozen_tables().topk(torch.arange(TRAIN.num_users), 7)
    index = load_index(folder)
    assert (index.ntotal, index.d) == (TRAIN.num_items, load_export(folder).tables.items.shape[1])
    same_lists(*index.search(load_export(folder).tables.users.numpy(), 7), wanted.scores, wanted.ids)
    with torch.no_grad():
        vectors = load_program(folder)(*request(name, list(range(TRAIN.num_users))))
    same_lists(*index.search(vectors.numpy(), 7), wanted.scores, wanted.ids)


def test_equal_scores_are_the_same_set(faiss, tmp_path):
    items = torch.ones(12, 3)
    items[8:] = 2.0
    export = Export(Tables(torch.ones(2, 3), items), IdMap.identity(2), IdMap.identity(12))
    folder = save_export(export, tmp_path, extras={"faiss": index_part(items, "Flat")})
    scores, rows = load_index(folder).search(export.tables.users.numpy(), 4)
    assert (scores == 6).all()
    assert all(set(row.tolist()) == {8, 9, 10, 11} for row in rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_narrow_and_wide_vectors_become_float32(faiss, tmp_path, dtype):
    items = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    export = Export(Tables(items[:4].clone(), items), IdMap.identity(4), IdMap.identity(12))
    index = load_index(save_export(export, tmp_path, extras={"faiss": index_part(items, "Flat")}))
    torch.testing.assert_close(torch.from_numpy(index.reconstruct_n(0, 12)), items.float())


def test_another_kind_of_index_is_trained_and_filled(faiss, tmp_path):
    index = load_index(exported(tmp_path, index="IVF1,Flat"))
    assert index.is_trained
    index.nprobe = 1
    wanted = model_of("bpr_mf").frozen_tables().topk(torch.arange(5), 6)
    same_lists(*index.search(load_export(tmp_path).tables.users[:5].numpy(), 6), wanted.scores, wanted.ids)


def test_an_index_that_cannot_be_made_is_refused_and_the_older_export_stays(faiss, tmp_path):
    exported(tmp_path, "bpr_mf", ("vectors",))
    with pytest.raises(ConfigError, match=r"faiss knows no index 'Falt' of vectors 6 wide; 'Flat' is exact"):
        exported(tmp_path, index="Falt")
    with pytest.raises(ConfigError, match=r"faiss cannot make the index 'IVF999,Flat' of 37 items"):
        exported(tmp_path, "lightgcn", index="IVF999,Flat")
    assert torch.equal(load_export(tmp_path).tables.users, model_of("bpr_mf").frozen_tables().users)


def test_damage_is_found_and_named(faiss, tmp_path):
    (path,) = exported(tmp_path).glob("faiss-*.index")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{path.name} is corrupt: blake2b"):
        load_index(tmp_path)
    path.write_bytes(b"none" + content[4:])
    with pytest.raises(CheckpointError, match=rf"{path.name} is no index that faiss .* can read"):
        load_index(tmp_path, verify=False)
    path.write_bytes(content[:40])
    with pytest.raises(CheckpointError, match=rf"{path.name} holds 40 bytes"):
        load_index(tmp_path)
    exported(tmp_path, "bpr_mf", ("vectors",))
    says = f"holds no faiss; it holds item_ids, tables, user_ids.*--out {tmp_path} --parts vectors,faiss` it does"
    with pytest.raises(CheckpointError, match=says):
        load_index(tmp_path)
    exported(tmp_path, "bpr_mf", None)
    with pytest.raises(CheckpointError, match="--parts weights,vectors,tower,faiss"):
        load_index(tmp_path)


def test_without_faiss_the_refusal_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"an index needs faiss .*: pip install 'fastkd\[faiss\]'"):
        exported(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"pip install 'fastkd\[faiss\]'"):
        load_index(tmp_path)
