"""SASRec: self-attention over the items a user took, in the order of time.

Kang and McAuley, "Self-attentive sequential recommendation" (ICDM'18).
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.config import conform
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch
from fastkd.data.sequences import UserSequences
from fastkd.models._layers import dropout, linear
from fastkd.models.config import MODELS, FromSequences, ModelConfig, normal_parameter, options_of
from fastkd.models.encoded import EncodedTables
from fastkd.models.protocol import Recommender, Tables, listed
from fastkd.models.towers import HISTORY, Tower

INIT_STD = 0.02
"""Standard deviation of the initial vectors; ours, the paper states none."""

BaseLoss = Literal["bce", "softmax", "sampled"]


@dataclass(frozen=True, kw_only=True)
class SASRecConfig:
    """Options of SASRec; the defaults are the paper's for sparse data (``dim`` 50, Adam at 1e-3).

    ``max_length``: last items read (200 on ml-1m). ``blocks``, ``heads``: of attention. ``dropout``: 0.5 on sparse
    data, 0.2 on ml-1m. ``base_loss`` of a position: ``"bce"``, the paper's, with the trainer's negatives (one);
    ``"softmax"`` over the whole catalogue; ``"sampled"``, the softmax with ``drawn`` uniform negatives, corrected.
    """

    max_length: int = 50
    blocks: int = 2
    heads: int = 1
    dropout: float = 0.5
    base_loss: BaseLoss = "bce"
    drawn: int = 256

    def __post_init__(self) -> None:
        conform(self)
        for name, value in (("max_length", self.max_length), ("heads", self.heads), ("drawn", self.drawn)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.blocks < 0:
            raise ConfigError(f"blocks must be at least 0, got {self.blocks}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class Block(nn.Module):
    """x + attention(LN x), then x + FFN(LN x) with FFN = W2 relu(W1 x + b1) + b2; causal, dropout after each part."""

    def __init__(self, dim: int, heads: int, dropout: float, seeds: Seeds, name: str) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_ffn = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)
        self.attention = linear(seeds, f"{name}/attention", dim, 3 * dim)
        self.mix = linear(seeds, f"{name}/mix", dim, dim)
        self.inner = linear(seeds, f"{name}/inner", dim, dim)
        self.outer = linear(seeds, f"{name}/outer", dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for ``x`` Float[B, T, D]; a place reads itself and what came before."""
        rows, length, dim = x.shape
        parts = self.attention(self.norm_attention(x)).view(rows, length, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=drop)
        x = x + dropout(self.mix(read.transpose(1, 2).reshape(rows, length, dim)), self.dropout, self.training)
        inner = dropout(torch.relu(self.inner(self.norm_ffn(x))), self.dropout, self.training)
        return x + dropout(self.outer(inner), self.dropout, self.training)


class SASRec(Recommender):
    """score(u, i) = <h_u, q_i>: h_u is the last state of causal self-attention over u's last training items.

    x_t = sqrt(D) q_{i_t} + p_t, places counted from the end; then the blocks and a layer norm. ``item_embedding`` q
    Float[Tensor, "N D"] is read and written; ``positions`` p Float[Tensor, "L D"]. The paper normalises the queries
    alone; here keys and values are normalised too, as in a usual transformer.

    In training the items but the last are read, and the state before each item has to find it: a row of a batch is
    such a place, so the rows of a user share one pass (``batch_by_user``). The first item of a user, and what lies
    before the last ``max_length``, has no state before it and adds no loss. A ranking reads all training items.
    """

    batch_by_user = True

    def __init__(
        self,
        items: nn.Parameter,
        positions: nn.Parameter,
        sequences: UserSequences,
        places: NDArray[np.int64],
        config: SASRecConfig,
        seeds: Seeds,
    ) -> None:
        super().__init__()
        self.item_embedding, self.positions, self.config, self._seeds = items, positions, config, seeds
        self.num_users, (self.num_items, self.dim) = sequences.num_users, items.shape
        self.blocks = nn.ModuleList(
            Block(self.dim, config.heads, config.dropout, seeds, f"init/block/{i}") for i in range(config.blocks)
        )
        self.norm = nn.LayerNorm(self.dim, eps=1e-8)
        self._digest = hashlib.blake2b(np.ascontiguousarray(sequences.items).data, digest_size=8).hexdigest()
        for name, values in (("offsets", sequences.indptr), ("history", sequences.items), ("places", places)):
            self.register_buffer(name, torch.from_numpy(np.array(values, dtype=np.int64)), persistent=False)

    offsets: Tensor
    history: Tensor
    places: Tensor

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, sequences: UserSequences, seeds: Seeds) -> SASRec:
        """Return a fresh model over ``sequences``, which must hold the items of ``train``."""
        chosen, std = options_of(config, SASRecConfig), config.init_std or INIT_STD
        if config.dim % chosen.heads:
            raise ConfigError(f"dim must be a multiple of heads={chosen.heads}, got {config.dim}")
        items = normal_parameter(seeds, "init/items", train.num_items, config.dim, std)
        positions = normal_parameter(seeds, "init/positions", chosen.max_length, config.dim, std)
        return cls(items, positions, sequences, _places(train, sequences), chosen, seeds)

    def tables(self) -> EncodedTables:
        """Return the item vectors, and what makes user vectors."""
        return EncodedTables(self.encode, self.num_users, self.item_embedding)

    def encode(self, users: Tensor) -> Tensor:
        """Return the last states of ``users`` Int64[B] after all their items, Float[B, D]; 0 for one without any."""
        states, begin = self._states(users, left_out=0)
        last = (self.offsets[users + 1] - 1 - begin).clamp(min=0)
        found = states.gather(1, last.view(-1, 1, 1).expand(-1, 1, self.dim)).squeeze(1)
        return torch.where((self.offsets[users + 1] > self.offsets[users]).unsqueeze(1), found, 0)

    def _states(self, users: Tensor, *, left_out: int) -> tuple[Tensor, Tensor]:
        """Return states Float[B, T, D] over the last items of ``users`` but ``left_out``, and where each begins."""
        stop = self.offsets[users + 1] - left_out
        begin = torch.maximum(self.offsets[users], stop - self.config.max_length)
        # On a GPU the longest would have to be waited for.
        wanted = self.config.max_length if users.is_cuda else int((stop - begin).max()) if len(users) else 1
        at = begin.unsqueeze(1) + torch.arange(max(1, wanted), device=users.device)
        if len(self.history) == 0:
            return self.item_embedding.new_zeros((*at.shape, self.dim)), begin
        ids = self.history[at.clamp(max=len(self.history) - 1)]
        return _read(self, ids, stop - begin), begin

    def user_tower(self) -> SASRecTower:
        """Return what makes the vector of a user from his last items."""
        return SASRecTower(self)

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the loss of each row's place, Float[B]; on a GPU nothing is waited for."""
        users, row = _distinct(batch)
        states, begin = self._states(users, left_out=1)
        slot = self.offsets[batch.users] + self.places[batch.entries] - 1 - begin[row]
        known = (slot >= 0) & (self.places[batch.entries] > 0)
        at = row * states.shape[1] + slot.clamp(0, states.shape[1] - 1)
        vectors = functional.embedding(at, states.reshape(-1, self.dim))
        targets = batch.positives.masked_fill(~known, -1).unsqueeze(1)
        if self.config.base_loss == "softmax":
            ones = torch.ones(targets.shape, device=targets.device)
            return ops.catalogue_softmax(vectors, tables.items, targets, ones, validate=False)
        if self.config.base_loss == "sampled":
            return self._sampled(vectors, tables, targets, epoch, step)
        ids = listed(batch).masked_fill(~known.unsqueeze(1), -1)
        scores = ops.gather_dot(vectors, tables.items, ids, validate=False)
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1
        return ops.weighted_bce(scores, wanted)

    def _sampled(self, vectors: Tensor, tables: Tables, targets: Tensor, epoch: int, step: int) -> Tensor:
        """Return the softmax cross entropy with negatives that are a function of (seed, epoch, step)."""
        device, drawn = targets.device, self.config.drawn
        random = self._seeds.torch("sasrec/negatives", epoch, step, device=str(device))
        negatives = torch.randint(self.num_items, (len(targets), drawn), generator=random, device=device)
        expected = torch.full(negatives.shape, math.log(drawn / self.num_items), device=device)
        return ops.sampled_softmax(vectors, tables.items, targets, negatives, log_q=expected, validate=False)

    def options(self) -> Mapping[str, Any]:
        """Return the options, and what order of time was read."""
        return {**asdict(self.config), "seed": self._seeds.root, "sequences": self._digest}


class SASRecTower(Tower):
    """``history`` Int64[B, L] -> Float[B, D]: the state after the last item of each row, 0 for a row without any."""

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.config, self.dim = model.config, model.dim
        self.item_embedding = nn.Parameter(model.item_embedding.detach().cpu().clone())
        self.positions = nn.Parameter(model.positions.detach().cpu().clone())
        self.blocks, self.norm = copy.deepcopy(model.blocks).cpu(), copy.deepcopy(model.norm).cpu()
        self.eval().requires_grad_(False)
        length = model.config.max_length
        self.shapes = {"history": ("batch", length)}
        self.meanings = {"history": f"{HISTORY}; oldest first, the last {length} of a user who has more"}

    def forward(self, history: Tensor) -> Tensor:
        """Return the vectors of users with these histories."""
        lengths = (history >= 0).sum(1)
        front = history.gather(1, (history < 0).to(torch.int8).argsort(dim=1, stable=True))
        states = _read(self, front.clamp(min=0), lengths)
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, self.dim)
        return torch.where((lengths > 0).unsqueeze(1), states.gather(1, last).squeeze(1), 0)


def _read(model: SASRec | SASRecTower, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return states Float[B, T, D] over rows of items ``ids`` Int64[B, T], the first ``lengths`` Int64[B] of each."""
    config = model.config
    at = torch.arange(ids.shape[1], device=ids.device)
    place = (config.max_length - (lengths.unsqueeze(1) - at)).clamp(0, config.max_length - 1)
    x = functional.embedding(ids, model.item_embedding) * math.sqrt(model.dim)
    x = dropout(x + functional.embedding(place, model.positions), config.dropout, model.training)
    # What comes after the known is never read by it.
    x = torch.where((at < lengths.unsqueeze(1)).unsqueeze(2), x, 0)
    for block in model.blocks:
        x = block(x)
    states: Tensor = model.norm(x)
    return states


def _distinct(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the distinct users of a batch, ascending, Int64[n], and the slot of each row's user, Int64[B].

    Off the CPU their number would have to be waited for: there ``n`` is the bound that the batch brought from the host,
    which rows that come user by user meet, and slots left over hold user 0 for no row to read.
    """
    ordered, order = batch.users.sort()
    if len(ordered) == 0:
        return ordered, order
    starts = torch.zeros_like(ordered)
    starts[1:] = ordered[1:] != ordered[:-1]
    slots = starts.cumsum(0)
    most = len(batch) if ordered.is_cuda else int(slots[-1]) + 1
    count = most if batch.runs is None else batch.runs
    users = ordered.new_zeros(count).scatter_(0, slots, ordered)
    return users, torch.empty_like(slots).scatter_(0, order, slots)


def _places(train: Interactions, sequences: UserSequences) -> NDArray[np.int64]:
    """Return the place in its user's sequence of each entry of ``train``, Int64[nnz]; refuse other items."""
    users = np.repeat(np.arange(sequences.num_users), sequences.lengths())
    by_item = np.lexsort((sequences.items, users))
    same = np.array_equal(sequences.indptr, train.indptr) and len(sequences.items) == train.nnz
    if not same or not np.array_equal(sequences.items[by_item], train.indices):
        raise DataError(f"the sequences do not hold the items of {train!r}, each once")
    places: NDArray[np.int64] = by_item - sequences.indptr[users]
    return places


MODELS.add("sasrec", FromSequences(SASRec.build))
