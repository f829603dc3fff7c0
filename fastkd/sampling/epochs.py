"""Pairwise epochs: all interactions shuffled, each with its negatives, made ahead on a thread and cut into batches.

The order of an epoch is ``numpy.random.Generator(Philox(key)).permutation(nnz)`` with ``key =
Seeds(seed).key("shuffle", epoch)``; the C++ module makes the same order several times faster. Negatives are those of
:meth:`NegativeSampler.sample_epoch` and do not depend on the order. So a batch is a pure function of (seed,
epoch, position), and a position is all there is to save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.sampling._arrays import count
from fastkd.sampling.distributions import Distribution, options_of
from fastkd.sampling.prefetch import EpochPrefetcher

if TYPE_CHECKING:
    from fastkd import _native

STREAM = "shuffle"
"""Name of the stream of the order."""


class EpochSampler(Protocol):
    """What a producer asks of a sampler; ``NegativeSampler`` with any distribution has it."""

    interactions: Interactions
    excluded: Interactions
    distribution: Distribution
    seeds: Seeds
    num_threads: int
    backend: str

    def sample_epoch(self, n: int, *, epoch: int, on_exhausted: Literal["raise", "pad"] = "raise") -> Any:
        """Return n negatives for every interaction, ``[nnz, n]``."""
        ...


@dataclass(frozen=True)
class EpochBatch:
    """Rows of one step, or of a whole epoch.

    ``entries`` Int[B]: positions in ``interactions.indices``, so that anything drawn per interaction can be looked
    up; ``users`` Int[B]; ``positives`` Int[B]; ``negatives`` Int[B, n], -1 = padding.
    """

    epoch: int
    entries: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, begin: int, end: int) -> EpochBatch:
        """Return rows ``begin .. end - 1``, sharing memory."""
        at = slice(begin, end)
        return EpochBatch(self.epoch, self.entries[at], self.users[at], self.positives[at], self.negatives[at])


class EpochProducer:
    """Makes whole epochs: :meth:`draw` shuffles the positives and draws their negatives in one call.

    ``sampler``: a :class:`NegativeSampler`. ``n``: negatives for each positive, 0 for none. ``on_exhausted``: as
    in :meth:`NegativeSampler.sample_epoch`. Hard negatives of an epoch made ahead are chosen by the scores of that
    moment: give ``Hard`` tables that do not change, or draw on the caller's thread.

    >>> from fastkd.sampling import NegativeSampler
    >>> sampler = NegativeSampler(Interactions.from_pairs([0, 0, 1], [0, 1, 2], num_items=4))
    >>> sorted(EpochProducer(sampler, 2).draw(0).positives.tolist())
    [0, 1, 2]
    """

    def __init__(self, sampler: EpochSampler, n: int, *, on_exhausted: Literal["raise", "pad"] = "raise") -> None:
        self.sampler, self.on_exhausted = sampler, on_exhausted
        self.n = count(n, "n", 0, 2**32)
        self._table = _native_table(sampler.interactions) if sampler.backend == "native" else None

    def allocate(self, *, dtype: torch.dtype = torch.int64, pin_memory: bool | None = None) -> EpochBatch:
        """Return room for one epoch, ``(3 + n) * nnz`` ids.

        ``dtype``: int64, or int32 where all ids and positions fit. ``pin_memory``: None = where torch sees a CUDA
        device, except in a worker of a ``DataLoader``.
        """
        if pin_memory is None:
            pin_memory = torch.cuda.is_available() and torch.utils.data.get_worker_info() is None
        nnz = self.sampler.interactions.nnz
        shapes: list[tuple[int, ...]] = [(nnz,), (nnz,), (nnz,), (nnz, self.n)]
        return EpochBatch(-1, *(torch.empty(shape, dtype=dtype, pin_memory=pin_memory) for shape in shapes))

    def draw(self, epoch: int, out: EpochBatch | None = None) -> EpochBatch:
        """Return epoch ``epoch``, written into the memory of ``out`` or into new memory.

        ``out``: from :meth:`allocate`, or contiguous CPU tensors of those shapes, of one dtype. Raises ``TypeError`` or
        ``DataError`` for an ``out`` that does not fit, ``DataError`` as ``sample_epoch`` does.
        """
        room = self.allocate() if out is None else out
        fields = (room.entries, room.users, room.positives, room.negatives)
        entries, users, positives, negatives = (self._checked(t, i) for i, t in enumerate(fields))
        interactions = self.sampler.interactions
        drawn = self.sampler.sample_epoch(self.n, epoch=epoch, on_exhausted=self.on_exhausted)
        if self._table is not None:
            _shuffled()(self.sampler.seeds.key(STREAM, epoch), entries)
            self._table.gather(entries, drawn, users, positives, negatives, self.sampler.num_threads)
        else:
            entries[:] = self.sampler.seeds.numpy(STREAM, epoch).permutation(interactions.nnz)
            users[:] = interactions.entry_users()[entries]
            positives[:] = interactions.indices[entries]
            negatives[:] = drawn[entries]
        return EpochBatch(epoch, *fields)

    def _checked(self, tensor: Tensor, which: int) -> NDArray[Any]:
        name = ("entries", "users", "positives", "negatives")[which]
        interactions = self.sampler.interactions
        nnz = interactions.nnz
        shape = (nnz, self.n) if name == "negatives" else (nnz,)
        if tensor.device.type != "cpu" or tensor.dtype not in (torch.int32, torch.int64) or not tensor.is_contiguous():
            raise TypeError(
                f"out.{name} must be a contiguous int64 or int32 tensor on the CPU, got {tensor.dtype} on "
                f"{tensor.device}, strides {tensor.stride()}"
            )
        if tuple(tensor.shape) != shape:
            raise DataError(f"out.{name} must have shape {list(shape)}, got {list(tensor.shape)}")
        largest = max(nnz, interactions.num_users, interactions.num_items)
        if tensor.dtype == torch.int32 and largest > 2**31 - 1:
            raise TypeError(f"out.{name} is int32, which cannot hold ids up to {largest}; use int64")
        return tensor.numpy()


class Epochs:
    """Iterator over the batches of successive epochs; made by :meth:`NegativeSampler.epochs`.

    Epoch e + 1 is drawn on a thread while the batches of e are handed out; they are slices of the epoch's own memory,
    which no later epoch reuses. :meth:`close`, the end of a ``with`` block, or dropping the iterator ends the thread.
    Memory: two epochs of ``(3 + n) * nnz`` int64. A forked child (a ``DataLoader`` worker) goes on by itself from where
    the parent was.
    """

    def __init__(
        self,
        producer: EpochProducer,
        *,
        batch_size: int,
        start: int = 0,
        stop: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.producer = producer
        self.batch_size = count(batch_size, "batch_size", 1, 2**63 - 1)
        self.drop_last = bool(drop_last)
        count(start, "start", 0, 2**62)
        if stop is not None and count(stop, "stop", 0, 2**62) < start:
            raise ConfigError(f"epochs must satisfy 0 <= start <= stop, got start={start}, stop={stop}")
        self._stop = stop
        self._epoch, self._batch = start, 0
        self._ahead: EpochPrefetcher[EpochBatch] | None = None
        self._drawn: EpochBatch | None = None
        self._closed = False

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of one epoch; the last may be short unless ``drop_last``."""
        nnz = self.producer.sampler.interactions.nnz
        return nnz // self.batch_size if self.drop_last else -(-nnz // self.batch_size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EpochBatch:
        steps = self.batches_per_epoch
        if self._batch >= steps:
            self._epoch, self._batch, self._drawn = self._epoch + 1, 0, None
        # Epochs without a batch end at once: there would be no end to going through them.
        if self._closed or steps == 0 or (self._stop is not None and self._epoch >= self._stop):
            self.close()
            raise StopIteration
        if self._drawn is None:
            if self._ahead is None:
                self._ahead = EpochPrefetcher(self.producer.draw, start=self._epoch, stop=self._stop)
            self._drawn = self._ahead.get(self._epoch)
        begin = self._batch * self.batch_size
        self._batch += 1
        return self._drawn.rows(begin, begin + self.batch_size)

    def close(self) -> None:
        """End the iteration and the thread; a draw under way is waited for. Closing twice is fine."""
        self._closed, self._drawn = True, None
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what it is a position in."""
        sampler = self.producer.sampler
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "n": self.producer.n,
            "seed": sampler.seeds.root,
            "distribution": sampler.distribution.name,
            "options": options_of(sampler.distribution),
            "interactions": sampler.interactions.content_hash(),
            "excluded": sampler.excluded.content_hash(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position: what follows equals, bit for bit, what followed when it was saved.

        Raises ``ConfigError`` naming what differs when the state is of other data or other options.
        """
        for name, mine in self.state_dict().items():
            if name not in state:
                raise ConfigError(f"the saved position has no {name!r}; it holds {sorted(state)}")
            if name not in ("epoch", "batch") and state[name] != mine:
                raise ConfigError(f"the saved position is of {name}={state[name]!r}, these epochs have {mine!r}")
        epoch = count(state["epoch"], "epoch", 0, 2**62)
        batch = count(state["batch"], "batch", 0, self.batches_per_epoch)
        self.close()
        self._epoch, self._batch, self._closed = epoch, batch, False


def _native_table(interactions: Interactions) -> _native.EpochTable:
    from fastkd import _native

    indptr, indices = (np.require(a, requirements=["C", "A"]) for a in (interactions.indptr, interactions.indices))
    return _native.EpochTable(indptr, indices, interactions.num_items)


def _shuffled() -> Any:
    from fastkd import _native

    return _native.shuffled
