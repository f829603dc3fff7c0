from __future__ import annotations

import pytest
import torch

from fastkd.distillation._sides import listed, reduced


def test_slots_without_an_entity_do_not_count_in_a_mean():
    values, weights = torch.tensor([3.0, 5.0, 100.0]), torch.tensor([1.0, 1.0, 0.0])
    assert reduced(values, weights, "sum").item() == 8.0
    assert reduced(values, weights, "mean").item() == 4.0
    assert reduced(values, torch.zeros(3), "mean").item() == 0.0


@pytest.mark.parametrize("lists", [[[[4, -1], [2, 4]], [[2], [-1]]], [[[4, 2], [2, 4]], [[2], [4]]]])
def test_listed_ids_come_once_and_padding_has_no_weight(lists):
    ids, weights = listed([torch.tensor(one) for one in lists])
    assert ids[weights > 0].tolist() == [2, 4]
    assert (ids[weights == 0] == -1).all()
    assert weights.sum() == 2
