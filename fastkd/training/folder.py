"""The run folder: where its parts lie, and that only one process trains in it.

Layout::

    config.yaml              what the run is, for people (resume compares what the checkpoint says)
    metrics.jsonl            losses and validation metrics; the same run writes the same bytes
    timings.jsonl            seconds and rates per epoch
    checkpoints/{best,last}  see :mod:`fastkd.training.checkpoint`
    trajectory/epoch-N       vectors after N epochs, with ``keep_every``
    result.json              written last: a folder that has it holds a finished run
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from fastkd.core.errors import CheckpointError, TrainingError
from fastkd.training.checkpoint import MANIFEST, point, read_manifest
from fastkd.training.result import RESULT


class RunFolder:
    """Paths of one run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.timings = path / "timings.jsonl"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last"
        self.best = self.checkpoints / "best"
        self.trajectory = path / "trajectory"

    def kept(self, epochs: int) -> Path:
        """Return the file of the vectors after ``epochs`` epochs."""
        return self.trajectory / f"epoch-{epochs:05d}.safetensors"

    def outcome(self) -> Path:
        """Return the checkpoint a finished run stands for: its best one, or its last where nothing was evaluated."""
        return self.best if self.best.exists() else self.last

    def holds_run(self) -> bool:
        """Return whether there is something to resume or to read."""
        return self.last.exists() or (self.path / RESULT).exists()

    def restore_names(self) -> None:
        """Let ``last`` and ``best`` point again to what they did where a copy of the folder lost its links.

        Raises ``CheckpointError`` where the best checkpoint of the run is not among those that are there.
        """
        if self.last.exists():
            return
        whole = sorted(path.parent for path in self.checkpoints.glob(f"step-*/{MANIFEST}"))
        if not whole:
            return
        progress = {path: read_manifest(path)["state"]["progress"] for path in whole}
        last = max(whole, key=lambda path: (progress[path]["step"], progress[path]["epoch"]))
        wanted = progress[last]["best_epoch"]
        best = [p for p in whole if progress[p]["epoch"] == (wanted or 0) + 1 and progress[p]["step_in_epoch"] == 0]
        if wanted is not None and not best:
            raise CheckpointError(
                f"{self.checkpoints} has lost its links, and with them its best checkpoint, that of epoch {wanted}: "
                f"copy the folder again with its links, or use another folder. There are: "
                f"{', '.join(path.name for path in whole)}"
            )
        if wanted is not None:
            point(self.best, best[-1])
        point(self.last, last)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process; another holder is a ``TrainingError``. A dead process holds nothing."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(f"another process is training in {self.path}") from error
            except OSError:
                pass  # a file system without locks: go on as if there were none
            yield
