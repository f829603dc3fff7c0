"""The negatives of each epoch; the next epoch's are drawn on a thread while this one trains."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from fastkd.core.errors import DataError
from fastkd.core.interactions import Interactions
from fastkd.distillation.method import Method
from fastkd.sampling import EpochPrefetcher, NegativeSampler
from fastkd.training.config import TrainingConfig


class EpochNegatives:
    """Negatives per epoch: the method's own, or else uniform ones outside what the user touched.

    Draws are a pure function of (seed, epoch, user, slot), so one made ahead, dropped or repeated changes
    nothing. Memory: two epochs of ids. Use as a context; the thread ends with it.
    """

    def __init__(self, train: Interactions, method: Method | None, config: TrainingConfig) -> None:
        self._train, self._method, self._config = train, method, config
        self._ahead: EpochPrefetcher[NDArray[Any]] | None = None

    def of(self, epoch: int) -> NDArray[Any]:
        """Return ids Int[nnz, n] of ``epoch``; uniform ones of the next epoch are being drawn when this returns."""
        own = self._method.negatives(epoch) if self._method is not None else None
        if own is not None:
            return self._checked(own, epoch)
        if self._ahead is None:
            sampler, n = NegativeSampler(self._train, seed=self._config.seed), self._config.negatives
            draw = lambda epoch: sampler.sample_epoch(n, epoch=epoch)  # noqa: E731
            self._ahead = EpochPrefetcher(draw, start=epoch, stop=self._config.epochs)
        return self._ahead.get(epoch)

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
