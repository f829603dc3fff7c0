"""Draw the next epoch on a thread while this one trains."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from fastkd.core import ConfigError

T = TypeVar("T")


class EpochPrefetcher(Generic[T]):
    """Call ``draw(epoch)`` one epoch ahead, each call on a thread that ends with it.

    ``draw`` must be a pure function of the epoch (such as ``NegativeSampler.sample_epoch``), so that what
    comes out does not depend on timing, and should release the GIL. Epochs are ``start .. stop - 1``
    (``stop=None``: without end); nothing past ``stop`` is drawn. An exception in ``draw`` is raised, with its
    traceback, by the :meth:`get` of that epoch. At most two epochs are held: the one handed out and the next.

    No thread outlives its draw, so one that is dropped without :meth:`close` leaks none, and a forked child, which has
    none of its parent's threads, draws for itself.

    >>> with EpochPrefetcher(lambda epoch: epoch * 10, start=1, stop=4) as epochs:
    ...     list(epochs)
    [(1, 10), (2, 20), (3, 30)]
    """

    def __init__(self, draw: Callable[[int], T], *, start: int = 0, stop: int | None) -> None:
        if start < 0 or (stop is not None and stop < start):
            raise ConfigError(f"epochs must satisfy 0 <= start <= stop, got start={start}, stop={stop}")
        self._draw = draw
        self._start, self._stop = start, stop
        self._ahead: _Draw[T] | None = None
        self._closed = False
        self._begin(start)

    def get(self, epoch: int) -> T:
        """Return ``draw(epoch)``, waiting for it if need be, and begin with the epoch after it."""
        if self._closed:
            raise RuntimeError(f"epoch {epoch} was asked of a closed EpochPrefetcher")
        if epoch < self._start or not self._below_stop(epoch):
            raise ConfigError(f"epoch {epoch} is out of range [{self._start}, {self._stop})")
        if self._ahead is None or self._ahead.epoch != epoch or not self._ahead.of_this_process():
            self._drop_ahead()
            self._begin(epoch)
        assert self._ahead is not None
        ahead = self._ahead
        ahead.wait()  # interrupted here, the draw is still to be had
        self._ahead = None
        drawn = ahead.result()
        self._begin(epoch + 1)
        return drawn

    def __iter__(self) -> Iterator[tuple[int, T]]:
        epochs = itertools.count(self._start) if self._stop is None else range(self._start, self._stop)
        return ((epoch, self.get(epoch)) for epoch in epochs)

    def close(self) -> None:
        """Stop: a draw under way is waited for, its result dropped. Closing twice is fine."""
        self._closed = True
        self._drop_ahead()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _below_stop(self, epoch: int) -> bool:
        return self._stop is None or epoch < self._stop

    def _begin(self, epoch: int) -> None:
        if self._below_stop(epoch):
            self._ahead = _Draw(self._draw, epoch)

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.of_this_process():
            ahead.wait()


class _Draw(Generic[T]):
    """One call of ``draw`` on a thread of its own."""

    def __init__(self, draw: Callable[[int], T], epoch: int) -> None:
        self.epoch = epoch
        self._process = os.getpid()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(draw,), name=f"fastkd-epoch-{epoch}")
        self._thread.start()

    def _run(self, draw: Callable[[int], T]) -> None:
        try:
            self._value.append(draw(self.epoch))
        except BaseException as error:  # whatever it is, the thread that waits is the one to hear of it
            self._error = error

    def of_this_process(self) -> bool:
        """Return False in a forked child, where the thread does not exist."""
        return self._process == os.getpid()

    def wait(self) -> None:
        """Return when the draw is done."""
        self._thread.join()

    def result(self) -> T:
        """Return what was drawn, or raise what the draw raised, its frames included."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the exception and this frame would keep each other alive
        return self._value[0]
