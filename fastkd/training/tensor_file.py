"""Named tensors in one safetensors file, written so that a failure is noticed and a torn file cannot pass.

The file is written in chunks straight from the tensors' memory and hashed on the way, so that a table of
many gigabytes is neither copied nor read again; an error of the disk arrives as ``OSError`` with its number.
Reading goes through the safetensors library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fastkd.core.errors import CheckpointError

_CHUNK = 1 << 24  # bytes per write; a single write of 2 GiB or more is cut short by Linux
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class FileRecord:
    """What a manifest keeps of a file: its size in bytes and its blake2b digest (hex)."""

    bytes: int
    blake2b: str


def write_tensors(path: Path, tensors: Mapping[str, Tensor | NDArray[Any]]) -> FileRecord:
    """Write ``tensors`` to the new file ``path`` and sync it.

    Values: dense torch tensors on any device, or numpy arrays; strides are laid out as C order. Raises
    ``TypeError`` for a dtype or layout the format has no name for, ``OSError`` when the disk refuses.
    """
    names = sorted(tensors)
    kinds = [_kind(name, tensors[name]) for name in names]
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, size) in zip(names, kinds, strict=True):
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return write_chunks(path, _chunks([len(text).to_bytes(8, "little") + text], (tensors[n] for n in names)))


def write_chunks(path: Path, chunks: Iterator[memoryview]) -> FileRecord:
    """Write ``chunks`` to the new file ``path``, sync it and return its size and digest."""
    digest, size = hashlib.blake2b(digest_size=32), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return FileRecord(size, digest.hexdigest())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of ``path`` on the CPU, in memory of their own; raises ``CheckpointError`` naming the file."""
    try:
        with safe_open(path, framework="pt") as file:
            # cloned: safetensors maps the file, and a mapped file keeps its disk space after it is deleted
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error


def _kind(name: str, value: Tensor | NDArray[Any]) -> tuple[str, int]:
    """Return the format's dtype name and the size in bytes."""
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise TypeError(f"{name!r} has dtype {dtype}; a checkpoint holds {', '.join(_DTYPES)}")
    if isinstance(value, Tensor) and value.layout is not torch.strided:
        raise TypeError(f"{name!r} has layout {value.layout}; a checkpoint holds dense tensors")
    size = value.numel() * value.element_size() if isinstance(value, Tensor) else value.nbytes
    return _DTYPES[dtype], int(size)


def _chunks(head: list[bytes], values: Iterator[Tensor | NDArray[Any]]) -> Iterator[memoryview]:
    yield from (memoryview(part) for part in head)
    for value in values:
        view = _memory(value)
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]


def _memory(value: Tensor | NDArray[Any]) -> memoryview:
    """Return the value's bytes in C order, without a copy where it is contiguous and on the CPU."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        array = flat.view(torch.uint8).numpy() if flat.numel() else np.zeros(0, dtype=np.uint8)
    else:
        array = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return memoryview(array)  # type: ignore[arg-type]
