"""The batches of each epoch; the next epoch's are made on a thread while this one trains."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastkd.core.errors import DataError, FastKDWarning
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch
from fastkd.data.batches import batches, grouped, num_batches
from fastkd.distillation.method import Method
from fastkd.sampling import EpochPrefetcher, NegativeSampler
from fastkd.sampling.epochs import EpochBatch, EpochProducer
from fastkd.training.config import TrainingConfig


class EpochNegatives:
    """Batches with their negatives: the method's own, or else uniform ones outside what the user touched.

    Order and draws are pure functions of (seed, epoch, user, slot), so an epoch made ahead, dropped or repeated changes
    nothing. Memory: two epochs of ``(3 + n) * nnz`` int64. ``by_user``: the rows of
    a user come together. Use as a context; the thread ends with it. A user who took every item has no negatives: -1
    stands for them, with a warning.
    """

    def __init__(
        self, train: Interactions, method: Method | None, config: TrainingConfig, *, by_user: bool = False
    ) -> None:
        self._train, self._method, self._config, self._by_user = train, method, config, by_user
        self._ahead: EpochPrefetcher[EpochBatch] | None = None

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Return the batches of ``epoch`` from step ``start_step`` on.

        Every interaction comes once, in the order of :func:`fastkd.data.batches`; the last batch may be short.
        With uniform negatives, the next epoch is being made when this returns.
        """
        train, config = self._train, self._config
        own = self._method.negatives(epoch) if self._method is not None else None
        if own is not None:
            return batches(
                train,
                negatives=self._checked(own, epoch),
                batch_size=config.batch_size,
                seeds=Seeds(config.seed),
                epoch=epoch,
                start_step=start_step,
                by_user=self._by_user,
            )
        steps = num_batches(train, config.batch_size)
        if not 0 <= start_step <= steps:
            raise DataError(f"start_step must be in [0, {steps}], got {start_step}")
        if self._ahead is None:
            _warn_of_full_users(train)
            producer = EpochProducer(NegativeSampler(train, seed=config.seed), config.negatives, on_exhausted="pad")
            pinned = False if config.device == "cpu" else None
            draw = lambda epoch: self._ordered(producer.draw(epoch, producer.allocate(pin_memory=pinned)))  # noqa: E731
            self._ahead = EpochPrefetcher(draw, start=epoch, stop=config.epochs)
        return _cut(self._ahead.get(epoch), config.batch_size, start_step)

    def _ordered(self, whole: EpochBatch) -> EpochBatch:
        """Return an epoch with the rows of each user together where the student reads them so."""
        if not self._by_user:
            return whole
        seeds, users = Seeds(self._config.seed), whole.users.numpy()
        order = torch.from_numpy(grouped(users, self._train.num_users, seeds, whole.epoch))
        fields = (whole.entries, whole.users, whole.positives, whole.negatives)
        return EpochBatch(whole.epoch, *(field.copy_(field[order]) for field in fields))

    def _checked(self, ids: NDArray[Any], epoch: int) -> NDArray[Any]:
        """Return ``ids`` once they lie in [-1, items): the loss does not look again where that costs a wait."""
        items = self._train.num_items
        if ids.size and not (ids.min() >= -1 and ids.max() < items):
            bad = ids[(ids < -1) | (ids >= items)].flat[0]
            name = self._method.name if self._method is not None else ""
            raise DataError(f"method {name!r} gave negative {bad} for epoch {epoch}, outside [-1, {items})")
        return ids

    def __enter__(self) -> EpochNegatives:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ahead is not None:
            self._ahead.close()


def _warn_of_full_users(train: Interactions) -> None:
    full = np.flatnonzero(train.degrees() >= train.num_items)
    if len(full):
        warnings.warn(
            f"{len(full):,} of {train.num_users:,} users took all {train.num_items:,} items in training, the first of "
            f"them in row {full[0]}: no negative is left for them, and a loss that compares with negatives learns "
            "nothing from their rows",
            FastKDWarning,
            stacklevel=2,
        )


def _cut(whole: EpochBatch, size: int, start: int) -> Iterator[Batch]:
    for begin in range(start * size, len(whole), size):
        rows = whole.rows(begin, begin + size)
        yield Batch(rows.entries, rows.users, rows.positives, rows.negatives)
