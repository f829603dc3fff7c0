"""Inputs: of the kind they say, and the same for the same seed."""

import pytest
import torch

from fastkd.bench import CASES
from fastkd.bench.case import at
from fastkd.bench.inputs import history, nbytes, tables
from fastkd.core import Interactions


@pytest.mark.parametrize("table", ["random", "trained", "sorted", "equal"])
def test_tables_are_of_their_kind(table):
    users, items = tables(at(B=50, N=4000, D=16, table=table), 0, "cpu")
    assert users.shape == (50, 16)
    assert items.shape == (4000, 16)
    scores = users @ items.T
    assert scores.abs().min() > 0
    lengths = items.norm(dim=1)
    if table == "trained":
        assert lengths.quantile(0.99) / lengths.quantile(0.5) > 2
    if table == "sorted":
        assert torch.corrcoef(torch.stack([scores[0], torch.arange(4000.0)]))[0, 1] > 0.9
    assert (table == "equal") == bool((scores == scores[:, :1]).all())


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.check is not None], ids=lambda c: c.name)
def test_the_same_seed_makes_the_same_inputs_and_another_makes_others(case):
    def tensors(seed):
        made = case.make(case.check, seed, "cpu")
        made |= {
            f"{name} entries": torch.from_numpy(v.indices) for name, v in made.items() if isinstance(v, Interactions)
        }
        made |= {f"{name} array": torch.as_tensor(v) for name, v in made.items() if name == "user_ids"}
        return {name: v.detach() for name, v in made.items() if isinstance(v, torch.Tensor)}

    first, again, other = tensors(0), tensors(0), tensors(1)
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_history_is_valid_and_of_the_degree_asked_for():
    seen = history(7, 100, 9)
    assert (seen.degrees() == 9).all()
    assert all((row[1:] > row[:-1]).all() for row in seen)
    assert history(7, 100, 0).nnz == 0
    assert seen.indices.max() < 100


def test_bytes_are_counted_over_tensors_alone():
    assert nbytes({"a": torch.zeros(3, 5), "b": torch.zeros(2, dtype=torch.int64), "k": 7}) == 76
