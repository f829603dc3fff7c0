import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.models import rank_consensus, teacher_consensus


def by_hand(lists, k, weights, decay, stds, std_decay):
    """The formula, user by user and item by item."""
    found = []
    for user in range(len(lists[0])):
        score = {}
        for x, list_ in enumerate(lists):
            for rank, item in enumerate(list_[user]):
                if item >= 0:
                    value = np.exp(-rank / decay)
                    if stds is not None:
                        value += np.exp(-stds[x][user][rank] / std_decay)
                    score.setdefault(item, []).append(weights[x] * value)
        total = {item: sum(sorted(parts, reverse=True)) for item, parts in score.items()}
        best = sorted(total, key=lambda i: (-total[i], i))[:k]
        found.append(([*best, *[-1] * (k - len(best))], [total[i] for i in best]))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 4), stable=st.booleans())
def test_it_is_the_formula(seed, count, stable):
    random = np.random.default_rng(seed)
    lists = []
    for _ in range(count):
        width = random.integers(1, 7)
        rows = np.stack([random.permutation(9)[:width] for _ in range(5)])
        rows[random.integers(0, 5), random.integers(0, width) :] = -1
        lists.append(rows)
    stds = [random.random(x.shape) * 50 for x in lists] if stable else None
    weights = random.random(count).tolist()
    found = rank_consensus(
        [torch.from_numpy(x) for x in lists],
        8,
        weights=weights,
        decay=4.0,
        stds=None if stds is None else [torch.from_numpy(s) for s in stds],
        std_decay=20.0,
    )
    for user, (ids, scores) in enumerate(by_hand(lists, 8, weights, 4.0, stds, 20.0)):
        assert found.ids[user].tolist() == ids
        np.testing.assert_allclose(found.scores[user, : len(scores)], scores, rtol=1e-6)
        assert (found.scores[user, len(scores) :] == -np.inf).all()


def test_one_list_is_itself_and_ties_go_to_the_lower_id():
    one = torch.tensor([[5, 2, 9], [1, -1, -1]])
    assert rank_consensus([one], 2).ids.tolist() == [[5, 2], [1, -1]]
    # Three teachers that hold 7 and 3 at the same positions in another order: equal to the bit.
    lists = [torch.tensor([[7, 3, 1]]), torch.tensor([[3, 1, 7]]), torch.tensor([[1, 7, 3]])]
    merged = rank_consensus(lists, 3)
    assert merged.ids.tolist() == [[1, 3, 7]]
    assert len(set(merged.scores[0].tolist())) == 1


def test_blocks_and_long_lists_change_nothing(monkeypatch):
    lists = [torch.stack([torch.randperm(400)[:150] for _ in range(10)]) for _ in range(3)]
    whole = rank_consensus(lists, 500)
    monkeypatch.setattr(teacher_consensus, "ROW_BLOCK", 3)
    cut = rank_consensus(lists, 500)
    assert torch.equal(whole.ids, cut.ids)
    assert torch.equal(whole.scores, cut.scores)
    for row, ids in enumerate(whole.ids.tolist()):
        kept = [i for i in ids if i >= 0]
        assert set(kept) == {int(i) for x in lists for i in x[row]}
        assert len(kept) == len(set(kept))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lists": []}, "lists must be integer matrices"),
        ({"lists": [torch.zeros(2, 3, dtype=torch.long), torch.zeros(3, 3, dtype=torch.long)]}, "same users"),
        ({"lists": [torch.zeros(2, 3)]}, "integer matrices"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"decay": 0.0}, r"decay must be a positive number, got 0\.0"),
        ({"weights": [1.0, 2.0]}, "weights must be 1 numbers"),
        ({"weights": [-1.0]}, "at least 0"),
        ({"stds": [torch.zeros(2, 2)]}, "stds must have the shapes"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"lists": [torch.zeros(2, 1, dtype=torch.long)], "k": 1} | change
    with pytest.raises(ValueError, match=message):
        rank_consensus(arguments.pop("lists"), arguments.pop("k"), **arguments)
