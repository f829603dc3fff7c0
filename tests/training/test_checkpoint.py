import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fastkd.core import CheckpointError
from fastkd.training.checkpoint import (
    Checkpoint,
    Identity,
    check_identity,
    read_checkpoint,
    read_manifest,
    write_checkpoint,
)

IDENTITY = Identity({"training": {"lr": 0.1, "epochs": 4}, "method": None}, "d4ta")


def checkpoint(value=1.0, identity=IDENTITY):
    tensors = {
        "student": {"users": torch.full((5, 3), value), "items": torch.arange(12.0).reshape(4, 3)},
        "method_state": {"lists": np.arange(6, dtype=np.int32).reshape(2, 3)},
        "optimizer": {},
    }
    return Checkpoint(tensors, {"progress": {"step": int(value), "seconds": 0.1 + 0.2}, "none": None}, identity)


def value_of(folder):
    return float(read_checkpoint(folder).tensors["student"]["users"][0, 0])


def hidden(root):
    return [p.name for p in root.iterdir() if p.name.startswith(".")]


def test_what_is_written_is_read(tmp_path):
    folder = write_checkpoint(tmp_path / "c", checkpoint(), step=7)
    assert folder.name == "step-000000000007"
    back = read_checkpoint(tmp_path / "c" / "last")
    assert torch.equal(back.tensors["student"]["items"], torch.arange(12.0).reshape(4, 3))
    assert back.tensors["method_state"]["lists"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back.state == {"progress": {"step": 1, "seconds": 0.1 + 0.2}, "none": None}
    assert back.identity == IDENTITY
    assert "optimizer" not in back.tensors, "a file without tensors"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["version"] == 1
    assert manifest["config_hash"] == IDENTITY.config_hash
    assert set(manifest["files"]) == {"student.safetensors", "method_state.safetensors"}


def test_names_move_and_unnamed_folders_go(tmp_path):
    write_checkpoint(tmp_path, checkpoint(1.0), step=1, names=("last", "best"))
    write_checkpoint(tmp_path, checkpoint(2.0), step=2)
    assert (value_of(tmp_path / "best"), value_of(tmp_path / "last")) == (1.0, 2.0)
    write_checkpoint(tmp_path, checkpoint(3.0), step=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "last", "step-000000000001", "step-000000000003"]
    assert (tmp_path / "last").readlink() == Path("step-000000000003"), "an absolute link breaks when the run is moved"


def test_the_same_step_twice(tmp_path):
    write_checkpoint(tmp_path, checkpoint(1.0), step=4, names=("last", "best"))
    write_checkpoint(tmp_path, checkpoint(2.0), step=4)
    write_checkpoint(tmp_path, checkpoint(3.0), step=4)
    assert (value_of(tmp_path / "best"), value_of(tmp_path / "last")) == (1.0, 3.0)


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    for name in (".new-1-ab", "step-000000000009"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "student.safetensors").write_bytes(b"half")
    (tmp_path / ".link-1-ab").symlink_to("nowhere")
    write_checkpoint(tmp_path, checkpoint(), step=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last", "step-000000000009-1"]


def test_a_copy_with_links_followed_goes_on(tmp_path):
    write_checkpoint(tmp_path / "a", checkpoint(1.0), step=1, names=("last", "best"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b" / "last").is_symlink()
    write_checkpoint(tmp_path / "b", checkpoint(2.0), step=2)
    assert (value_of(tmp_path / "b" / "best"), value_of(tmp_path / "b" / "last")) == (1.0, 2.0)


@pytest.mark.parametrize("name", ["student.safetensors", "method_state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "flip_last", "truncate", "empty", "remove", "folder"])
def test_any_damage_is_found_and_the_file_named(tmp_path, name, damage):
    path = write_checkpoint(tmp_path, checkpoint(), step=1) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "flip_last":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_checkpoint(tmp_path / "last")


def test_every_single_byte_of_the_manifest_counts(tmp_path):
    path = write_checkpoint(tmp_path, checkpoint(), step=1) / "manifest.json"
    content = path.read_bytes()
    for at in range(0, len(content), 17):
        if chr(content[at]).isspace():
            continue
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(CheckpointError, match=r"manifest\.json"):
            read_checkpoint(tmp_path / "last")


def test_a_foreign_or_newer_manifest_is_named(tmp_path):
    with pytest.raises(
        CheckpointError, match=rf"no fastkd-checkpoint in {tmp_path}: cannot read .*manifest\.json: No such"
    ):
        read_manifest(tmp_path)
    path = tmp_path / "manifest.json"
    for text in ("[]", '{"format": "other"}', "3"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"manifest\.json is not the manifest of a fastkd-checkpoint"):
            read_manifest(tmp_path)
    path.write_text('{"format": "fastkd-checkpoint", "version": 99}')
    with pytest.raises(CheckpointError, match=r"format version 99; this fastkd reads 1"):
        read_manifest(tmp_path)


def test_a_manifest_cannot_lead_outside_its_folder(tmp_path):
    from fastkd.training.checkpoint import _digest

    folder = write_checkpoint(tmp_path, checkpoint(), step=1)
    manifest = read_manifest(folder)
    for name in ("../../secret.safetensors", "/etc/passwd", "student.pkl"):
        manifest["files"] = {name: {"bytes": 1, "blake2b": "00"}}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": _digest(manifest)}))
        with pytest.raises(CheckpointError, match=r"which is no safetensors file of its folder"):
            read_checkpoint(folder)


def test_another_run_is_refused_with_both_hashes_and_the_keys(tmp_path):
    other = Identity({"training": {"lr": 0.2, "epochs": 4}, "method": None}, "d4ta")
    with pytest.raises(CheckpointError, match=r"training\.lr is 0\.1 there and 0\.2 here") as caught:
        check_identity(IDENTITY, other, tmp_path)
    assert IDENTITY.config_hash in str(caught.value)
    assert other.config_hash in str(caught.value)
    with pytest.raises(CheckpointError, match=r"other data \(hash d4ta, this run has fresh"):
        check_identity(IDENTITY, Identity(IDENTITY.config, "fresh"), tmp_path)
    reordered = Identity({"method": None, "training": {"epochs": 4, "lr": 0.1}}, "d4ta")
    check_identity(IDENTITY, reordered, tmp_path)


CALLS = ["open", "write", "fsync", "mkdir", "rename", "replace", "symlink"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_the_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, call, number):
    write_checkpoint(tmp_path, checkpoint(1.0), step=1, names=("last", "best"))
    real, messages = getattr(os, call), []
    for nth in range(8):
        seen = [0]

        def failing(*args, nth=nth, seen=seen, **options):
            seen[0] += 1
            if seen[0] == nth + 1:
                raise OSError(number, os.strerror(number), str(tmp_path))
            return real(*args, **options)

        monkeypatch.setattr(os, call, failing)
        try:
            write_checkpoint(tmp_path, checkpoint(2.0 + nth), step=2 + nth)
        except CheckpointError as error:
            messages.append(str(error))
        monkeypatch.setattr(os, call, real)
        assert value_of(tmp_path / "best") == 1.0
        value_of(tmp_path / "last")
        assert not hidden(tmp_path), "a half-written folder keeps the disk full"
    said = "cannot write a checkpoint" if number == errno.EIO else "disk full while writing a checkpoint"
    assert messages
    assert all(said in m and "previous checkpoint is intact" in m for m in messages)


def test_anything_else_that_fails_leaves_the_old_checkpoint(tmp_path):
    write_checkpoint(tmp_path, checkpoint(1.0), step=1)
    bad = checkpoint(2.0)
    bad.tensors["method_state"]["names"] = np.array(["a"])
    with pytest.raises(TypeError, match="'names' has dtype <U1"):
        write_checkpoint(tmp_path, bad, step=2)
    assert value_of(tmp_path / "last") == 1.0
    assert not hidden(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(small_disk):
    write_checkpoint(small_disk, checkpoint(1.0), step=1)
    big = Checkpoint({"student": {"users": torch.zeros(100_000)}}, {}, IDENTITY)
    for _ in range(3):
        with pytest.raises(CheckpointError, match=r"disk full while writing a checkpoint to .*disk \(\d+ bytes free\)"):
            write_checkpoint(small_disk, big, step=2)
    assert value_of(small_disk / "last") == 1.0
    write_checkpoint(small_disk, checkpoint(3.0), step=3)
    assert value_of(small_disk / "last") == 3.0
