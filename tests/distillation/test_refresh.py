from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import CheckpointError
from fastkd.distillation import refresh
from fastkd.distillation.kd_ce import KDCE, KDCEConfig
from fastkd.distillation.refresh import Window, block_lists, block_scores, teacher_lists, user_blocks
from fastkd.models import EmbeddingTeacher, Tables

CPU = torch.device("cpu")


@pytest.fixture
def method():
    return KDCE(KDCEConfig(), Seeds(0))


@pytest.fixture
def tables():
    noise = Seeds(1).torch("tables")
    return Tables(torch.randn(20, 4, generator=noise), torch.randn(15, 4, generator=noise))


def test_blocks_cover_all_users_in_bounded_cells_and_are_told(method, monkeypatch):
    monkeypatch.setattr(refresh, "USER_BLOCK", 8)
    monkeypatch.setattr(refresh, "BLOCK_CELLS", 30)
    told = []
    method.progress = lambda *what: told.append(what)
    assert [b.tolist() for b in user_blocks(method, 7, "x", width=10)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert told == [("x", 3, 7), ("x", 6, 7), ("x", 7, 7)]
    assert [len(b) for b in user_blocks(method, 20, "x")] == [8, 8, 4]
    assert [len(b) for b in user_blocks(method, 2, "x", width=1000)] == [1, 1]
    assert list(user_blocks(method, 0, "x")) == []


def test_lists_of_blocks_are_those_of_all(method, tables, monkeypatch):
    seen = Interactions.from_pairs([0, 0, 9], [1, 2, 14], num_users=20, num_items=15)
    whole = EmbeddingTeacher(tables.users, tables.items).lists(6, seen)
    monkeypatch.setattr(refresh, "USER_BLOCK", 7)
    ids, scores = teacher_lists(method, EmbeddingTeacher(tables.users, tables.items), 6, seen, CPU)
    assert ids.dtype == torch.int32
    assert torch.equal(ids.long(), whole.ids)
    assert torch.equal(scores, whole.scores)
    blocks = [block_lists(tables, users, 6, seen) for users in user_blocks(method, 20, "x")]
    assert torch.equal(torch.cat(blocks), whole.ids)
    found = [block_scores(tables, users, ids[users]) for users in user_blocks(method, 20, "x")]
    torch.testing.assert_close(torch.cat(found), whole.scores)


def test_lists_longer_than_the_catalogue_are_padded(tables):
    lists = block_lists(tables, torch.arange(20), 18, None)
    assert (lists[:, 15:] == -1).all()
    assert lists[:, :15].sort().values.tolist() == [list(range(15))] * 20


def test_a_window_opens_once_and_its_tables_travel():
    window = Window("m", 3, {"ids": (4, 2)}, CPU)
    with pytest.raises(ValueError, match="m has no lists yet: call begin_epoch"):
        window["ids"]
    assert window.state_dict() == {}
    assert window.due(4)
    window.open(4)["ids"][1] = 7
    assert [window.due(epoch) for epoch in (2, 3, 4, 5, 6)] == [True, False, False, False, True]
    other = Window("m", 3, {"ids": (4, 2)}, CPU)
    other.load_state_dict(window.state_dict())
    assert other.start == 3
    assert torch.equal(other["ids"], window["ids"])
    other.load_state_dict({})
    assert other.start == -1


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"start": np.zeros(1), "ids": np.zeros((4, 3))}, r"m state ids: expected \[4, 2\], got \[4, 3\]"),
        ({"start": np.zeros(1)}, r"m state ids: expected \[4, 2\], got nothing"),
        ({"start": np.zeros(1), "ids": np.zeros((4, 2)), "more": np.zeros(2)}, r"more: expected nothing, got \[2\]"),
    ],
)
def test_foreign_tables_are_refused(state, message):
    with pytest.raises(CheckpointError, match=message):
        Window("m", 3, {"ids": (4, 2)}, CPU).load_state_dict(state)
