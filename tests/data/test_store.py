import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import DataError, Interactions
from fastkd.data import (
    Dataset,
    IdMap,
    Reading,
    UserSequences,
    is_store,
    open_store,
    save_store,
    store,
    store_provenance,
)
from fastkd.data.store import check_target


def make(train, valid=(), test=(), users=None, items=None, shape=(4, 5)):
    def part(pairs):
        pairs = sorted(set(pairs))
        columns = ([p[0] for p in pairs], [p[1] for p in pairs])
        return Interactions.from_pairs(*columns, num_users=shape[0], num_items=shape[1])

    return Dataset(
        part(train),
        part(valid),
        part(test),
        users or IdMap.identity(shape[0]),
        items or IdMap.identity(shape[1]),
        "toy",
    )


TOY = make(
    [(0, 1), (1, 4), (2, 0), (3, 2), (3, 3)], [(0, 2)], [(1, 1)], users=IdMap(np.array(["ann", "bo", "cy", "dé"]))
)


def same(a, b):
    return (
        (a.train, a.valid, a.test) == (b.train, b.valid, b.test)
        and a.users.originals.tolist() == b.users.originals.tolist()
        and a.items.originals.tolist() == b.items.originals.tolist()
        and (a.name, a.content_hash()) == (b.name, b.content_hash())
    )


@settings(deadline=None, max_examples=25)
@given(
    extra=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=8),
    ids=st.lists(st.integers(-(2**60), 2**60), min_size=5, max_size=5, unique=True),
    verify=st.booleans(),
)
def test_round_trip(extra, ids, verify, tmp_path_factory):
    dataset = make([(u, u) for u in range(4)], extra, (), items=IdMap(np.array(ids)))
    folder = save_store(dataset, tmp_path_factory.mktemp("store") / "s")
    assert same(open_store(folder, verify=verify), dataset)


def test_opened_arrays_are_mapped_and_the_file_is_safe(tmp_path):
    folder = save_store(TOY, tmp_path / "s", provenance={"path": "x"})
    before = (folder / "train.indices.npy").read_bytes()
    opened = open_store(folder)
    assert isinstance(opened.train.indices.base, np.memmap)
    _, indices = opened.train.to_torch()
    assert indices.data_ptr() == opened.train.indices.ctypes.data  # no copy
    indices += 1
    assert (folder / "train.indices.npy").read_bytes() == before
    assert store_provenance(folder) == {"path": "x"}
    assert torch.equal(indices, torch.from_numpy(TOY.train.indices) + 1)


def test_identity_ids_take_no_file(tmp_path):
    folder = save_store(TOY, tmp_path / "s")
    assert (folder / "users.npy").exists()
    assert not (folder / "items.npy").exists()


def test_nothing_else_is_left_behind_and_existing_folders_are_safe(tmp_path):
    folder = save_store(TOY, tmp_path / "s")
    with pytest.raises(DataError, match="s exists; overwrite=True replaces it, on the command line --overwrite"):
        save_store(TOY, folder)
    other = make([(u, 0) for u in range(4)])
    save_store(other, folder, overwrite=True)
    assert same(open_store(folder), other)
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "draft.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"thesis exists and is not a store.*name another folder"):
            save_store(TOY, foreign, overwrite=overwrite)
    assert (foreign / "draft.txt").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s", "thesis"]


def test_a_target_is_judged_before_there_is_anything_to_write(tmp_path):
    check_target(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    folder = save_store(TOY, tmp_path / "s")
    check_target(folder, overwrite=True)
    with pytest.raises(DataError, match="s exists"):
        check_target(str(folder))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file exists and is not a store"):
        check_target(tmp_path / "file", overwrite=True)


def test_what_was_read_is_kept(tmp_path):
    reading = Reading(rows=9, columns={"user": "user_id", "item": "song"}, left_out={"duplicates": 2})
    folder = save_store(replace(TOY, reading=reading), tmp_path / "s")
    assert open_store(folder).reading == reading
    assert open_store(save_store(TOY, tmp_path / "t")).reading is None
    edit_manifest(folder, reading={"rows": "many"})
    with pytest.raises(DataError, match=r"manifest\.json: incomplete or malformed manifest.*rows: expected int"):
        open_store(folder)


def test_a_failed_save_leaves_the_old_store(tmp_path, monkeypatch):
    folder = save_store(TOY, tmp_path / "s")
    from fastkd.data import store

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        save_store(make([(u, 0) for u in range(4)]), folder, overwrite=True)
    monkeypatch.undo()
    assert same(open_store(folder), TOY)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), r"cannot read .*manifest\.json: No such"),
        (lambda f: (f / "manifest.json").write_text('{"format"'), r"manifest\.json is corrupt: not JSON"),
        (lambda f: (f / "manifest.json").write_text("[1]"), r"manifest\.json is not the manifest of a fastkd-store"),
        (lambda f: edit_manifest(f, format="other"), "not the manifest of a fastkd-store"),
        (lambda f: edit_manifest(f, version=99), "format version 99; this fastkd reads 1"),
        (lambda f: edit_manifest(f, users={}), "malformed manifest"),
        (lambda f: edit_manifest(f, arrays={}), "malformed manifest"),
        (lambda f: edit_manifest(f, arrays={"../x": {}}), "malformed entry for array"),
        (lambda f: edit_manifest(f, num_items=2), "does not fit 4 users, 2 items|outside"),
        (lambda f: edit_manifest(f, num_users=5), "does not fit 5 users"),
        (lambda f: (f / "test.indptr.npy").unlink(), r"cannot read .*test\.indptr\.npy: No such file"),
        (lambda f: (f / "users.npy").write_bytes(b""), r"users\.npy holds 0 bytes, its manifest says"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_broken_stores_name_the_file(tmp_path, damage, message, verify):
    folder = save_store(TOY, tmp_path / "s")
    damage(folder)
    if not verify and "num_items=2" in message:
        pytest.skip("range of ids is checked with verify=True")
    with pytest.raises(DataError, match=message):
        open_store(folder, verify=verify or "outside" in message)


@pytest.mark.parametrize("name", ["train.indptr.npy", "train.indices.npy", "users.npy"])
def test_one_flipped_bit_is_found(tmp_path, name):
    folder = save_store(TOY, tmp_path / "s")
    raw = bytearray((folder / name).read_bytes())
    raw[-3] ^= 1
    (folder / name).write_bytes(bytes(raw))
    with pytest.raises(DataError, match=f"{name} is corrupt: blake2b"):
        open_store(folder)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["train.indptr.npy", "manifest.json", "users.npy"]),
    at=st.integers(0, 4000),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_gives_a_data_error_or_the_same_data(name, at, bit, tmp_path_factory):
    folder = save_store(TOY, tmp_path_factory.mktemp("flip") / "s")
    raw = bytearray((folder / name).read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    (folder / name).write_bytes(bytes(raw))
    try:
        open_store(folder)
    except DataError:
        return
    assert name == "manifest.json"  # a changed name or provenance is still a store


def test_wrong_contents_with_right_checksums_are_refused(tmp_path):
    from fastkd.data.store import checksum

    folder = save_store(TOY, tmp_path / "s")
    path = folder / "train.indices.npy"
    np.save(path, np.array([1, 4, 0, 3, 2], dtype=np.int32))  # row 3 is not sorted
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"]["train.indices"]["blake2b"] = checksum(path, "blake2b")
    edit_manifest(folder, **manifest)
    with pytest.raises(DataError, match=r"train\.indices\.npy.*row 3 holds item 3 before 2"):
        open_store(folder)


def test_pickled_arrays_are_refused(tmp_path):
    from fastkd.data.store import checksum

    folder = save_store(TOY, tmp_path / "s")
    path = folder / "users.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["arrays"]["users"].update(blake2b=checksum(path, "blake2b"), bytes=path.stat().st_size)
    edit_manifest(folder, **manifest)
    with pytest.raises(DataError, match=r"users\.npy: not a readable \.npy"):
        open_store(folder)


def test_is_store(tmp_path):
    assert not is_store(tmp_path / "none")
    folder = save_store(TOY, tmp_path / "s")
    assert is_store(folder)
    shutil.rmtree(folder)
    assert not is_store(folder)


def test_content_hash_is_kept_and_true(tmp_path):
    opened = open_store(save_store(TOY, tmp_path / "s"))
    fresh = Interactions.from_csr(opened.train.indptr, opened.train.indices, 5)
    assert opened.train.content_hash() == fresh.content_hash() == TOY.train.content_hash()


def test_the_order_of_time_is_kept(tmp_path):
    train = Interactions.from_csr([0, 3, 5], [0, 1, 4, 2, 3], 5)
    other, maps = Interactions.empty(2, 5), (IdMap.identity(2), IdMap.identity(5))
    order = UserSequences(train.indptr, np.array([4, 0, 1, 3, 2]))
    save_store(Dataset(train, other, other, *maps, sequences=order), tmp_path / "timed")
    save_store(Dataset(train, other, other, *maps), tmp_path / "plain")
    opened = open_store(tmp_path / "timed", verify=True)
    assert opened.sequences.row(0).tolist() == [4, 0, 1]
    assert opened.sequences.row(1).tolist() == [3, 2]
    assert open_store(tmp_path / "plain").sequences is None
    order.items[2] = 7
    save_store(Dataset(train, other, other, *maps, sequences=order), tmp_path / "wrong")
    with pytest.raises(DataError, match=r"train\.sequence\.npy holds items outside \[0, 5\)"):
        open_store(tmp_path / "wrong", verify=True)


def test_a_store_that_came_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    write = store._write

    def late(dataset, folder, provenance):
        write(dataset, folder, provenance)
        (tmp_path / "s").mkdir()
        write(dataset, tmp_path / "s", {"first": True})

    monkeypatch.setattr(store, "_write", late)
    with pytest.raises(DataError, match="s exists; overwrite=True replaces it"):
        save_store(make([(u, 0) for u in range(4)]), tmp_path / "s")
    assert store_provenance(tmp_path / "s") == {"first": True}
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
