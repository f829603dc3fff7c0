from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from fastkd.distillation.entities import counted_rows, padded_entities, weighted_entities

IDS = st.lists(st.integers(0, 9), max_size=12)


@settings(deadline=None, max_examples=60)
@given(first=IDS, second=IDS, reduction=st.sampled_from(["sum", "mean"]))
def test_each_id_once_with_the_weight_of_its_groups(first, second, reduction):
    groups = [torch.tensor(ids, dtype=torch.int64) for ids in (first, second)]
    wanted = defaultdict(float)
    for ids, factor in ((first, 0.5), (second, 0.25)):
        for value in set(ids):
            wanted[value] += factor / (len(set(ids)) if reduction == "mean" else 1)
    found = weighted_entities(groups, factors=(0.5, 0.25), reduction=reduction)
    assert found.ids.tolist() == sorted(wanted)
    assert found.weights.tolist() == pytest.approx([wanted[i] for i in sorted(wanted)])

    padded, count = padded_entities(groups, factors=(0.5, 0.25), reduction=reduction)
    assert int(count) == len(wanted)
    assert len(padded.ids) == len(first) + len(second)
    assert (
        padded.ids[len(wanted) :].tolist()
        == padded.weights[len(wanted) :].tolist()
        == [0] * (len(first) + len(second) - len(wanted))
    )
    assert torch.equal(padded.ids[: len(wanted)], found.ids)
    assert torch.equal(padded.weights[: len(wanted)], found.weights)


@settings(deadline=None, max_examples=60)
@given(ids=st.lists(st.integers(-1, 40), max_size=30), far=st.sampled_from([0, 10**12]))
def test_ids_of_one_group_are_marked_or_sorted_to_the_same_end(ids, far):
    # With the far id their range is too wide to mark.
    group = torch.tensor([*ids, *([far] if far else [])], dtype=torch.int64)
    found = weighted_entities([group])
    assert found.ids.dtype == torch.int64
    assert found.ids.tolist() == sorted(set(group.tolist()))
    assert found.weights.tolist() == [1.0] * len(found.ids)


def test_padding_among_groups_counts_for_nothing():
    groups = [torch.tensor([4, 1, 4]), torch.tensor([[-1, 4], [2, -1]])]
    for reduction, wanted in (("sum", {1: 0.5, 2: 0.25, 4: 0.75}), ("mean", {1: 0.25, 2: 0.125, 4: 0.375})):
        found = weighted_entities(groups, factors=(0.5, 0.25), reduction=reduction)
        assert (found.ids >= 0).all()
        real = found.weights > 0
        assert dict(zip(found.ids[real].tolist(), found.weights[real].tolist(), strict=True)) == wanted


def test_groups_of_any_shape():
    assert weighted_entities([torch.tensor([[3, 1], [1, 3]])]).ids.tolist() == [1, 3]
    assert weighted_entities([torch.tensor([[3, 1], [1, 3]])], reduction="mean").weights.tolist() == [0.5, 0.5]
    found = weighted_entities([torch.tensor([3]), torch.tensor([[1, 3], [2, 1]])], factors=(1.0, 1.0))
    assert found.ids.tolist() == [1, 2, 3]
    assert found.weights.tolist() == [1.0, 1.0, 2.0]


def test_no_value_is_read_back_before_the_count():
    # Tensors without data: whatever would wait for a device raises here.
    with FakeTensorMode():
        entities, count = padded_entities(
            [torch.zeros(7, dtype=torch.int64), torch.zeros(7, 2, dtype=torch.int64)],
            factors=(0.5, 0.5),
            reduction="mean",
        )
        assert entities.ids.shape == entities.weights.shape == (21,)
        with pytest.raises(DataDependentOutputException):
            int(count)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rows_are_counted(reduction):
    users = torch.tensor([7, 2, 7, 0, 7])
    found = counted_rows(users, reduction=reduction)
    assert found.ids.tolist() == [0, 2, 7]
    assert found.weights.tolist() == pytest.approx([w / (5 if reduction == "mean" else 1) for w in (1, 1, 3)])
    assert counted_rows(users[:0], reduction=reduction).ids.tolist() == []
