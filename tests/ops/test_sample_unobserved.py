from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import Interactions
from fastkd.ops import sample_unobserved
from fastkd.sampling import NegativeSampler
from tests.contracts.backends import device_of


def world(rows, num_items, share, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def sampled(interactions, users, n, lists, replacement):
    sampler = NegativeSampler(interactions, seed=3)
    return sampler.sample(users, n, epoch=2, exclude_lists=lists, replacement=replacement, on_exhausted="pad")


@settings(deadline=None, max_examples=40)
@given(
    num_items=st.integers(1, 60), share=st.sampled_from([0.0, 0.3, 0.7, 0.95]), n=st.integers(0, 40),
    width=st.integers(-1, 6), replacement=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_draws_are_the_samplers(num_items, share, n, width, replacement, seed):
    seen, random = world(4, num_items, share, seed), np.random.default_rng(seed)
    users = torch.tensor([3, 0, 2, 1, 0])
    lists = None if width < 0 else torch.tensor(random.integers(-1, num_items, (5, width)))
    expected = sampled(seen, users, n, lists, replacement)
    for backend in ("reference", "numba"):
        found = sample_unobserved(
            seen, users, n, exclude_lists=lists, replacement=replacement, seed=3, epoch=2, backend=backend
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("with_lists", [False, True])
@pytest.mark.parametrize(("num_items", "share"), [(9, 0.3), (70, 0.0), (60, 0.3), (20, 0.7)])
def test_triton_draws_the_same(num_items, share, with_lists, replacement):
    seen, users, device = world(3, num_items, share), torch.tensor([2, 0]), device_of("triton")
    lists = torch.tensor(np.random.default_rng(1).integers(-1, num_items, (2, 5))) if with_lists else None
    expected = sampled(seen, users, 7, lists, replacement)
    found = sample_unobserved(
        seen, users.to(device), 7, exclude_lists=None if lists is None else lists.to(device),
        replacement=replacement, seed=3, epoch=2, backend="triton",
    )  # fmt: skip
    assert torch.equal(found.cpu(), expected)


def test_a_draw_does_not_depend_on_the_batch_or_on_n():
    seen = world(20, 300, 0.1)
    whole = sample_unobserved(seen, torch.arange(20), 9, replacement=False, seed=0, epoch=1)
    part = sample_unobserved(seen, torch.tensor([17, 3]), 4, replacement=False, seed=0, epoch=1)
    assert torch.equal(part, whole[[17, 3], :4])
    assert not torch.equal(sample_unobserved(seen, torch.arange(20), 9, replacement=False, seed=0, epoch=2), whole)


def test_opcheck_and_compile():
    seen = world(6, 40, 0.2)

    def draw(users):
        return sample_unobserved(seen, users, 5, seed=1, epoch=2)

    seen.to_torch()  # as any call does that is not compiled
    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for rows in (4, 6):
        assert torch.equal(compiled(torch.arange(rows)), draw(torch.arange(rows)))
    with pytest.raises(ValueError, match=r"users holds 9, outside \[0, 6\)"):
        compiled(torch.tensor([0, 1, 9, 2]))
    arguments = (
        torch.arange(4),
        5,
        *seen.to_torch(),
        40,
        torch.tensor([[1], [2], [-1], [3]]),
        False,
        1,
        2,
        True,
        "numba",
    )
    torch.library.opcheck(torch.ops.fastkd.sample_unobserved.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": torch.tensor([0, 9])}, r"users holds 9, outside \[0, 6\)"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"exclude_lists": torch.tensor([[1]])}, "same number of rows"),
        ({"exclude_lists": torch.tensor([[1], [40]])}, r"exclude_lists holds 40, outside \[0, 40\)"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": torch.arange(2), "n": 3, "seed": 0, "epoch": 0, **change}
    with pytest.raises(ValueError, match=message):
        sample_unobserved(world(6, 40, 0.2), arguments.pop("users"), arguments.pop("n"), **arguments)
