"""Towers as ``torch.export`` programs (.pt2): they run without fastkd, in Python or through AOTInductor."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from fastkd.core.errors import CheckpointError
from fastkd.models.towers import Tower
from fastkd.serving._folder import Part, path_of


def program_part(tower: Tower) -> Part:
    """Return the file that holds ``tower``, and what it is called with: for its manifest entry."""
    about = {
        "inputs": [
            {"name": name, "dtype": "int64", "shape": list(shape), "holds": tower.meanings[name]}
            for name, shape in tower.shapes.items()
        ]
    }
    return Part(".pt2", partial(_save, tower), about)


def load_program(folder: Path | str, name: Literal["tower", "scorer"] = "tower", *, verify: bool = True) -> nn.Module:
    """Return the user tower or the pair scorer of an export folder, to be called with what the manifest says.

    A program is code: load only what you trust. ``verify`` compares the file with its hash in the manifest.
    Raises ``CheckpointError`` for a folder without it and a file that is missing, truncated or altered.
    """
    path = path_of(Path(folder), name, verify=verify)
    log = logging.getLogger("torch.export")  # prints a trace of what is said better here
    disabled, log.disabled = log.disabled, True
    try:
        module: nn.Module = torch.export.load(path).module()
    except Exception as error:  # whatever an archive of another kind makes the reader raise
        raise CheckpointError(f"{path} is no program that torch {torch.__version__} can read: {error}") from error
    finally:
        log.disabled = disabled
    return module


def _save(tower: Tower, path: Path) -> None:
    """Export with free sizes where the tower has names for them, and write the archive."""
    names = sorted({size for shape in tower.shapes.values() for size in shape if isinstance(size, str)})
    sizes = {name: 3 + at for at, name in enumerate(names)}  # each its own, or they would be taken for one
    free = {name: torch.export.Dim(name) for name in names}
    examples = tuple(_example(shape, sizes) for shape in tower.shapes.values())
    shapes = tuple({d: free[s] for d, s in enumerate(shape) if isinstance(s, str)} for shape in tower.shapes.values())
    with torch.no_grad():
        program = torch.export.export(tower, examples, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)


def _example(shape: tuple[str | int, ...], sizes: dict[str, int]) -> Tensor:
    return torch.zeros([sizes[size] if isinstance(size, str) else size for size in shape], dtype=torch.int64)
