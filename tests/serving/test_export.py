import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch

from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap
from fastkd.evaluation.streaming import iter_topk
from fastkd.models.protocol import Tables
from fastkd.serving.export import Export, load_export, save_export


def sample(seed=0, seen=True, dtype=torch.float32, text=True):
    generator = torch.Generator().manual_seed(seed)
    tables = Tables(*(torch.randn(n, 5, generator=generator).to(dtype) for n in (11, 13)))
    users = IdMap(np.array([f"user-{i}" for i in range(11)])) if text else IdMap.identity(11)
    rows = Interactions.from_pairs([0, 0, 4], [1, 7, 12], num_users=11, num_items=13) if seen else None
    return Export(tables, users, IdMap(np.arange(13, dtype=np.int64) * 10), rows, {"metric": {"ndcg@10": 0.1}})


def topk(export, k=6):
    masks = () if export.seen is None else (export.seen,)
    ((_, ids, scores),) = iter_topk(export.tables, np.arange(11), k, masks=masks)
    return ids, scores


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_round_trip_ranks_the_same(tmp_path, seen, dtype):
    export = sample(seen=seen, dtype=dtype)
    found = load_export(save_export(export, tmp_path / "out"))
    assert torch.equal(found.tables.users, export.tables.users)
    assert torch.equal(found.tables.items, export.tables.items)
    assert found.tables.items.dtype == dtype
    assert found.users.originals.tolist() == export.users.originals.tolist()
    assert found.items.originals.tolist() == export.items.originals.tolist()
    assert found.seen == export.seen
    assert found.metadata == export.metadata
    if dtype == torch.float32:
        for mine, theirs in zip(topk(found), topk(export), strict=True):
            assert torch.equal(mine, theirs)


def test_two_views_of_one_table_are_exported_apart(tmp_path):
    whole = torch.randn(24, 5)
    base = sample()
    export = Export(Tables(whole[:11], whole[11:]), base.users, base.items)
    found = load_export(save_export(export, tmp_path))
    assert torch.equal(found.tables.users, whole[:11])
    assert torch.equal(found.tables.items, whole[11:])


def test_a_slice_is_exported_without_the_rest(tmp_path):
    whole, base = torch.randn(1000, 50), sample()
    save_export(Export(Tables(whole[:11, :5], whole[20:33, 5:10].clone()), base.users, base.items), tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.glob("tables*")) < 2000


def test_other_tools_can_read_the_files(tmp_path):
    export = sample()
    save_export(export, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["num_users"], manifest["num_items"], manifest["dim"], manifest["dtype"]) == (11, 13, 5, "float32")
    vectors = safetensors.torch.load_file(tmp_path / manifest["files"]["tables"]["file"])
    assert torch.equal(vectors["items"], export.tables.items)
    ids = np.load(tmp_path / manifest["files"]["user_ids"]["file"], allow_pickle=False)
    assert ids[3] == "user-3"


def test_a_newer_export_replaces_the_older_and_its_files(tmp_path):
    save_export(sample(0), tmp_path)
    save_export(sample(1, seen=False), tmp_path)
    found = load_export(tmp_path)
    assert torch.equal(found.tables.users, sample(1).tables.users)
    assert found.seen is None
    assert len(list(tmp_path.iterdir())) == 4


def test_the_same_export_twice_is_the_same_folder(tmp_path):
    save_export(sample(), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    save_export(sample(), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("fail_at", range(1, 12))
def test_a_failure_at_any_step_leaves_the_old_export_readable(tmp_path, monkeypatch, fail_at):
    save_export(sample(0), tmp_path)
    calls, real = [], os.fsync

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) >= fail_at:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    failed = False
    try:
        save_export(sample(1), tmp_path)
    except OSError:
        failed = True
    monkeypatch.undo()
    found = load_export(tmp_path)
    assert torch.equal(found.tables.users, sample(0 if failed else 1).tables.users)
    # Whatever a failed attempt left behind, the next one succeeds and cleans up what it replaces.
    save_export(sample(2), tmp_path)
    assert torch.equal(load_export(tmp_path).tables.users, sample(2).tables.users)
    assert len(list(tmp_path.iterdir())) == 6


def test_damage_is_found_and_named(tmp_path):
    save_export(sample(), tmp_path)
    (tables,) = tmp_path.glob("tables-*")
    content = tables.read_bytes()
    tables.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=rf"{tables.name} holds {len(content) - 1} bytes.*says {len(content)}"):
        load_export(tmp_path)
    tables.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{tables.name} is corrupt: blake2b"):
        load_export(tmp_path)
    load_export(tmp_path, verify=False)
    tables.unlink()
    with pytest.raises(CheckpointError, match=f"cannot read .*{tables.name}: No such file"):
        load_export(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "not the manifest of a fastkd-export"),
        ({"version": 99}, "version 99; this fastkd reads 1 and 2"),
        ({"files": {}}, "lists no tables"),
    ],
)
def test_a_foreign_manifest_is_named(tmp_path, change, says):
    save_export(sample(), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=says):
        load_export(tmp_path)


def test_an_export_of_the_first_version_is_read_and_replaced(tmp_path):
    save_export(sample(), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    assert torch.equal(load_export(tmp_path).tables.users, sample().tables.users)
    save_export(sample(1), tmp_path)
    assert json.loads(path.read_text())["version"] == 2


def test_an_export_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="needs tables or weights"):
        save_export(Export(None, IdMap.identity(3), IdMap.identity(2)), tmp_path)


def test_a_kind_of_score_that_does_not_fit_is_refused(tmp_path):
    base = sample()
    with pytest.raises(DataError, match="score must be 'inner product' or 'pairs', got 'dot'"):
        save_export(Export(base.tables, base.users, base.items, score="dot"), tmp_path)
    with pytest.raises(DataError, match="score is 'pairs', which has no tables"):
        save_export(Export(base.tables, base.users, base.items, score="pairs"), tmp_path)
    with pytest.raises(DataError, match="dim is 4, the tables are 5 wide"):
        save_export(Export(base.tables, base.users, base.items, dim=4), tmp_path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path):
    save_export(sample(), tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["user_ids"]["file"] = "../secret.npy"
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"'\.\./secret\.npy', which is not inside"):
        load_export(tmp_path / "a")


def test_pickled_ids_are_never_loaded(tmp_path):
    save_export(sample(), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    path = tmp_path / manifest["files"]["user_ids"]["file"]
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    manifest["files"]["user_ids"]["bytes"] = path.stat().st_size
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"cannot be read.*allow_pickle=False"):
        load_export(tmp_path, verify=False)


def test_no_export_no_manifest_and_broken_json(tmp_path):
    with pytest.raises(CheckpointError, match="no fastkd-export in"):
        load_export(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="is corrupt: not JSON"):
        load_export(tmp_path)


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"'thesis\.txt'"):
        save_export(sample(), tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match="something else than an export"):
        save_export(sample(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "thesis.txt"]


def test_the_leavings_of_a_killed_export_are_no_obstacle(tmp_path):
    for name in ("tables.staged.safetensors", ".user_ids.staged.77-ab12.tmp.npy", ".manifest.77-ab12.tmp.json"):
        (tmp_path / name).write_bytes(b"half")
    save_export(sample(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    load_export(tmp_path)


def test_what_does_not_fit_is_named(tmp_path):
    base = sample()
    with pytest.raises(DataError, match="hold 3 users and 13 items, the tables 11 and 13"):
        save_export(Export(base.tables, IdMap.identity(3), base.items), tmp_path)
    with pytest.raises(DataError, match=r"\(11, 5\) and \(13, 4\)"):
        save_export(Export(Tables(torch.zeros(11, 5), torch.zeros(13, 4)), base.users, base.items), tmp_path)
    with pytest.raises(DataError, match="seen is"):
        save_export(Export(base.tables, base.users, base.items, Interactions.empty(11, 12)), tmp_path)
    floats = IdMap(np.arange(11) / 2)
    with pytest.raises(DataError, match="user ids have dtype float64"):
        save_export(Export(base.tables, floats, base.items), tmp_path)
    mixed = IdMap(np.array(["a"] * 10 + [3], dtype=object))
    with pytest.raises(DataError, match="user id 3 is neither"):
        save_export(Export(base.tables, mixed, base.items), tmp_path)
    objects = IdMap(np.array([f"u{i}" for i in range(11)], dtype=object))
    found = load_export(save_export(Export(base.tables, objects, base.items), tmp_path))
    assert found.users.originals.tolist() == objects.originals.tolist()
