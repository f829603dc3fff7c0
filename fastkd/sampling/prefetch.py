"""Draw the next epoch on a thread while this one trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

from fastkd.core import ConfigError

T = TypeVar("T")


class EpochPrefetcher(Generic[T]):
    """Call ``draw(epoch)`` one epoch ahead on a thread of its own.

    ``draw`` must be a pure function of the epoch (such as ``NegativeSampler.sample_epoch``), so that what
    comes out does not depend on timing, and should release the GIL. Epochs are ``start .. stop - 1``;
    nothing past ``stop`` is drawn. An exception in ``draw`` is raised by the :meth:`get` of that epoch.
    At most two epochs are held: the one handed out and the next.

    >>> with EpochPrefetcher(lambda epoch: epoch * 10, start=1, stop=4) as epochs:
    ...     list(epochs)
    [(1, 10), (2, 20), (3, 30)]
    """

    def __init__(self, draw: Callable[[int], T], *, start: int = 0, stop: int) -> None:
        if start < 0 or stop < start:
            raise ConfigError(f"epochs must satisfy 0 <= start <= stop, got start={start}, stop={stop}")
        self._draw = draw
        self._start, self._stop = start, stop
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastkd-epoch")
        self._ahead: tuple[int, Future[T]] | None = None
        self._closed = False
        self._submit(start)

    def get(self, epoch: int) -> T:
        """Return ``draw(epoch)``, waiting for it if need be, and begin with the epoch after it."""
        if self._closed:
            raise RuntimeError(f"epoch {epoch} was asked of a closed EpochPrefetcher")
        if not self._start <= epoch < self._stop:
            raise ConfigError(f"epoch {epoch} is out of range [{self._start}, {self._stop})")
        if self._ahead is None or self._ahead[0] != epoch:
            self._drop_ahead()
            self._submit(epoch)
        assert self._ahead is not None
        future = self._ahead[1]
        self._ahead = None
        drawn = future.result()
        self._submit(epoch + 1)
        return drawn

    def __iter__(self) -> Iterator[tuple[int, T]]:
        return ((epoch, self.get(epoch)) for epoch in range(self._start, self._stop))

    def close(self) -> None:
        """Stop: a draw under way is waited for, its result dropped. Closing twice is fine."""
        self._closed = True
        self._drop_ahead()
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, epoch: int) -> None:
        if epoch < self._stop:
            self._ahead = (epoch, self._executor.submit(self._draw, epoch))

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead[1].cancel()
            self._ahead = None
