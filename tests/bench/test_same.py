"""A peer with another result is not timed; one within rounding is."""

import torch

from fastkd import ops
from fastkd.bench.inputs import history
from fastkd.bench.same import close, exactly, own_stream, same_ranking, same_ranks

TABLES = {"users": torch.randn(6, 8), "items": torch.randn(90, 8)}


def test_a_sum_and_its_rows_are_compared_within_rounding():
    rows = torch.rand(5) + 1
    assert close(rows, rows.sum() * (1 + 1e-5), {"x": rows}) is None
    assert "differs" in close(rows, rows.sum() * 1.01, {"x": rows})
    assert close(rows, rows * 1.01, {"x": rows.bfloat16()}) is None


def test_ids_may_differ_where_scores_tie_and_nowhere_else():
    best = ops.rank_topk(TABLES["users"], TABLES["items"], 5)
    assert same_ranking(best, best.ids.numpy(), TABLES) is None
    swapped = best.ids.clone()
    swapped[0, 0], swapped[0, 4] = best.ids[0, 4], best.ids[0, 0]
    assert same_ranking(best, swapped, TABLES) == "ranks other items"
    assert "outside" in same_ranking(best, torch.where(best.ids == best.ids[0, 0], 90, best.ids), TABLES)
    tied = {**TABLES, "items": TABLES["items"].index_copy(0, torch.tensor([3]), TABLES["items"][best.ids[0, :1]])}
    again = ops.rank_topk(tied["users"], tied["items"], 5)
    other = torch.where(again.ids == 3, best.ids[0, 0], torch.where(again.ids == best.ids[0, 0], 3, again.ids))
    assert same_ranking(again, other, tied) is None


def test_ranks_may_be_off_by_what_rounding_explains():
    ranks = torch.arange(12).view(3, 4)
    assert same_ranks(ranks, ranks + 2, TABLES) is None
    assert same_ranks(ranks, ranks + 3, TABLES) == "ranks differ by 3"


def test_integers_are_compared_one_by_one():
    assert exactly(torch.arange(3), torch.arange(3), {}) is None
    assert exactly(torch.arange(3), torch.arange(3) + 1, {}) == "differs"


def test_draws_of_another_stream_are_held_to_the_histories():
    seen = history(4, 40, 5)
    inputs = {"limit": 40, "seen": seen, "user_ids": [0, 1, 2, 3]}
    free = torch.tensor([[next(i for i in range(40) if i not in set(seen.row(u)))] * 3 for u in range(4)])
    assert own_stream(free, free, inputs) is None
    hit = free.clone()
    hit[2, 1] = int(seen.row(2)[0])
    assert own_stream(free, hit, inputs) == "drew a positive"
    assert "outside" in own_stream(free, free + 40, inputs)
    assert own_stream(free, free[:2], inputs) == "drew 6 instead of 12"
