"""What all readers of teacher files refuse alike: files that are absent, damaged, or of another size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from fastkd.core.errors import TeacherError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Refuse a file that is not there, and turn what a reader raises on a damaged one into an error that names it."""
    if not path.is_file():
        raise TeacherError(f"teacher file {path} does not exist")
    try:
        yield
    except TeacherError:
        raise
    except (SafetensorError, pa.ArrowException, OSError, ValueError, EOFError) as error:
        raise TeacherError(f"teacher file {path} is damaged or of another format: {error}") from error


def check_sizes(origin: object, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Refuse a teacher of another number of users or items than the data's; ``origin`` opens the message."""
    if found != wanted:
        raise TeacherError(
            f"{origin} is a teacher of {found[0]} users x {found[1]} items, but the data has {wanted[0]} x {wanted[1]}"
        )
