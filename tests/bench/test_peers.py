"""Plain torch beside each op: every way of it computes the same, whichever is the quickest."""

import pytest
import torch

from fastkd.bench import CASES
from fastkd.bench.cases import _updates
from fastkd.bench.peers import peer_named
from fastkd.bench.same import same_scores

NAMES = (
    "score_topk_chunked", "sample_positions", "expert_mixture", "expert_choice", "hyper_projection", "linear",
    "dropout", "gumbel", "topology_distance", "prototype_distance", "graph_filter", "row_gradient", "row_sgd",
    "row_adagrad", "row_adam",
)  # fmt: skip
WAYS = [(name, label) for name in NAMES for label in peer_named("torch").variants(name, "cpu")]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(("name", "label"), WAYS)
def test_a_way_of_torch_computes_the_same(name, label):
    case = CASES[name]
    inputs = case.make(case.check, 0, "cpu")
    theirs = peer_named("torch").variants(name, "cpu")[label](case.check, inputs)
    assert case.same(case.call(inputs, "auto"), theirs(), inputs) is None


@pytest.mark.parametrize("name", ["row_sgd", "row_adagrad", "row_adam"])
def test_a_wrong_optimiser_is_told_from_a_right_one_though_ours_has_gone_on(name):
    case = CASES[name]
    inputs = case.make(case.check, 0, "cpu")
    for _ in range(3):
        ours = case.call(inputs, "auto")
    once = case.call(case.make(case.check, 0, "cpu"), "reference")
    assert case.same(ours, once, inputs) is None
    assert "differs" in case.same(ours, ours, inputs)
    assert "differs" in case.same(ours, torch.lerp(inputs["table"], once, 1.01), inputs)


def test_steps_read_other_rows_each_turn():
    case = CASES["row_sgd"]
    inputs = case.make(case.check, 0, "cpu")
    before = inputs["table"].clone()
    for turn in range(_updates.LISTS):
        after = case.call(inputs, "auto")
        changed = (after != before).any(1).nonzero()[:, 0]
        assert torch.equal(changed, _updates.rows_of(inputs, turn))
        before = after.clone()


def test_a_ranking_by_scores_may_swap_ties_and_nothing_else():
    scores = {"scores": torch.tensor([[3.0, 1.0, 3.0, 2.0]])}
    ours = torch.tensor([[0, 2, 3]])
    assert same_scores(ours, torch.tensor([[2, 0, 3]]), scores) is None
    assert same_scores(ours, torch.tensor([[0, 3, 2]]), scores) == "ranks other items"
    assert same_scores(ours, torch.tensor([[0, 0, 3]]), scores) == "returned an item twice"
    assert same_scores(ours, torch.tensor([[0, 2, 4]]), scores) == "returned ids outside the catalogue"
    assert same_scores(ours, ours[:, :2], scores) == "returned (1, 2) instead of (1, 3) ids"


def test_the_work_of_a_row_update_is_that_of_the_rows():
    for name, moved in (("row_sgd", 3), ("row_adagrad", 5), ("row_adam", 7)):
        case = CASES[name]
        work = case.work(case.check.sized({"N": 10**9, "R": 10, "D": 16}))
        assert work.units == 10
        assert work.bytes == 10 * (moved * 16 * 4 + (16 if name == "row_adam" else 8))
