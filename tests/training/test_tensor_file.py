import errno
import hashlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fastkd.core import CheckpointError
from fastkd.training import tensor_file
from fastkd.training.tensor_file import FileRecord, read_tensors, write_tensors

DTYPES = [getattr(torch, name) for name in tensor_file._DTYPES]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit_through_the_library(tmp_path, dtype):
    value = torch.arange(256, dtype=torch.uint8)[: 8 * 16].reshape(2, 8, 8)
    value = (value > 100) if dtype == torch.bool else value.view(dtype)
    write_tensors(tmp_path / "a.safetensors", {"x": value})
    back = load_file(tmp_path / "a.safetensors")["x"]
    assert back.dtype == dtype
    assert back.shape == value.shape
    assert torch.equal(back.view(torch.uint8), value.view(torch.uint8))


@settings(deadline=None, max_examples=25)
@given(shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=4), chunk=st.integers(1, 40))
def test_odd_shapes_and_chunks(tmp_path_factory, shapes, chunk):
    folder = tmp_path_factory.mktemp("tensors")
    tensors = {f"t{i}": torch.randn(shape, dtype=torch.float64) for i, shape in enumerate(shapes)}
    before, tensor_file._CHUNK = tensor_file._CHUNK, chunk
    try:
        record = write_tensors(folder / "a.safetensors", tensors)
    finally:
        tensor_file._CHUNK = before
    content = (folder / "a.safetensors").read_bytes()
    assert record == FileRecord(len(content), hashlib.blake2b(content, digest_size=32).hexdigest())
    back = read_tensors(folder / "a.safetensors")
    assert set(back) == set(tensors)
    assert all(torch.equal(back[k], v) and back[k].shape == v.shape for k, v in tensors.items())


def test_strided_values_and_numpy_arrays(tmp_path):
    grid = torch.arange(12.0).reshape(3, 4)
    values = {"t": grid.T, "step": grid[::2, 1::2], "n": np.arange(12)[::3], "zero": np.array(7), "frozen": grid[1]}
    values["grad"] = torch.nn.Parameter(grid)
    write_tensors(tmp_path / "a.safetensors", values)
    back = read_tensors(tmp_path / "a.safetensors")
    assert torch.equal(back["t"], grid.T)
    assert torch.equal(back["step"], grid[::2, 1::2])
    assert back["n"].tolist() == [0, 3, 6, 9]
    assert back["zero"].shape == ()
    assert int(back["zero"]) == 7
    assert torch.equal(back["grad"], grid)


def test_what_is_read_does_not_lean_on_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.arange(4096.0)})
    back = read_tensors(path)["x"]
    with path.open("r+b") as file:
        file.seek(-4096 * 4, os.SEEK_END)
        file.write(b"\xff" * 4096 * 4)
    assert torch.equal(back, torch.arange(4096.0))


def test_what_the_format_cannot_hold_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"'z' has dtype complex64"):
        write_tensors(tmp_path / "a.safetensors", {"z": torch.zeros(2, dtype=torch.complex64)})
    with pytest.raises(TypeError, match=r"'names' has dtype <U3"):
        write_tensors(tmp_path / "a.safetensors", {"names": np.array(["abc"])})
    with pytest.raises(TypeError, match=r"'adjacency' has layout torch.sparse_coo"):
        write_tensors(tmp_path / "a.safetensors", {"adjacency": torch.eye(3).to_sparse()})
    assert not any(tmp_path.iterdir())


def test_a_write_cut_short_goes_on_where_it_stopped(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: max(1, len(data) // 3)]))
    write_tensors(tmp_path / "a.safetensors", {"x": torch.arange(1000.0)})
    monkeypatch.undo()
    assert torch.equal(load_file(tmp_path / "a.safetensors")["x"], torch.arange(1000.0))


def test_an_existing_file_is_never_written_over(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "a.safetensors", {})
    assert (tmp_path / "a.safetensors").read_bytes() == b"precious"


def test_the_errno_of_the_disk_survives(tmp_path, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(3)})
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, (10**15).to_bytes(8, "little") + b"{}"])
def test_a_foreign_file_is_named(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors is not a readable safetensors file"):
        read_tensors(tmp_path / "a.safetensors")
