"""Teachers of other programs: vectors under ids of their own, or ranked lists, and a YAML file about them.

What text and foundation recommenders leave, as their public code has it:

- UniSRec (Hou et al., KDD'22; RUCAIBox/UniSRec): ``NAME.feat1CLS``, a raw float32 matrix [items, 768] of text features
  whose row is the integer item id of the ``.inter`` files; ``NAME.item2index`` and ``NAME.user2index``, lines
  ``id<tab>row``; a checkpoint whose ``state_dict`` is RecBole's SASRec with ``moe_adaptor.*``. Scores are cosines.
- Recformer (Li et al., KDD'23): ``item_embeddings_NAME``, a saved tensor whose rows go by the integers of
  ``smap.json`` (``{id: row}``); users are the model's pooled output over their text and have to be saved beside it.
- UniM2Rec (Sun et al., 2023): no public program was found; item and user vectors with ids serve it.

Tensors in ``.pt``, ``.pth`` or ``.bin`` files are to be saved as ``.safetensors`` or ``.npy`` first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastkd.core.config import from_mapping, read_yaml
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.data.dataset import Dataset
from fastkd.models._foreign_files import VectorsConfig as VectorsConfig
from fastkd.models._foreign_files import read_tensors, read_vectors
from fastkd.models._sequence_encoder import SequenceEncoder
from fastkd.models.encoded import BLOCK
from fastkd.models.list_files import ListsConfig, load_lists
from fastkd.models.list_teacher import ListTeacher
from fastkd.models.teacher import EmbeddingTeacher

MANIFEST = "teacher.yaml"
"""The file of a folder that says what the others are."""

_ENCODING = ("encode", "max_length", "heads")
"""Options of users that are made from their items."""


@dataclass(frozen=True, kw_only=True)
class ForeignConfig:
    """A teacher whose score is the inner product of exported vectors, or one of ranked lists.

    ``lists``: the lists; what follows is for vectors. ``items``: their vectors. ``users``: theirs, or None to make them
    from each user's training items by ``encode``: ``"mean"`` of their vectors, ``"last"`` in the order of time, or a
    ``.safetensors`` file with a sequence encoder of RecBole's form (its adaptor, if it has one, is applied to the items
    first). ``max_length``: last items read; an encoder reads no more than it has positions for. ``heads``: of its
    attention. ``centre``: subtract the mean of the vectors that the file has first, text vectors share much of it; an
    item without one is then 0. ``cosine``: bring all vectors to length 1, but those that are 0.
    """

    lists: ListsConfig | None = None
    items: VectorsConfig | None = None
    users: VectorsConfig | None = None
    encode: str = "mean"
    max_length: int | None = None
    heads: int = 2
    centre: bool = False
    cosine: bool = False

    def __post_init__(self) -> None:
        others = [f.name for f in fields(self) if f.name != "lists" and getattr(self, f.name) != f.default]
        if self.lists is not None and others:
            raise ConfigError(f"lists have no vectors: leave out {', '.join(others)}, or lists")
        if self.lists is None and self.items is None:
            raise ConfigError("a teacher needs items (vectors) or lists, got neither")
        unread = [f.name for f in fields(self) if f.name in _ENCODING and getattr(self, f.name) != f.default]
        if self.users is not None and unread:
            raise ConfigError(f"users have vectors of their own: leave out {', '.join(unread)}, or users")
        if self.encode not in ("mean", "last") and Path(self.encode).suffix.lower() != ".safetensors":
            raise ConfigError(f"encode={self.encode!r} is not allowed. One of: mean, last, FILE.safetensors")
        for name, value in (("max_length", self.max_length), ("heads", self.heads)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


def is_foreign(path: Path) -> bool:
    """Return whether ``path`` is a description of a foreign teacher, or a folder with one."""
    return path.suffix.lower() in (".yaml", ".yml") or (path / MANIFEST).is_file()


def load_foreign(path: str | Path, dataset: Dataset) -> EmbeddingTeacher | ListTeacher:
    """Return the teacher that ``path`` tells of: a YAML file of :class:`ForeignConfig`, or a folder with such a file.

    In a folder it is ``teacher.yaml``. Vectors and lists are brought into the order of ``dataset`` by the ids of the
    source; relative paths start at the YAML file's folder. Raises ``ConfigError`` for what the file says wrong,
    ``TeacherError`` for files that do not fit the data.
    """
    file = Path(path) / MANIFEST if Path(path).is_dir() else Path(path)
    config = from_mapping(ForeignConfig, read_yaml(file), path=str(file))
    return foreign_teacher(config, dataset, folder=file.parent)


def foreign_teacher(
    config: ForeignConfig, dataset: Dataset, *, folder: str | Path = "."
) -> EmbeddingTeacher | ListTeacher:
    """Return the teacher of exported vectors or lists; ``folder``: what relative paths start from."""
    root = Path(folder)
    if config.lists is not None:
        return load_lists(config.lists, dataset.users, dataset.items, folder=root)
    assert config.items is not None
    items, known = read_vectors(config.items, dataset.items, folder=root, what="item")
    encoder = None
    if config.users is None and config.encode not in ("mean", "last"):
        file = root / config.encode
        encoder = SequenceEncoder(read_tensors(file), heads=config.heads, origin=file)
        items = encoder.adapt(items)
    if config.centre:
        # Not the mean less a mean: rounding would leave a direction, which cosines bring to length 1.
        items = torch.where(known.unsqueeze(1), items - items[known].mean(0), 0)
    if config.users is not None:
        users, _ = read_vectors(config.users, dataset.users, folder=root, what="user")
        if users.shape[1] != items.shape[1]:
            raise TeacherError(
                f"{root / config.users.vectors} holds users {users.shape[1]} wide and "
                f"{root / config.items.vectors} items {items.shape[1]} wide; one width is needed"
            )
    # The mean and the last of vectors of length 1 are what goes with cosines; an encoder takes vectors as they are.
    if config.cosine and encoder is None:
        items = functional.normalize(items)
    if config.users is None:
        users = _mean(items, dataset, config) if config.encode == "mean" else _ordered(items, dataset, config, encoder)
    if config.cosine:
        items, users = functional.normalize(items), functional.normalize(users)
    return EmbeddingTeacher(users, items)


def _mean(items: Tensor, dataset: Dataset, config: ForeignConfig) -> Tensor:
    """Return the mean vector of each user's training items, of the last ``max_length`` if given."""
    if config.max_length is not None:
        blocks = []
        for sequences in _sequences(dataset, config.max_length, "max_length"):
            known = (sequences >= 0).unsqueeze(2)
            summed = torch.where(known, functional.embedding(sequences.clamp(min=0), items), 0).sum(1)
            blocks.append(summed / known.sum(1))
        return torch.cat(blocks)
    indptr, indices = dataset.train.to_torch()
    return functional.embedding_bag(indices.long(), items, indptr.long(), mode="mean", include_last_offset=True)


def _ordered(items: Tensor, dataset: Dataset, config: ForeignConfig, encoder: SequenceEncoder | None) -> Tensor:
    """Return what the encoder makes of each user's sequence, or the vector of its last item."""
    if encoder is None:
        return torch.cat([items[s[:, 0]] for s in _sequences(dataset, 1, "encode=last")])
    length = min(config.max_length or encoder.max_length, encoder.max_length)
    with torch.no_grad():
        return torch.cat([encoder.encode(items, s) for s in _sequences(dataset, length, f"encode={config.encode}")])


def _sequences(dataset: Dataset, length: int, why: str) -> list[Tensor]:
    """Return the last items of all users in blocks Int64[b, length], oldest first, -1 at the end."""
    order = dataset.sequences
    if order is None:
        raise TeacherError(
            f"{why} reads the order of time, which this data has none of: give a time column, or use encode=mean"
        )
    blocks = np.array_split(np.arange(dataset.num_users), max(1, -(-dataset.num_users // BLOCK)))
    return [torch.from_numpy(order.padded(block, max_length=length, side="right")) for block in blocks]
