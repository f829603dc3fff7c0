"""Models whose score is no inner product: they score pairs, and rank a catalogue chunk by chunk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.towers import Tower, frozen

CHUNK = 1024
"""Items scored at a time."""
CELLS = 1 << 24
"""Values of a layer held at a time while a catalogue is ranked: bounds the users of one sweep."""

PairScore = Callable[[Tensor, Tensor], Tensor]
"""``(users Int64[...], items Int64[...]) -> Float[...]``, broadcast like an addition."""


class PairTables(Tables):
    """What a step sees of a model without vectors: :meth:`scores` and :meth:`topk`, as tables have them.

    Asked for vectors it refuses: what needs an inner product cannot have one. ``width``: values that the score of a
    pair needs on its way.
    """

    def __init__(self, score: PairScore, model: PairRecommender, *, width: int) -> None:
        self._score, self._model, self._width = score, model, width

    @property
    def num_users(self) -> int:
        """Number of users that can be scored."""
        return self._model.num_users

    @property
    def num_items(self) -> int:
        """Number of items that can be scored."""
        return self._model.num_items

    @property
    def device(self) -> torch.device:
        """Where ids are expected and scores are made."""
        return next(self._model.parameters()).device

    @property
    def users(self) -> Tensor:
        """Refuse: there are no user vectors."""
        self._refuse()

    @property
    def items(self) -> Tensor:
        """Refuse: there are no item vectors."""
        self._refuse()

    def user_vectors(self, users: Tensor) -> Tensor:
        """Refuse: there are no user vectors."""
        self._refuse()

    def item_vectors(self, items: Tensor) -> Tensor:
        """Refuse: there are no item vectors."""
        self._refuse()

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return the scores Float[B, C] of listed items Int[B, C] for ``users`` Int[B]; -inf where an id is -1."""
        scores = self._score(users.long().unsqueeze(1), ids.long().clamp(min=0))
        wide = torch.promote_types(scores.dtype, torch.float32)
        return scores.to(wide).masked_fill(ids < 0, -torch.inf)

    def topk(
        self, users: Tensor, k: int, *, exclude: Interactions | None = None, among: Tensor | None = None,
        backend: str = "auto",
    ) -> ops.TopK:  # fmt: skip
        """Return what :meth:`Tables.topk` does, by :func:`fastkd.ops.score_topk_chunked`.

        Scores are those of float32 arithmetic: a product of matrices may round them differently for other users beside
        them, so items closer than that may change places.
        """
        count = self.num_items if among is None else len(among)
        rows = self.rows_at_once(min(CHUNK, count))
        parts = [ops.TopK(torch.empty(0, k, device=self.device), users.new_empty((0, k), dtype=torch.int64))]
        for start in range(0, len(users), rows):
            block = users[start : start + rows].long().unsqueeze(1)
            seen = None if exclude is None else exclude.rows(np.arange(start, start + len(block)))
            parts.append(
                ops.score_topk_chunked(
                    lambda at, block=block: self._score(block, at.unsqueeze(0) if among is None else among[at][None]),  # type: ignore[misc]
                    count, k, batch=len(block), exclude=seen, chunk=CHUNK, device=self.device, backend=backend,
                )
            )  # fmt: skip
        return ops.TopK(torch.cat([part.scores for part in parts]), torch.cat([part.ids for part in parts]))

    def rows_at_once(self, columns: int) -> int:
        """Return how many users' lists of ``columns`` items may be scored at a time."""
        return max(1, CELLS // (max(self._width, 1) * max(1, columns)))

    def detach(self) -> PairTables:
        """Return the model as it scores in eval mode and outside autograd."""
        return PairTables(self._model.frozen_score, self._model, width=self._width)

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"{type(self._model).__name__} scores pairs and has no user and item vectors, which this needs; "
            "use a model whose score is an inner product (bpr_mf, lightgcn, ...)"
        )


class PairScorer(Tower):
    """``users`` Int64[B], ``items`` Int64[B, C] -> scores Float[B, C], by a model that scores pairs."""

    def __init__(self, model: PairRecommender) -> None:
        super().__init__()
        self.model = frozen(model)
        self.shapes = {"users": ("batch",), "items": ("batch", "candidates")}
        self.meanings = {"users": "user rows", "items": "item rows, the candidates of each user"}

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of each user's candidates."""
        return self.model.score(users.unsqueeze(1), items)


class PairRecommender(Recommender):
    """A model that scores pairs: subclasses provide :meth:`score` and :attr:`pair_width`."""

    pair_width: int

    @abstractmethod
    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of ``users`` Int64[...] and ``items`` Int64[...], broadcast; differentiable."""

    def tables(self) -> PairTables:
        """Return what scores, differentiable; it has no vectors."""
        return PairTables(self.score, self, width=self.pair_width)

    def frozen_tables(self) -> PairTables:
        """Return what scores in eval mode and outside autograd, whatever mode the model is in when it is asked."""
        return self.tables().detach()

    def user_tower(self) -> Tower:
        """Refuse: there are no user vectors. See :meth:`pair_scorer`."""
        raise ConfigError(f"{type(self).__name__} scores pairs and has no user vectors to make; take pair_scorer()")

    def pair_scorer(self) -> PairScorer:
        """Return what scores the candidates of a request."""
        return PairScorer(self)

    def frozen_score(self, users: Tensor, items: Tensor) -> Tensor:
        """Return :meth:`score` in eval mode and outside autograd; the mode is restored."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self.score(users, items)
        finally:
            self.train(training)
